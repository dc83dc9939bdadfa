"""Ising model for every class on the embedded 8x8 handwritten digits, fitted by L-BFGS.

  python launch/train.py --config=configs/ising_digits.py --workdir=runs/ising_digits

Seconds on 2 cores: >= 84%; discriminative: 94.7%.
smoke: seconds.
"""

from ml_collections import ConfigDict

from configs import base
from configs.ising_mnist import discriminative, published, smoke


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "discriminative", "published"."""
  config = base.fitted(
    "ising",
    "digits",
    training="pseudo_likelihood",
    at=0.5,
    backward="straight_through",  # or "flip": what attacks by gradients follow
    l2=(1.0, 10.0, 100.0),  # candidates of the penalty of couplings
    unary_l2=1.0,
    max_iterations=200,
    num_sweeps=200,  # of Gibbs sampling, for samples
  )
  variants = {"discriminative": discriminative, "published": published, "smoke": smoke}
  return base.variant(config, arg, variants)
