"""Bernoulli naive Bayes of the thresholded image on MNIST.

  python launch/train.py --config=configs/bernoulli_naive_bayes_mnist.py \\
    --workdir=runs/bernoulli_naive_bayes_mnist

Test accuracy >= 84%. Seconds on 2 cores, in one pass over the images. smoke: the same.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.fitted("bernoulli_naive_bayes", "mnist", pseudo_count=1.0)
  return base.variant(config, arg, {"cpu": base.full})
