"""95% intervals of the difference of two models' accuracies on the same images."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_Z95 = 1.959963984540054  # the 97.5% quantile of the standard normal
METHOD = "Bonett and Price over image pairs"
UNPAIRED = "Newcombe of two shares"


class Difference(NamedTuple):
  """Accuracy of the first minus that of the second, with a 95% interval; all in [−1, 1]."""

  mean: float
  low: float
  high: float
  n: int  # images
  first_better: int | None  # images at which the first has the larger share of right draws
  second_better: int | None  # None: not known
  method: str = METHOD


def paired_interval(first: np.ndarray, second: np.ndarray) -> Difference:
  """The mean difference of two shares for the same images, with a 95% interval over images.

  With d_i = first_i − second_i the interval is d̃ ± z·s̃/√(n + 2), where d̃ and s̃² are the mean and
  the variance of the n differences and two more, +1 and −1. For one draw, d_i in {−1, 0, 1}, that
  is Bonett and Price's adjusted Wald interval: only images that the models judge differently count
  (as in McNemar's test), and it stays honest where there are none or few. For means over draws the
  two additions make it wider than it had to be.

  Args:
    first: [N] share of right draws of each image.
    second: [N] the same of another model, of the same images in the same order.

  Returns:
    A `Difference`; `mean` is that of the images alone.

  Raises:
    ValueError: if the arrays are not [N] each with N >= 1, or no shares.

  References:
    Bonett and Price 2012, Journal of Educational and Behavioral Statistics 37(4), equation 3.
  """
  first, second = (np.asarray(values, np.float64) for values in (first, second))
  if first.ndim != 1 or first.shape != second.shape or not first.size:
    raise ValueError(
      f"paired shares must be [N] each with N >= 1, of the same images, got {first.shape} and "
      f"{second.shape}"
    )
  both = np.concatenate([first, second])
  if not np.all((both >= 0) & (both <= 1)):
    raise ValueError(f"paired values must be shares in [0, 1], got {both.min()} to {both.max()}")
  gaps, n = first - second, first.size
  centre = float(np.sum(gaps)) / (n + 2)
  spread = (float(np.sum(gaps**2)) + 2) / (n + 2) - centre**2
  half = _Z95 * math.sqrt(spread / (n + 2))
  better = int(np.sum(gaps > 0)), int(np.sum(gaps < 0))
  return Difference(
    float(np.mean(gaps)), max(-1.0, centre - half), min(1.0, centre + half), n, *better
  )


def unpaired_interval(first: Mapping[str, Any], second: Mapping[str, Any]) -> Difference:
  """The same where only the two shares and their own intervals are known, not their images.

  Newcombe's hybrid score interval of two independent shares: with δ₁ and δ₂ the distances from each
  share to the near end of its interval, the ends lie √(δ₁² + δ₂²) from the difference. That the
  images are the same is left out; models tend to fail at the same ones, so that it is wider than
  `paired_interval` as a rule.

  Args:
    first: {mean, low, high, n} of an `Interval`: Wilson's, of means over draws with their effective
      number, which makes this the method of variance estimates recovery.
    second: the same of another model, of as many images.

  Raises:
    ValueError: if the numbers of images differ.

  References:
    Newcombe 1998, Statistics in Medicine 17(8), method 10; Zou and Donner 2008, Statistics in
    Medicine 27(10).
  """
  if first["n"] != second["n"]:
    raise ValueError(f"shares of the same images are compared, got {first['n']} and {second['n']}")
  mean = first["mean"] - second["mean"]
  below = math.hypot(first["mean"] - first["low"], second["high"] - second["mean"])
  above = math.hypot(first["high"] - first["mean"], second["mean"] - second["low"])
  return Difference(mean, mean - below, mean + above, first["n"], None, None, UNPAIRED)
