"""`nus_honest.py` for models whose decoder runs for every class of every image, as the CNN-VAEs.

  python launch/evaluate.py --config=configs/attacks/nus_honest_ensemble.py:cpu --workdir=runs/gfz

Each norm and eps has one AutoAttack (APGD on cross-entropy and towards other classes, FAB, Square),
whose members meet only the images that still stand, in the place of one attack after the other on
all of them: which member broke which image first is kept ("broken_by"), and the checks count what
Square breaks that gradients have left; what each finds by itself is not known. Before it come PGD
on the margin, and flips of pixels where the model thresholds its input: what they break is handed
on. There is no Carlini and Wagner, noise, contrast or blur: the worst case is an upper bound by
fewer attacks than that of `nus_honest.py`. Known seed.

cpu: the first 100 images, without FAB, 50 steps, towards the three likeliest other classes, 100
steps of flips towards each of these, 200 queries of Square (of a deep model every image that stands
costs ten seconds a cell), and of what is left then 1,000 steps of flips towards every class; full:
the first 1,000, as AutoAttack is published.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.attacks import base, nus_honest
from configs.attacks.nus import L2, LINF


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  short = arg in ("cpu", "smoke")
  steps, queries, targets = (50, 200, 3) if short else (100, 5000, 9)
  ensemble: dict[str, Any] = {
    "version": "brief" if short else "standard",
    "num_classes": 10,
    "num_steps": steps,
    "num_queries": queries,
    "num_targets": targets,
  }
  flips = {"num_steps": 100, "num_targets": targets} if short else {}
  every = nus_honest.get_config(arg).to_dict()["attacks"]
  attacks = {label: every[label] for label in ("pgd_linf", "pgd_l2", "flips_linf", "flips_l2")}
  for norm, eps in (("linf", LINF), ("l2", L2)):
    before = (f"pgd_{norm}", f"flips_{norm}")
    long = attacks[before[1]]
    attacks[before[1]] = long | {"after": before[:1]} | flips
    attacks[f"auto_attack_{norm}"] = base.attack(
      "auto_attack", eps, norm=norm, after=before, **ensemble
    )
    if short:
      attacks[f"flips_long_{norm}"] = long | {"after": (*before, f"auto_attack_{norm}")}
  config = base.get_config("nus_honest_ensemble", attacks, arg=arg)
  if arg != "smoke":
    config.num_images = 100 if arg == "cpu" else 1000
  return config
