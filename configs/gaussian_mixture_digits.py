"""A Gaussian mixture per class on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/gaussian_mixture_digits.py \\
    --workdir=runs/gaussian_mixture_digits

Test accuracy >= 95%, seconds on 2 cores: 10 spherical components. factors: 3 factor analysers of 8
factors, >= 96%. grid: all covariances, 1 to 10 components. smoke: two components.
"""

from ml_collections import ConfigDict

from configs import base
from configs.gaussian_mixture_mnist import mixture


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "factors", "grid", "smoke"."""
  config = mixture("digits", num_components=10)
  return base.variant(config, arg, {"cpu": base.full, "factors": factors, "grid": grid})


def factors(config: ConfigDict) -> None:
  """A few components with full covariances of low rank."""
  model = {"covariance": "factor_analyser", "num_components": 3, "reg_covar": 1e-3}
  config.update({"model": model})


def grid(config: ConfigDict) -> None:
  """Validation decides."""
  model = {
    "covariance": ("spherical", "diagonal", "factor_analyser", "full"),
    "num_components": (1, 3, 10),
    "reg_covar": (1e-3, 1e-2),
  }
  with config.ignore_type():  # tuples in place of one value
    config.update({"model": model})
