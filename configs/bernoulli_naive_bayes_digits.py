"""Bernoulli naive Bayes of the thresholded image on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/bernoulli_naive_bayes_digits.py \\
    --workdir=runs/bernoulli_naive_bayes_digits

Test accuracy >= 80%. Seconds on 2 cores, in one pass over the images. smoke: the same.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.fitted("bernoulli_naive_bayes", "digits", pseudo_count=1.0)
  return base.variant(config, arg, {"cpu": base.full})
