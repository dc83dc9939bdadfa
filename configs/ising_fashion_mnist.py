"""Ising model for every class on Fashion-MNIST, fitted by L-BFGS.

  python launch/train.py --config=configs/ising_fashion_mnist.py --workdir=runs/ising_fashion_mnist

The protocol of MNIST, seconds to minutes on 2 cores; accuracy is reported, none is published.
smoke: seconds.
"""

from ml_collections import ConfigDict

from configs.ising_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "discriminative", "published"."""
  return build("fashion_mnist", arg)
