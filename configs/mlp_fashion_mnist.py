"""Fully connected network on Fashion-MNIST.

  python launch/train.py --config=configs/mlp_fashion_mnist.py --workdir=runs/mlp_fashion_mnist

full: 20 epochs, minutes on 2 cores; accuracy is reported, none is published. cpu: 10 epochs. smoke:
seconds, chance.
"""

from ml_collections import ConfigDict

from configs.mlp_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return build("fashion_mnist", arg)
