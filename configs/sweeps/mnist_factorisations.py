"""The seven factorisations of Li et al. 2019 (arXiv:1802.06552) on MNIST × the attack suite.

  python launch/sweep.py --config=configs/sweeps/mnist_factorisations.py --workdir=runs/seven
  python launch/report.py --workdirs=runs/seven --name=deep_bayes --out=runs/seven/report

47 cells. full: the papers' protocol, for accelerators and array jobs (launch/batch/); cpu: the
first 100 or 200 images, for a day or more of a small machine; smoke: a few steps each.
"""

from ml_collections import ConfigDict

from configs.sweeps import base

MODELS = ("gfz", "gfy", "gbz", "gby", "dfx", "dfz", "dbx")
SUITE = ("clean", "fgsm_pgd", "deep_bayes", "auto_attack", "fetaya")
# DFX and DBX have no p(x | ...), so no reconstructions to start from.
WITH_DECODER = ("gfz", "gfy", "gbz", "gby", "dfz")


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  base.check_variant(arg)
  attacks = {name: base.attack(f"configs/attacks/{name}.py", arg) for name in SUITE}
  own = [f"{name}_mnist" for name in WITH_DECODER]
  attacks["generative"] = base.attack("configs/attacks/generative.py", arg, models=own)
  return base.get_config(base.grid(MODELS, ("mnist",), arg), attacks)
