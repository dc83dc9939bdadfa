"""Ising model for every class on the embedded 8x8 handwritten digits, fitted by L-BFGS.

  python launch/train.py --config=configs/ising_digits.py --workdir=runs/ising_digits

Seconds on 2 cores: >= 84%; discriminative: >= 93%.
smoke: seconds.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "discriminative", "published"."""
  config = base.fitted(
    "ising",
    "digits",
    training="pseudo_likelihood",
    at=0.5,
    l2=(1.0, 10.0, 100.0),  # candidates of the penalty of couplings
    unary_l2=1.0,
    max_iterations=200,
    num_sweeps=200,  # of Gibbs sampling, for samples
  )
  variants = {"discriminative": discriminative, "published": published}
  return base.variant(config, arg, variants)


def discriminative(config: ConfigDict) -> None:
  """A free bias in the place of log Z_y, and the cross-entropy."""
  changes = {"training": "discriminative", "l2": (10.0, 100.0), "max_iterations": 50}
  config.update({"model": changes})


def published(config: ConfigDict) -> None:
  """A score without products of pixels, on the first 600 images."""
  config.update({"model": {"training": "linear_batch_normalised", "max_iterations": 1100}})
