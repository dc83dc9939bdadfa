"""Every sanity check with something to compare: Carlini et al. 2019, arXiv:1902.06705.

  python launch/evaluate.py --config=configs/attacks/sanity.py:cpu --workdir=runs/cnn_mnist

One step beside many, PGD and APGD toward every other class, both also with twice the steps and with
five restarts, an attack without gradients, random noise, the gradient held against the loss by
differences, the loss surface around four images, and the worst case graded again under other
numbers of importance samples. Known seed, in linf, or by `l2` and `cpu_l2` in l2. cpu: the first
200 test images, 1,000 queries of Square and 100 draws of noise in place of 5,000 and 1,000; no
APGD, whose 900 to 4,500 steps are for small models or accelerators, and no other K, which 20 draws
of each image make dear (--config.regrade_samples="(10,100)"; 280 TFLOP for GFZ on MNIST). Images
that were made on another model are graded too where it is named, after it has been evaluated in the
same way:

  --config.transfer_from="('runs/gfz_mnist:sanity',)"

Only images that were kept can be transferred and graded again: the first 1,000, so all of cpu and
of small sets. On larger sets give the evaluation that has transfer_from
--config.num_images=1000 --config.name=sanity_1000; without them it stops before its first attack,
and says so. That K changes nothing is told to a point by about 300 images or more: 200 can only
show that it does change something.
"""

import functools

from ml_collections import ConfigDict

from configs.attacks import base

EPS = {"linf": (0.1, 0.2, 0.3, 0.5), "l2": (1.0, 2.0, 3.0, 5.0)}


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"; in l2 "l2", "cpu_l2", "smoke_l2"."""
  norm = "l2" if arg.endswith("l2") else "linf"
  arg = arg.removesuffix("l2").removesuffix("_")
  attack = functools.partial(base.attack, eps=EPS[norm], norm=norm)
  num_queries, num_repeats = (1000, 100) if arg == "cpu" else (5000, 1000)
  pgd = {"rel_step_size": 0.1, "random_start": True}
  attacks = {
    "fgsm": attack("fgsm"),
    "pgd": attack("pgd", num_steps=40, num_restarts=1, **pgd),
    "pgd_80_steps": attack("pgd", num_steps=80, num_restarts=1, **pgd),
    "pgd_5_restarts": attack("pgd", num_steps=40, num_restarts=5, **pgd),
    "square": attack("square", num_steps=num_queries),
    "noise": attack("uniform_noise", num_repeats=num_repeats),
  }
  if arg != "cpu":
    every_class = functools.partial(attack, "apgd", num_targets=9)
    attacks |= {
      "apgd_targeted": every_class(num_steps=100, num_restarts=1),
      "apgd_targeted_200_steps": every_class(num_steps=200, num_restarts=1),
      "apgd_targeted_5_restarts": every_class(num_steps=100, num_restarts=5),
    }
  config = base.get_config(
    "sanity" if norm == "linf" else "sanity_l2",
    attacks,
    arg=arg,
    surface_images=4,
    regrade_samples=() if arg == "cpu" else (10, 100, 1000),
  )
  if arg != "smoke":
    config.keep_images = 1000  # these are graded again, and transferred
  return config
