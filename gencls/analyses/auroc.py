"""How well a value tells two sets of images apart: AUROC with an interval, and FPR at 95% TPR."""

from typing import Any

import numpy as np

from gencls.intervals import Interval, wilson
from gencls.summary.roc import auc, placements
from gencls.thresholds import Rule, threshold


def auroc(ordinary: np.ndarray, other: np.ndarray, *, paired: bool = False) -> dict[str, Any]:
  """P(ordinary > other) + ½ P(equal), exact by ranks, with a 95% interval over images.

  The variance is DeLong's, var(V₁₀)/n + var(V₀₁)/m, with V₁₀ the share of the others that lie below
  each ordinary value and V₀₁ the share of the ordinary ones above each other value; values of the
  same image on both sides (`paired`) vary together: var(V₁₀ + V₀₁)/n. The interval is Wilson's
  with A(1 − A)/variance trials, min(n, m) where nothing varies: it stays within [0, 1].

  Args:
    ordinary: [N] values, larger where more ordinary; what is not finite lies below all others.
    other: [M] values.
    paired: whether ordinary[i] and other[i] are of the same image.

  Returns:
    An `Interval` as a dict; `n` is the smaller of N and M.

  Raises:
    ValueError: if there are no values, or paired ones are not of equal number.

  References:
    DeLong et al. 1988, Biometrics 44(3); paired: Obuchowski 1997, Biometrics 53(2).
  """
  ordinary, other = np.asarray(ordinary, np.float64), np.asarray(other, np.float64)
  mean = auc(ordinary, other)
  if mean is None or (paired and len(ordinary) != len(other)):
    raise ValueError(
      "an AUROC needs values on both sides, and as many on each where they are paired, got "
      f"{len(ordinary)} and {len(other)}"
    )
  above, below = placements(ordinary, other), 1 - placements(other, ordinary)
  least = min(len(ordinary), len(other))
  if least == 1:
    variance = 0.0
  elif paired:
    variance = float(np.var(above + below, ddof=1) / len(ordinary))
  else:
    variance = float(np.var(above, ddof=1) / len(ordinary) + np.var(below, ddof=1) / len(other))
  trials = mean * (1 - mean) / variance if variance > 0 else 0.0
  low, high = wilson(mean, trials or least)
  return Interval(mean, low, high, least, "Wilson, trials from DeLong's variance")._asdict()


def accepted_at(ordinary: np.ndarray, other: np.ndarray, rejected: float = 0.05) -> float:
  """The share of the others that a threshold accepts which rejects that share of the ordinary.

  With 0.05 this is the "FPR at 95% TPR" of the literature on out-of-distribution detection, where
  the ordinary images are the positives.

  Args:
    ordinary: [N] finite values, larger where more ordinary.
    other: [M] values; what is not finite is rejected.
    rejected: at most this share of the ordinary images is rejected.
  """
  limit = threshold(Rule("quantile", rejected), ordinary, dims=0, num_levels=0)
  other = np.asarray(other, np.float64)
  return float(np.mean(np.isfinite(other) & (other >= limit)))
