"""Fully connected network on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/mlp_digits.py --workdir=runs/mlp_digits

full and cpu: test accuracy >= 96%, seconds on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  model = {"name": "mlp", "hidden_sizes": (128, 128), "dropout_rate": 0.0}
  config = base.get_config("digits", model)
  base.digits(config)
  return base.variant(config, arg, {"cpu": base.full})
