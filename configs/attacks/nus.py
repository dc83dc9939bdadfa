"""Ten attacks under the protocol of a published zoo of generative MNIST classifiers (Foolbox 3.3).

  python launch/evaluate.py --config=configs/attacks/nus.py:cpu --workdir=runs/gfz_mnist

As published: the first 1000 test images, one run, cross-entropy, PGD to its last iterate, noise of
one draw. Minimisation attacks run once; their result (of Carlini and Wagner a black image where
nothing is found, as in Foolbox) is clipped to each eps and classified again, and beside it stands
the curve of the distances ("(distance)"). "accuracy_of_result" in table.json is the published
number, 1 − mean(is adversarial); the worst case counts clean errors too.
Unlike the original, models give logits instead of probabilities (a softmax on top of them hides
gradients) and randomised models keep their keys. cpu: 200 images, C&W 9 × 1000 steps instead of
9 × 10000 (days on a CPU); smoke: 16, C&W once.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.attacks import base

LINF = (0.1, 0.2, 0.3, 0.4, 0.5)
L2 = (1.0, 2.0, 3.0, 4.0, 5.0)
CARLINI_WAGNER = (0.1, 1.0, 10.0, 100.0, 1000.0)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  last: dict[str, Any] = {
    "loss": "cross_entropy",
    "random_start": True,
    "early_stop": False,
    "keep_best": False,
  }
  searches, steps = {"cpu": (9, 1000), "smoke": (1, 1000)}.get(arg, (9, 10000))
  clip: dict[str, Any] = {"grade_as": "clip"}
  one_draw: dict[str, Any] = {"num_repeats": 1, "check_clean": False}
  attacks = {
    "fgm": base.attack("fgm", L2, norm="l2", loss="cross_entropy"),
    "fgsm": base.attack("fgsm", LINF, loss="cross_entropy"),
    "pgd_l2": base.attack("pgd", L2, norm="l2", num_steps=50, rel_step_size=0.025, **last),
    "pgd_linf": base.attack("pgd", LINF, num_steps=40, rel_step_size=1 / 30, **last),
    "carlini_wagner": base.attack(
      "carlini_wagner",
      CARLINI_WAGNER,
      norm="l2",
      step_size=0.01,
      confidence=0.0,
      abort_early=True,
      failed="black",
      binary_search_steps=searches,
      num_steps=steps,
      initial_const=1e-3,
      **clip,
    ),
    "uniform_noise": base.attack("uniform_noise", LINF, rescale=True, by_largest=True, **one_draw),
    "gaussian_noise": base.attack("gaussian_noise", L2, norm="l2", **one_draw),
    "linear_contrast": base.attack("linear_search_contrast", LINF, num_steps=1000, **clip),
    "binary_contrast": base.attack("binary_search_contrast", LINF, binary_search_steps=15, **clip),
    "gaussian_blur": base.attack("gaussian_blur", LINF, num_steps=1000, **clip),
  }
  config = base.get_config("nus", attacks, arg=arg)
  if arg in ("", "full"):
    config.num_images = 1000
  return config
