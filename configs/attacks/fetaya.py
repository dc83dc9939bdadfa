"""C&W and the boundary attack in l2 at the radii of Fetaya et al. 2020 (arXiv:1906.01171).

  python launch/evaluate.py --config=configs/attacks/fetaya.py:cpu --workdir=runs/gfz_mnist

eps 1.5 is their MNIST radius, 33/255 that of CIFAR-10. Known seed: their noise of dequantisation
and padding is part of the example's key. Their tables also ask whether a detector accepts the
image; here success is misclassification. The numbers of steps are ours, theirs are not stated.
cpu: the first 200 test images, C&W 3 × 300 steps, boundary 5000; full: 9 × 1000 and 25000.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (33 / 255, 0.5, 1.0, 1.5, 2.0, 3.0)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  short = arg in ("cpu", "smoke")
  search = (
    {"binary_search_steps": 3, "num_steps": 300, "initial_const": 1.0, "step_size": 0.05}
    if short
    else {"binary_search_steps": 9, "num_steps": 1000, "initial_const": 1e-3, "step_size": 0.01}
  )
  attacks = {
    "carlini_wagner": base.attack(
      "carlini_wagner", EPS, norm="l2", confidence=0.0, abort_early=True, **search
    ),
    "boundary": base.attack("boundary", EPS, norm="l2", num_steps=5000 if short else 25000),
  }
  return base.get_config("fetaya", attacks, arg=arg)
