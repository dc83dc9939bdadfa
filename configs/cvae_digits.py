"""Conditional VAE on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/cvae_digits.py \\
    --workdir=runs/cvae_digits

full and cpu: test accuracy 90.9% (seed 0), a minute at most on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.cvae("digits")
  base.digits(config, num_epochs=60)
  return base.variant(config, arg, {"cpu": base.full})
