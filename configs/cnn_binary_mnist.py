"""CNN behind a threshold on MNIST.

  python launch/train.py --config=configs/cnn_binary_mnist.py:cpu --workdir=runs/cnn_binary_mnist

full (not run yet): test accuracy >= 98.5% is wanted, on an accelerator.
cpu: test accuracy 99.1% (seed 0), minutes on 2 cores.
smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.cnn("mnist"), arg)
  return composed(config, "cnn_binary", at=0.5)
