"""Standard AutoAttack (Croce and Hein 2020, arXiv:2003.01690) in the linf and the l2 ball.

  python launch/evaluate.py --config=configs/attacks/auto_attack.py:cpu --workdir=runs/gfz_mnist

APGD-CE, APGD-T, FAB-T and Square, each on what the members before it left standing; beside it PGD
on the margin, since cross-entropy saturates for generative models. For 10 classes; a model of
others needs --config.attacks.auto_attack_linf.num_classes=... Known seed: the standard version is
for a deterministic function. cpu: the first 100 test images; full: all of them, for an accelerator.
"""

from ml_collections import ConfigDict

from configs.attacks import base

LINF = (0.1, 0.2, 0.3)
L2 = (1.0, 2.0, 3.0)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  standard = {
    "version": "standard",
    "num_classes": 10,
    "num_steps": 100,
    "num_queries": 5000,
    "num_targets": 9,
  }
  pgd = {"num_steps": 100, "rel_step_size": 0.05, "random_start": True}
  attacks = {
    "auto_attack_linf": base.attack("auto_attack", LINF, **standard),
    "pgd_linf": base.attack("pgd", LINF, **pgd),
    "auto_attack_l2": base.attack("auto_attack", L2, norm="l2", **standard),
    "pgd_l2": base.attack("pgd", L2, norm="l2", **pgd),
  }
  config = base.get_config("auto_attack", attacks, arg=arg)
  if arg == "cpu":
    config.num_images = 100
  return config
