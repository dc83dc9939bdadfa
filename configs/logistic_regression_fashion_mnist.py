"""Logistic regression by L-BFGS on Fashion-MNIST.

  python launch/train.py --config=configs/logistic_regression_fashion_mnist.py \\
    --workdir=runs/logistic_regression_fashion_mnist

Test accuracy is reported, none is published; minutes on 2 cores. smoke, published: as on MNIST.
"""

from ml_collections import ConfigDict

from configs.logistic_regression_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "published"."""
  return build("fashion_mnist", arg)
