"""CNN behind a threshold on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/cnn_binary_digits.py \\
    --workdir=runs/cnn_binary_digits

full and cpu: test accuracy 95.0% (seed 0), a minute at most on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.cnn("digits")
  base.digits(config)
  config = base.variant(config, arg, {"cpu": base.full})
  return composed(config, "cnn_binary", at=0.5)
