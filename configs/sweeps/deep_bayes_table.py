"""The seven factorisations of Li et al. 2019 (arXiv:1802.06552) under attack and detection.

  python launch/sweep.py --config=configs/sweeps/deep_bayes_table.py:cpu --workdir=runs/table
  python launch/report.py --workdirs=runs/table/runs/gfz_mnist-seed0,… --name=deep_bayes_table \\
    --honest=detect --published=docs/published/deep_bayes_mnist.json --out=docs/results/mnist

MNIST and Fashion-MNIST; 56 cells: 14 trainings and three evaluations of each. Beside the clean
numbers each model is evaluated as published (configs/attacks/deep_bayes_table.py), and as hard as
it can be, under a known seed and by attacks that see the detector (FGSM, PGD, MIM and APGD of
configs/attacks/detect.py). DFX and DBX have no log p(x, y) to threshold: their detector is the
divergence from the mean posterior.
full: the protocol of the paper, for accelerators, and the attacks of Carlini and Wagner and along
the boundary against the detector; cpu: the first 100 test images without these two, an hour for
each model with p(x | …); smoke: a few steps each.
"""

from ml_collections import ConfigDict

from configs.sweeps import base

DATA = ("mnist", "fashion_mnist")
GENERATIVE, DISCRIMINATIVE = ("gfz", "gfy", "gbz", "gby", "dfz"), ("dfx", "dbx")
LINF_ONLY = ("attacks.carlini_wagner.eps=()", "attacks.carlini_wagner_detector.eps=()",
             "attacks.boundary.eps=()", "attacks.boundary_detector.eps=()")  # fmt: skip


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  base.check_variant(arg)
  short = (*LINF_ONLY, "num_images=100") if arg == "cpu" else ()
  settings = {"deep_bayes_table": (), "detect": short}
  attacks = {}
  for suffix, names, own in (
    ("", GENERATIVE, ()),
    ("_kl", DISCRIMINATIVE, ("detector.name=kl",)),
  ):
    models = [f"{name}_{each}" for each in DATA for name in names]
    for name, changed in settings.items():
      config = f"configs/attacks/{name}.py"
      attacks[name + suffix] = base.attack(config, arg, *changed, *own, models=models, name=name)
  attacks = {"clean": base.attack("configs/attacks/clean.py", arg), **attacks}
  return base.get_config(base.grid((*GENERATIVE, *DISCRIMINATIVE), DATA, arg), attacks)
