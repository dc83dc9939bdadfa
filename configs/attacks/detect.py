"""Attacks on the classifier, and on the classifier and its detector at once.

  python launch/evaluate.py --config=configs/attacks/detect.py:cpu --workdir=runs/gfz_mnist

The detector rejects the 5% of the validation images that are least likely; what counts is the share
of images that end misclassified and accepted. `--config.detector.name` is marginal, joint, kl, tv
or typicality; give another detector's evaluation its own `--config.name`. As published
(arXiv:1802.06552): joint, kl with per_class=True, classes=label, fitted_on=train; marginal with
fitted_on=train. Carlini and Wagner's second term is max(0, t − log p(x)) (arXiv:1705.07263,
arXiv:1906.01171); the boundary attack takes rejection as one more class, in which there is no
success, and starts at accepted images of other classes. Known seed. FGSM, PGD and MIM maximise the
margin; APGD does cross-entropy, the margin and the difference to other classes in turn, each on
what the one before left standing, for none is the strongest on every model. cpu: the first 200 test
images, 1,000 validation images, APGD 50 steps towards 3 classes (100 towards 9), C&W 4 × 200 steps,
boundary 3,000; full: all of them.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.1, 0.2, 0.3)
L2 = (0.5, 1.0, 1.5, 2.0, 3.0)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  short = arg in ("cpu", "smoke")
  steps: dict[str, Any] = {"num_steps": 40, "rel_step_size": 0.1}
  apgd: dict[str, Any] = {
    "version": "apgd",
    "num_classes": 10,
    "num_steps": 50 if short else 100,
    "num_targets": 3 if short else 9,
  }
  search: dict[str, Any] = (
    {"binary_search_steps": 4, "num_steps": 200, "initial_const": 1.0, "step_size": 0.05}
    if short
    else {"binary_search_steps": 9, "num_steps": 1000, "initial_const": 1e-3, "step_size": 0.01}
  )
  attacks = {}
  for against, suffix in ((None, ""), ("detector", "_detector")):
    attacks |= {
      f"fgsm{suffix}": base.attack("fgsm", EPS, against=against),
      f"pgd{suffix}": base.attack("pgd", EPS, random_start=True, against=against, **steps),
      f"mim{suffix}": base.attack("mim", EPS, num_steps=40, decay=1.0, against=against),
      f"apgd{suffix}": base.attack("auto_attack", EPS, against=against, **apgd),
      f"carlini_wagner{suffix}": base.attack(
        "carlini_wagner", L2, norm="l2", abort_early=True, against=against, **search
      ),
      f"boundary{suffix}": base.attack(
        "boundary", L2, norm="l2", num_steps=3000 if short else 25000, against=against
      ),
    }
  config = base.get_config("detect", attacks, arg=arg, detector="marginal")
  if short:
    config.update({"detector": {"num_images": 1000}})
  return config
