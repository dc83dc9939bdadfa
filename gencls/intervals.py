"""95% confidence intervals over images: Wilson's score, with an effective count for mean draws."""

import math
from typing import NamedTuple

import numpy as np

_Z95 = 1.959963984540054  # the 97.5% quantile of the standard normal


class Interval(NamedTuple):
  """An estimated share with its 95% interval; all three in [0, 1]."""

  mean: float
  low: float
  high: float
  n: int  # images
  method: str


def wilson(mean: float, n: float) -> tuple[float, float]:
  """Wilson's 95% score interval of a share.

  Args:
    mean: observed share in [0, 1].
    n: number of independent trials, > 0; need not be whole.

  Returns:
    (low, high) in [0, 1].

  Raises:
    ValueError: if `n` is not positive or `mean` is not in [0, 1].

  References:
    Wilson 1927, JASA 22(158).
  """
  if not n > 0:
    raise ValueError(f"an interval needs at least one trial, got n={n}")
  if not 0.0 <= mean <= 1.0:
    raise ValueError(f"a share must be in [0, 1], got {mean}")
  z2 = _Z95**2 / n
  centre = (mean + z2 / 2) / (1 + z2)
  half = _Z95 * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n)) / (1 + z2)
  # At shares of 0 and 1 the end is the share itself; rounding must not put it inside.
  low = 0.0 if mean == 0.0 else max(0.0, centre - half)
  high = 1.0 if mean == 1.0 else min(1.0, centre + half)
  return low, high


def share_interval(values: np.ndarray, draws: int = 1) -> Interval:
  """The mean over images of correct shares, with a 95% interval over images.

  One draw: Wilson's interval over n images. Several draws: the mean of m draws per image varies
  less than one draw, so n becomes n·p(1 − p)/s² with s² the variance between images, never below n
  nor above n·m (one image's draws carry at least one and at most m independent trials). Unlike a
  bootstrap or t interval this stays honest where every image has the same value. However many draws
  there are, n images cannot show that no image is different: the interval reaches at least as far
  as that of n images that are all wrong, and all right.

  Args:
    values: [N] correct share of each image in [0, 1].
    draws: number of draws m behind each value, >= 1.

  Returns:
    An `Interval`.

  Raises:
    ValueError: if `values` is empty or not within [0, 1], or `draws` < 1.

  References:
    Dean and Pagano 2015, Survey Research Methods 9(3) (Wilson with an effective sample size).
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or values.size == 0:
    raise ValueError(f"values must be [N] with N >= 1, got shape {values.shape}")
  if not np.all((values >= 0) & (values <= 1)):
    raise ValueError(f"values must be shares in [0, 1], got {values.min()} to {values.max()}")
  if draws < 1:
    raise ValueError(f"draws must be >= 1, got {draws}")
  n, mean = values.size, float(np.mean(values))
  mean = min(max(mean, 0.0), 1.0)
  if draws == 1:
    return Interval(mean, *wilson(mean, n), n, "Wilson over images")
  binomial, between = mean * (1 - mean), float(np.var(values, ddof=1)) if n > 1 else 0.0
  if binomial == 0.0 or n == 1:
    effect = 1.0
  else:
    effect = draws if between * draws <= binomial else max(1.0, binomial / between)
  low, high = wilson(mean, n * effect)
  low, high = min(low, wilson(1.0, n)[0]), max(high, wilson(0.0, n)[1])
  return Interval(mean, low, high, n, "Wilson over images, effective n")
