"""Fast gradient sign over its eps grid and DeepFool with its average robustness rho.

  python launch/evaluate.py --config=configs/attacks/ens.py:cpu --workdir=runs/gfz_fashion_mnist
  python launch/report.py --name=ens --workdirs=runs/gfz_fashion_mnist,runs/dfz_fashion_mnist \
    --out=docs

rho = mean ‖η‖₂ / ‖x‖₂ (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599); with failures it is
infinite, so the median and the share of successes stand beside it. Known seed. cpu: the first 200
test images; full: all of them. `ens_fgsm` is its first attack alone.
"""

from ml_collections import ConfigDict

from configs.attacks import base
from configs.attacks.ens_fgsm import EPS

L2 = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  deepfool = {"num_steps": 50, "overshoot": 0.02, "num_candidates": 10}
  attacks = {
    "fgsm": base.attack("fgsm", EPS, loss="cross_entropy"),
    "deepfool_l2": base.attack("deepfool", L2, norm="l2", **deepfool),
    "deepfool_linf": base.attack("deepfool", EPS, **deepfool),
  }
  return base.get_config("ens", attacks, arg=arg)
