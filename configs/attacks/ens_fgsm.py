"""FGSM success rate against eps from 0.01 to 0.3, for Fashion-MNIST.

  python launch/evaluate.py --config=configs/attacks/ens_fgsm.py:cpu --workdir=runs/gfz_fashion
  python launch/report.py --name=ens_fgsm --workdirs=runs/gfz_fashion,runs/dfx_fashion --out=docs

Known seed, cross-entropy as published. cpu: the first 200 test images; full: all of them.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  attacks = {"fgsm": base.attack("fgsm", EPS, loss="cross_entropy")}
  return base.get_config("ens_fgsm", attacks, arg=arg)
