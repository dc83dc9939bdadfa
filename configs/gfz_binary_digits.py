"""GFZ of binary images on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/gfz_binary_digits.py \\
    --workdir=runs/gfz_binary_digits

full and cpu: test accuracy 95.8% (seed 0), a minute at most on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.deep_latent("gfz", "digits")
  base.digits(config, num_epochs=120, learning_rate=2e-3)
  config = base.variant(config, arg, {"cpu": base.full})
  return composed(config, "gfz_binary", at=0.5)
