"""CVAE on MNIST.

  python launch/train.py --config=configs/cvae_mnist.py:cpu --workdir=runs/cvae_mnist

full and cpu: test accuracy >= 88.4% under the nearest-reconstruction rule, at most 15 minutes on
2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.cvae("mnist"), arg)
