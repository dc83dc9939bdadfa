"""The table of Li et al. 2019 (arXiv:1802.06552): FGSM, PGD and MIM, and what their detector finds.

  python launch/evaluate.py --config=configs/attacks/deep_bayes_table.py:cpu --workdir=runs/gfz
  python launch/report.py --workdirs=runs/gfz,… --name=deep_bayes_table \\
    --published=docs/published/deep_bayes_mnist.json --out=docs/results/mnist

As published: cross-entropy of the K-merged logits, fresh noise at every step, 40 steps of 0.01,
the last iterate; a threshold on log p(x, y) for each class, fitted to the training images by their
true labels, 5% of which it rejects. Unlike the paper's one draw, grading is the mean over 20. DFX
and DBX have no log p(x, y): --config.detector.name=kl, or an empty name for none. This protocol is
what was published, not what holds: for the worst that can be done see `detect.py`.
cpu: the first 100 test images, detectors fitted to 1,000 training images.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.1, 0.2, 0.3)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  steps = {"num_steps": 40, "step_size": 0.01, "early_stop": False, "keep_best": False}
  attacks = {
    "fgsm": base.attack("fgsm", EPS, loss="cross_entropy"),
    "pgd": base.attack("pgd", EPS, loss="cross_entropy", random_start=True, **steps),
    "mim": base.attack("mim", EPS, loss="cross_entropy", decay=1.0, **steps),
  }
  config = base.get_config("deep_bayes_table", attacks, fresh=True, arg=arg, detector="joint")
  config.update({"detector": {"per_class": True, "classes": "label", "fitted_on": "train"}})
  if arg in ("cpu", "smoke"):
    config.update({"detector": {"num_images": 1000}})
  if arg == "cpu":
    config.update({"num_images": 100})
  return config
