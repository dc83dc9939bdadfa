"""GFZ of binary images with a Bernoulli likelihood on MNIST.

  python launch/train.py --config=configs/gfz_binary_mnist.py:cpu --workdir=runs/gfz_binary_mnist

full (not run yet): test accuracy >= 98.0% is wanted, on an accelerator.
cpu: test accuracy 97.6% (seed 0), minutes on 2 cores.
smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.deep_latent("gfz", "mnist"), arg)
  return composed(config, "gfz_binary", at=0.5)
