r"""CNN behind a threshold on Fashion-MNIST.

  python launch/train.py --config=configs/cnn_binary_fashion_mnist.py:cpu \
    --workdir=runs/cnn_binary_fashion_mnist

full: the protocol of MNIST, on an accelerator; accuracy is reported, none is published.
cpu: at most 15 minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.cnn("fashion_mnist"), arg)
  return composed(config, "cnn_binary", at=0.5)
