"""DFX on Fashion-MNIST.

  python launch/train.py --config=configs/dfx_fashion_mnist.py:cpu --workdir=runs/dfx_fashion_mnist

full: the protocol of MNIST, on an accelerator; accuracy is reported, none is published.
cpu: at most 15 minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.deep_latent("dfx", "fashion_mnist"), arg)
