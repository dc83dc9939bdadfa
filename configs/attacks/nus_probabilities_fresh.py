"""`nus_probabilities.py` where the model draws anew at every query, as the paper's CNN-VAEs do.

  python launch/evaluate.py --config=configs/attacks/nus_probabilities_fresh.py:cpu \\
    --config.attack_model.detached_target=True --workdir=runs/gfz

Each query of an attack is one new draw, and the mean over 20 draws is what the paper's single one
estimates. It says how much of a published number is the noise of the model: a search for the
smallest contrast that ends at one wrong draw has found little, and so has PGD on the last of 40.
cpu: the first 100 images, three cells.
"""

from ml_collections import ConfigDict

from configs.attacks import base, nus_probabilities

FEW = {"pgd_linf": (0.3,), "pgd_l2": (2.0,), "linear_contrast": (0.3,)}  # of the cpu variant


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  attacks = nus_probabilities.get_config(arg).to_dict()["attacks"]
  if arg == "cpu":
    attacks = {label: attacks[label] | {"eps": eps} for label, eps in FEW.items()}
    attacks["linear_contrast"]["num_steps"] = 100
  config = base.get_config("nus_probabilities_fresh", attacks, fresh=True, arg=arg)
  if arg != "smoke":
    config.num_images = 100 if arg == "cpu" else 1000
  return config
