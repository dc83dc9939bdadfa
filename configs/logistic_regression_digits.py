"""Logistic regression by L-BFGS on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/logistic_regression_digits.py \\
    --workdir=runs/logistic_regression_digits

Test accuracy >= 94%, seconds on 2 cores. smoke, published: as on MNIST.
"""

from ml_collections import ConfigDict

from configs.logistic_regression_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "published"."""
  return build("digits", arg)
