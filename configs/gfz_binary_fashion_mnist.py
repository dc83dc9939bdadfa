r"""GFZ of binary images with a Bernoulli likelihood on Fashion-MNIST.

  python launch/train.py --config=configs/gfz_binary_fashion_mnist.py:cpu \
    --workdir=runs/gfz_binary_fashion_mnist

full: the protocol of MNIST, on an accelerator; accuracy is reported, none is published.
cpu: at most 15 minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.deep_latent("gfz", "fashion_mnist"), arg)
  return composed(config, "gfz_binary", at=0.5)
