"""How well a score tells clean images from attacked ones: the ROC curve and its area."""

import numpy as np

from gencls.intervals import Interval, wilson

FEWEST = 10  # images on either side of an area that has an interval


def auc(clean: np.ndarray, attacked: np.ndarray) -> float | None:
  """The area under the ROC curve: P(clean > attacked) + ½ P(equal), by ranks, so exact.

  Args:
    clean: [N] scores, larger where more ordinary; what is not finite stands below all others.
    attacked: [M] scores.

  Returns:
    A float in [0, 1], 1 where every attack is told; None where either has none.
  """
  if not (len(clean) and len(attacked)):
    return None
  return float(np.mean(placements(clean, attacked)))


def placements(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
  """[N] P(clean_i > attacked) + ½ P(equal) over the attacked scores, M >= 1; see `auc`."""
  clean, attacked = _ordered(clean), np.sort(_ordered(attacked))
  below = np.searchsorted(attacked, clean, side="left")
  up_to = np.searchsorted(attacked, clean, side="right")
  return (below + up_to) / (2 * len(attacked))


def interval(clean: np.ndarray, attacked: np.ndarray, taken: np.ndarray) -> Interval | None:
  """The same area with a 95% interval over images: the draws of one, attacked or not, go together.

  Each image has the placements of its scores on the other side, less their mean, summed over its
  draws and divided by the scores of all images: u_i of the clean, w_i of the attacked ones. The
  variance is n/(n − 1) Σ (u_i + w_i)², for w_i² with the n of images that have any. The interval is
  Wilson's with A(1 − A)/variance trials, as many as these images where nothing varies.

  Args:
    clean: [N, G] scores of the draws of each image, as in `auc`.
    attacked: [N, H] scores of the same images, attacked.
    taken: [N, H] bool, the attacked scores that count: the successes.

  Returns:
    An `Interval`, `n` the number of images with a score that counts; None where fewer than
    `FEWEST` have: a few cannot tell how others vary.

  References:
    Obuchowski 1997, Biometrics 53(2): DeLong's variance (1988) with several scores of one image.
  """
  scores, ordinary = np.asarray(attacked)[taken], np.ravel(clean)
  mean, some = auc(ordinary, scores), int(np.sum(np.any(taken, axis=1)))
  if mean is None or some < FEWEST:
    return None
  u = np.sum(placements(ordinary, scores).reshape(np.shape(clean)) - mean, axis=1) / len(ordinary)
  below = np.zeros(np.shape(attacked))
  below[taken] = 1 - placements(scores, ordinary) - mean
  w = np.sum(below, axis=1) / len(scores)
  every = len(u)
  scale = every / max(every - 1, 1)
  more = some / (some - 1) - scale
  variance = float(scale * np.sum((u + w) ** 2) + more * np.sum(w**2))
  low, high = wilson(mean, mean * (1 - mean) / variance if variance > 0 else some)
  return Interval(mean, low, high, some, "Wilson, trials from Obuchowski's variance")


def curve(clean: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The ROC curve: what a detector that rejects below a threshold rejects, at every threshold.

  Args:
    clean: [N] scores, N >= 1, as in `auc`.
    attacked: [M] scores, M >= 1.

  Returns:
    (false-positive rates, detection rates), from (0, 0) to (1, 1).
  """
  clean, attacked = np.sort(_ordered(clean)), np.sort(_ordered(attacked))
  at = np.unique(np.concatenate([clean, attacked]))
  rates = [np.searchsorted(scores, at, side="right") / len(scores) for scores in (clean, attacked)]
  return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def thinned(
  rejected: np.ndarray, detected: np.ndarray, most: int = 200
) -> tuple[np.ndarray, np.ndarray]:
  """A curve with few points, for drawing: its own corners, nothing in between is made up.

  Args:
    rejected: [T] false-positive rates, never falling.
    detected: [T] detection rates, never falling.
    most: points that are kept, >= 4.

  Returns:
    Both at the first and the last point of up to `most` / 2 false-positive rates: of all where they
    are so few, else of those at even quantiles. Vertical steps there are whole.
  """
  rejected, detected = np.asarray(rejected, np.float64), np.asarray(detected, np.float64)
  rates, first, count = np.unique(rejected, return_index=True, return_counts=True)
  if len(rates) > most // 2:
    kept = np.unique(np.linspace(0, len(rates) - 1, most // 2).round().astype(int))
    first, count = first[kept], count[kept]
  at = np.unique(np.concatenate([first, first + count - 1]))
  return rejected[at], detected[at]


def _ordered(scores: np.ndarray) -> np.ndarray:
  scores = np.asarray(scores, np.float64)
  return np.where(np.isfinite(scores), scores, -np.inf)
