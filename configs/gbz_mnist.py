"""GBZ on MNIST.

  python launch/train.py --config=configs/gbz_mnist.py:cpu --workdir=runs/gbz_mnist

full: test accuracy >= 97.0% (K = 10, mean over draws), on an accelerator.
cpu: >= 94% after 12 epochs, about 12 minutes on 2 cores.
smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.deep_latent("gbz", "mnist"), arg)
