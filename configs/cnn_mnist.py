"""CNN on MNIST.

  python launch/train.py --config=configs/cnn_mnist.py:cpu --workdir=runs/cnn_mnist

full: test accuracy >= 99.0%, on an accelerator. cpu: >= 98.5%, at most 15 minutes on 2 cores.
smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.cnn("mnist"), arg)
