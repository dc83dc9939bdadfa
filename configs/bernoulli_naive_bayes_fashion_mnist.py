"""Bernoulli naive Bayes of the thresholded image on Fashion-MNIST.

  python launch/train.py --config=configs/bernoulli_naive_bayes_fashion_mnist.py \\
    --workdir=runs/bernoulli_naive_bayes_fashion_mnist

Test accuracy is reported, none is published. Seconds on 2 cores, in one pass over the images.
smoke: the same.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.fitted("bernoulli_naive_bayes", "fashion_mnist", pseudo_count=1.0)
  return base.variant(config, arg, {"cpu": base.full})
