"""Where a detector draws the line: thresholds of a statistic whose larger values are accepted.

  mean_std  μ − ασ of the fitting values (Li et al. 2019 fit α by bisection: in effect a quantile)
  quantile  the exact empirical quantile for a wanted false-positive rate
  fixed     a number of bits per dimension, of the marginal alone (Fetaya et al. 2020)

References:
  Li et al. 2019, arXiv:1802.06552; Fetaya et al. 2020, arXiv:1906.01171.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gencls.names import unknown_name

RULES = {"mean_std": "alpha", "quantile": "false_positive_rate", "fixed": "bits_per_dim"}


class Rule(NamedTuple):
  """A rule and its number; the numbers of the other rules are not used."""

  name: str  # one of RULES
  false_positive_rate: float = 0.05  # of the fitting images, at most
  alpha: float = 1.5  # standard deviations
  bits_per_dim: float | None = None  # the largest that is accepted


def check(rule: Rule) -> None:
  """Raises ValueError for a rule that does not exist or whose number is out of range."""
  if rule.name not in RULES:
    raise ValueError(unknown_name("threshold", rule.name, RULES))
  value = getattr(rule, RULES[rule.name])
  if value is None or not math.isfinite(value):
    raise ValueError(f"threshold={rule.name!r} needs a finite {RULES[rule.name]}, got {value}")
  if rule.name == "quantile" and not 0 <= value < 1:
    raise ValueError(f"false_positive_rate must be >= 0 and < 1 (0.05 is 5%), got {value}")


def threshold(rule: Rule, values: np.ndarray, *, dims: int, num_levels: int) -> float:
  """The smallest value that is accepted.

  Args:
    rule: see the module.
    values: [N] of the fitting images, finite.
    dims: D, pixels times channels of an image; only "fixed" needs it.
    num_levels: grey levels of the images; only "fixed" needs it.

  Returns:
    The threshold t: a value v is accepted where v >= t. With "quantile" at most
    floor(false_positive_rate · N) of the values are smaller, and it is the largest such t.

  Raises:
    ValueError: if there is nothing to fit to, a value is not finite or the rule does not fit.
  """
  check(rule)
  if rule.name == "fixed":
    return density_of_bits(rule.bits_per_dim, dims, num_levels)
  if len(values) == 0 or not np.all(np.isfinite(values)):
    raise ValueError(
      f"a threshold needs at least one value and finite ones, got {len(values)} of which "
      f"{np.sum(~np.isfinite(values))} are not finite"
    )
  if rule.name == "mean_std":
    values = np.asarray(values, np.float64)
    return float(np.mean(values) - rule.alpha * np.std(values))
  # As it is written: in floating point 0.29 · 100 is less than 29.
  allowed = math.floor(Fraction(str(rule.false_positive_rate)) * len(values))
  return float(np.partition(values, allowed)[allowed])


def density_of_bits(bits_per_dim: float | None, dims: int, num_levels: int) -> float:
  """log p(x) in nats of an image of that many bits per dimension, as `bits_per_dimension` has it.

  The detector sees the image as it is, without noise of dequantisation.
  """
  assert bits_per_dim is not None, "`check` comes first"
  return dims * (math.log(num_levels) - bits_per_dim * math.log(2))
