"""DBX on MNIST.

  python launch/train.py --config=configs/dbx_mnist.py:cpu --workdir=runs/dbx_mnist

full: test accuracy >= 98.5% (K = 10, mean over draws), on an accelerator.
cpu: 98.8%, at most 15 minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.deep_latent("dbx", "mnist"), arg)
