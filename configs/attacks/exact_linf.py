"""The exact l∞ worst case of models whose logits are sums over pixels: naive Bayes, linear models.

  python launch/evaluate.py --config=configs/attacks/exact_linf.py \\
    --workdir=runs/gaussian_naive_bayes_mnist

What other attacks leave is an upper bound; this is the number itself (`gencls.attacks.separable`),
to float32's rounding, and says how far off they are. Of other models it is one more attack without
gradients, and no bound of anything. Seconds to a minute for each eps. cpu: the same.
"""

from ml_collections import ConfigDict

from configs.attacks import base
from configs.attacks.nus import LINF


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu" (the same), "smoke"."""
  config = base.get_config("exact_linf", {"separable": base.attack("separable", LINF)}, arg=arg)
  if arg != "smoke":
    config.num_images = 1000
  return config
