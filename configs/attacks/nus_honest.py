"""The zoo of `nus.py` as hard as it can be attacked: the rows that hold, beside the published ones.

  python launch/evaluate.py --config=configs/attacks/nus_honest.py:cpu --workdir=runs/gfz_mnist
  python launch/report.py --workdirs=runs/… --name=nus --honest=nus_honest \\
    --published=docs/published/nus.json --out=docs/results

The attacks of `nus.py` with a gradient keep their labels and maximise the margin of logits in nats,
where cross-entropy of saturated ones fails; they keep their best iterate, PGD restarts. Beside them
APGD on both losses and towards each of the other classes (each has a density of its own, and the
nearest class need not be the one that can be reached), Carlini and Wagner by the distance that they
find, Square, which needs no gradient and is not fooled by one that is masked, and contrast, blur
and 1,000 draws of noise. Known seed: the model is one function, and expectations over its draws are
not needed. Models that threshold their input are attacked through the straight-through estimator,
by flips of single pixels at what each costs (what PGD spends on grey levels that stay on their side
of the threshold is lost), and by Square as they are. The number is the worst case for each image.
cpu: the first 200 images, one restart, 50 steps of APGD, 4 × 200 of Carlini and Wagner, 1,000
queries of Square, 100 draws of noise; full: the first 1,000.

The Ising model has another gradient, what flipping a pixel changes. It gets an evaluation of its
own, --config.attack_model.backward=flip --config.name=nus_honest_flip --config.keep_images=1000,
whose images are then graded with the others: --config.transfer_from="(':nus_honest_flip',)"
"""

from typing import Any

from ml_collections import ConfigDict

from configs.attacks import base
from configs.attacks.nus import L2, LINF


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  short = arg in ("cpu", "smoke")
  num_restarts, apgd_steps = (1, 50) if short else (5, 100)
  num_queries, num_repeats = (1000, 100) if short else (5000, 1000)
  pgd: dict[str, Any] = {"rel_step_size": 0.1, "random_start": True, "num_restarts": num_restarts}
  attacks = {
    "fgm": base.attack("fgm", L2, norm="l2"),
    "fgsm": base.attack("fgsm", LINF),
    "uniform_noise": base.attack("uniform_noise", LINF, num_repeats=num_repeats),
    "gaussian_noise": base.attack("gaussian_noise", L2, norm="l2", num_repeats=num_repeats),
  }
  for norm, eps in (("linf", LINF), ("l2", L2)):
    attacks |= {
      f"pgd_{norm}": base.attack("pgd", eps, norm=norm, num_steps=40, **pgd),
      f"apgd_{norm}": base.attack("apgd", eps, norm=norm, num_steps=apgd_steps),
      f"apgd_dlr_{norm}": base.attack("apgd", eps, norm=norm, num_steps=apgd_steps, loss="dlr"),
      f"apgd_t_{norm}": base.attack("apgd", eps, norm=norm, num_steps=apgd_steps, num_targets=9),
      f"flips_{norm}": base.attack(
        "pixel_flips",
        eps,
        norm=norm,
        num_steps=1000,
        flips_per_step=8,
        num_targets=9,
        models="thresholded",
      ),
      f"square_{norm}": base.attack("square", eps, norm=norm, num_steps=num_queries),
    }
  search: dict[str, Any] = (
    {"binary_search_steps": 4, "num_steps": 200, "initial_const": 1.0, "step_size": 0.05}
    if short
    else {"binary_search_steps": 9, "num_steps": 1000, "initial_const": 1e-3, "step_size": 0.01}
  )
  attacks |= {
    "carlini_wagner": base.attack("carlini_wagner", L2, norm="l2", abort_early=True, **search),
    "linear_contrast": base.attack("linear_search_contrast", LINF, num_steps=1000),
    "gaussian_blur": base.attack("gaussian_blur", LINF, num_steps=1000),
  }
  config = base.get_config("nus_honest", attacks, arg=arg)
  if arg in ("", "full"):
    config.num_images = 1000
  return config
