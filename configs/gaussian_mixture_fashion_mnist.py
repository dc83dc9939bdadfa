"""A Gaussian mixture per class on Fashion-MNIST.

  python launch/train.py --config=configs/gaussian_mixture_fashion_mnist.py \\
    --workdir=runs/gaussian_mixture_fashion_mnist

60 spherical components as published for MNIST, a minute or two on 2 cores; accuracy is reported,
none is published. factors, grid: as on MNIST. smoke: two components.
"""

from ml_collections import ConfigDict

from configs.gaussian_mixture_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "factors", "grid", "smoke"."""
  return build("fashion_mnist", arg)
