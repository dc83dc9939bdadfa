"""Logistic regression by L-BFGS on the embedded 8x8 handwritten digits.

  python launch/train.py --config=configs/logistic_regression_digits.py \\
    --workdir=runs/logistic_regression_digits

Test accuracy >= 94%, seconds on 2 cores. smoke: three iterations.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.fitted(
    "logistic_regression",
    "digits",
    l2=1.0,  # for the whole training set; 1 / C of scikit-learn
    tol=1e-4,
    max_iterations=1000,
  )
  return base.variant(config, arg, {"cpu": base.full, "smoke": smoke})


def smoke(config: ConfigDict) -> None:
  """Seconds, to see that everything runs."""
  base.smoke(config)
  config.update({"model": {"max_iterations": 3}})
