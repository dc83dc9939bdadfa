"""No attack: clean accuracy as the mean over draws, calibration and likelihood on every test image.

python launch/evaluate.py --config=configs/attacks/clean.py --workdir=runs/gfz_mnist
"""

from ml_collections import ConfigDict

from configs.attacks import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu" (the first 200 images), "smoke"."""
  return base.get_config("clean", {}, arg=arg, probe_gradient=False)  # no attack follows it
