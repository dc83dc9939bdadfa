"""Ising model for every class on the embedded 8x8 handwritten digits, fitted by L-BFGS.

  python launch/train.py --config=configs/ising_digits.py --workdir=runs/ising_digits

Seconds on 2 cores: >= 84%; discriminative: 94.7%.
smoke: seconds.
"""

from ml_collections import ConfigDict

from configs.ising_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "discriminative", "published"."""
  return build("digits", arg, l2=(1.0, 10.0, 100.0))
