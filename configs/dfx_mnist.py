"""DFX on MNIST.

  python launch/train.py --config=configs/dfx_mnist.py:cpu --workdir=runs/dfx_mnist

full: test accuracy >= 98.0% (K = 10, mean over draws), on an accelerator.
cpu: 98.9%, at most 15 minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.deep_latent("dfx", "mnist"), arg)
