"""FGSM and PGD-40 in the linf ball, for MNIST and Fashion-MNIST.

  python launch/evaluate.py --config=configs/attacks/fgsm_pgd.py:cpu --workdir=runs/gfz_mnist

Known seed, margin loss. cpu: the first 200 test images; full: all of them, for an
accelerator, and PGD-100 beside it: more steps should find no more.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.1, 0.2, 0.3, 0.5)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  attacks = {
    "fgsm": base.attack("fgsm", EPS),
    "pgd": base.attack("pgd", EPS, num_steps=40, rel_step_size=0.1, random_start=True),
  }
  if arg in ("", "full"):
    attacks["pgd100"] = base.attack(
      "pgd", EPS, num_steps=100, rel_step_size=0.05, random_start=True
    )
  return base.get_config("fgsm_pgd", attacks, arg=arg)
