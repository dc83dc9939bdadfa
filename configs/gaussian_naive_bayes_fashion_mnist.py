"""Gaussian naive Bayes on Fashion-MNIST.

  python launch/train.py --config=configs/gaussian_naive_bayes_fashion_mnist.py \\
    --workdir=runs/gaussian_naive_bayes_fashion_mnist

Test accuracy is reported, none is published. binarized, published: as on MNIST. Seconds on 2 cores,
in one pass over the images. smoke: the same.
"""

from ml_collections import ConfigDict

from configs.gaussian_naive_bayes_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "binarized", "published"."""
  return build("fashion_mnist", arg)
