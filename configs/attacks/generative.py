"""Attacks made for generative classifiers with a latent, beside the plain PGD, in the linf ball.

  python launch/evaluate.py --config=configs/attacks/generative.py:cpu --workdir=runs/gfz_mnist

Each importance sample with a loss of its own ("WB+S" of Li et al. 2019, arXiv:1802.06552), and a
start at the reconstruction of the strongest wrong class, and the images of the decoder nearest to
x that are wrong. Known seed. cpu: the first 200 test
images; full: all of them, for an accelerator.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.05, 0.1, 0.2)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  pgd = {"num_steps": 40, "rel_step_size": 0.1, "random_start": True}
  attacks = {
    "pgd": base.attack("pgd", EPS, **pgd),
    "per_sample": base.attack("pgd", EPS, per_sample=True, **pgd),
    "per_sample_ce": base.attack("pgd", EPS, loss="cross_entropy", per_sample=True, **pgd),
    "latent_descent": base.attack("latent_descent", EPS),
    "from_wrong_class": base.attack("pgd", EPS, start="wrong_reconstruction", **pgd),
  }
  return base.get_config("generative", attacks, arg=arg)
