"""`nus_honest.py` where the model draws anew at every query, as the paper's CNN-VAEs do.

  python launch/evaluate.py --config=configs/attacks/nus_honest_fresh.py:cpu --workdir=runs/gfz

Every query is the mean over 10 draws (expectation over transformation), no attack stops at its
first success, and what it returns is graded by the mean over 20 draws that it has not seen. The
threat is weaker than a known seed's, where attack and grading share the draw, at ten times its
cost: say which of the two a number is of. Classifiers without draws have the same numbers in both.
cpu: the first 100 images, PGD of 20 steps alone, at one eps of each norm.
"""

from ml_collections import ConfigDict

from configs.attacks import base, nus_honest

EOT_SAMPLES = 10
FEW = {"pgd_linf": (0.2,), "pgd_l2": (2.0,)}  # of the cpu variant


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  whole = nus_honest.get_config(arg)
  attacks = {
    label: attack | {"eot_samples": EOT_SAMPLES}
    for label, attack in whole.to_dict()["attacks"].items()
  }
  if arg == "cpu":
    attacks = {label: attacks[label] | {"eps": eps, "num_steps": 20} for label, eps in FEW.items()}
  config = base.get_config("nus_honest_fresh", attacks, fresh=True, arg=arg)
  if arg != "smoke":
    config.num_images = 100 if arg == "cpu" else 1000
  return config
