"""FGSM and PGD-40 on the embedded digits: the demo.

  python launch/evaluate.py --config=configs/attacks/fgsm_pgd_digits.py --workdir=runs/gfz_digits

cpu: the first 100 test images; full: all 360. Known seed. About half a minute on 2 cores.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.05, 0.1, 0.2, 0.3, 0.5)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  attacks = {
    "fgsm": base.attack("fgsm", EPS),
    "pgd": base.attack("pgd", EPS, num_steps=40, rel_step_size=0.1, random_start=True),
  }
  config = base.get_config("fgsm_pgd", attacks, arg=arg)
  if arg == "cpu":
    config.num_images = 100
  return config
