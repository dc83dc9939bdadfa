"""GFY on MNIST.

  python launch/train.py --config=configs/gfy_mnist.py:cpu --workdir=runs/gfy_mnist

full: test accuracy >= 98.0% (K = 10, mean over draws), on an accelerator.
cpu: 12 epochs, about 15 minutes on 2 cores, not measured yet. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.deep_latent("gfy", "mnist"), arg)
