"""GBY on MNIST.

  python launch/train.py --config=configs/gby_mnist.py:cpu --workdir=runs/gby_mnist

full: test accuracy >= 98.5% (K = 10, mean over draws), on an accelerator.
cpu: 12 epochs, about 15 minutes on 2 cores, not measured yet. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.deep_latent("gby", "mnist"), arg)
