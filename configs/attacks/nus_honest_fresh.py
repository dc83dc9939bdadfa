"""`nus_honest.py` where the model draws anew at every query, as the paper's CNN-VAEs do.

  python launch/evaluate.py --config=configs/attacks/nus_honest_fresh.py:cpu --workdir=runs/gfz

Every query is the mean over 10 draws (expectation over transformation), no attack stops at its
first success, and what it returns is graded by the mean over 20 draws that it has not seen. The
threat is weaker than a known seed's, where attack and grading share the draw, at ten times its
cost: say which of the two a number is of. Classifiers without draws have the same numbers in both.
"""

from ml_collections import ConfigDict

from configs.attacks import nus_honest

EOT_SAMPLES = 10


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  config = nus_honest.get_config(arg)
  fresh = {"threat": "fresh_seed", "select_draws": 5, "grade_draws": 20}
  averaged = {label: {"eot_samples": EOT_SAMPLES} for label in config.to_dict()["attacks"]}
  config.update({"name": "nus_honest_fresh", "attacks": averaged, **fresh})
  return config
