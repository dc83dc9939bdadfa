"""Ising model for every class on Fashion-MNIST, fitted by L-BFGS.

  python launch/train.py --config=configs/ising_fashion_mnist.py --workdir=runs/ising_fashion_mnist

The protocol of MNIST, seconds to minutes on 2 cores; accuracy is reported, none is published.
smoke: seconds.
"""

from ml_collections import ConfigDict

from configs import base
from configs.ising_mnist import discriminative, published, smoke


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "discriminative", "published"."""
  config = base.fitted(
    "ising",
    "fashion_mnist",
    training="pseudo_likelihood",
    at=0.5,
    backward="straight_through",  # or "flip": what attacks by gradients follow
    l2=(100.0, 300.0, 1000.0, 3000.0),  # candidates of the penalty of couplings
    unary_l2=1.0,
    max_iterations=200,
    num_sweeps=200,  # of Gibbs sampling, for samples
  )
  variants = {"discriminative": discriminative, "published": published, "smoke": smoke}
  return base.variant(config, arg, variants)
