r"""CNN behind an Ising denoiser on Fashion-MNIST.

  python launch/train.py --config=configs/cnn_denoised_fashion_mnist.py:cpu \
    --workdir=runs/cnn_denoised_fashion_mnist

full: the protocol of MNIST, on an accelerator; accuracy is reported, none is published.
cpu: at most 15 minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import DENOISER, composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.cnn("fashion_mnist"), arg)
  return composed(config, "cnn_denoised", **DENOISER)
