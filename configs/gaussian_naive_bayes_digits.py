"""Gaussian naive Bayes on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/gaussian_naive_bayes_digits.py \\
    --workdir=runs/gaussian_naive_bayes_digits

Test accuracy >= 80%. binarized, published: as on MNIST. Seconds on 2 cores, in one pass over the
images. smoke: the same.
"""

from ml_collections import ConfigDict

from configs.gaussian_naive_bayes_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "binarized", "published"."""
  return build("digits", arg)
