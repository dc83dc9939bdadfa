"""Ising model for every class on MNIST, fitted by L-BFGS.

  python launch/train.py --config=configs/ising_mnist.py --workdir=runs/ising_mnist

Pseudo-likelihood: test accuracy 87.5%, 10 seconds on 2 cores (>= 82% is wanted).
discriminative: 96.1%, some minutes (>= 88%). published: the linear score normalised over a fixed
batch, 600 images: 83.5% (published: 83.75%, its step chosen on test images).
smoke: seconds.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "discriminative", "published"."""
  return build("mnist", arg)


def build(
  data: str, arg: str, l2: tuple[float, ...] = (100.0, 300.0, 1000.0, 3000.0)
) -> ConfigDict:
  """The config of any data set; `arg` as above, `l2` the penalties of the pseudo-likelihood."""
  config = base.fitted(
    "ising",
    data,
    training="pseudo_likelihood",
    at=0.5,
    backward=placeholder(str),  # what attacks follow: "flip" (None), or "straight_through"
    l2=l2,  # candidates of the penalty of couplings
    unary_l2=1.0,
    max_iterations=200,
    num_sweeps=200,  # of Gibbs sampling, for samples
  )
  variants = {"discriminative": discriminative, "published": published, "smoke": smoke}
  return base.variant(config, arg, variants)


def discriminative(config: ConfigDict) -> None:
  """A free bias in the place of log Z_y, and the cross-entropy."""
  penalties = (1.0, 10.0, 100.0, 1000.0)
  config.update({"model": {"training": "discriminative", "l2": penalties, "max_iterations": 500}})


def published(config: ConfigDict) -> None:
  """A score without products of pixels, on the first 600 images."""
  config.update({"model": {"training": "linear_batch_normalised", "max_iterations": 1100}})


def smoke(config: ConfigDict) -> None:
  """A few iterations for one candidate."""
  base.smoke(config)
  config.update({"model": {"l2": (100.0,), "max_iterations": 3, "num_sweeps": 3}})
