"""The ladder of reconstruction errors that a decoder climbs: which rung is a run stuck at?

A decoder that ignores its input can reach the mean image and no better; one that is worse than
that has not left a plateau such as the black image, the usual trap on MNIST. The error is that of
the likelihood: a sum of squares, or of the pixels' cross-entropies in nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Ladder(NamedTuple):
  """Mean errors per image of constant predictions, from worst to best."""

  error: str  # the loss term that is compared, a key of `ERRORS`
  rungs: dict[str, float]


class Error(NamedTuple):
  """An error whose expectation is least where the mean is predicted."""

  name: str  # in messages
  lowest: str  # the first rung
  of_lowest: Callable[[int, float], float]  # (D, E |x|²) -> E error of that prediction
  of_mean: Callable[[np.ndarray, float], float]  # (m = E x [D], E |x|²) -> E error(x, m)


def _squares(mean: np.ndarray, second_moment: float) -> float:
  """E |x − m|² = E |x|² − |m|²."""
  return second_moment - float(np.sum(mean**2))


def _entropies(mean: np.ndarray, second_moment: float) -> float:
  """−Σ m log m + (1 − m) log(1 − m)."""
  del second_moment
  inside = mean[(mean > 0) & (mean < 1)]  # 0 elsewhere
  return -float(np.sum(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)))


ERRORS = {
  "squared_error": Error(
    "squared error", "black image", lambda size, second_moment: second_moment, _squares
  ),
  "pixel_cross_entropy": Error(
    "cross-entropy", "grey image", lambda size, second_moment: size * math.log(2), _entropies
  ),
}


def ladder(
  images: np.ndarray,
  labels: np.ndarray,
  *,
  num_levels: int,
  num_classes: int,
  error: str = "squared_error",
  threshold: float | None = None,
) -> Ladder:
  """The rungs of a data set.

  Args:
    images: [N, H, W, D] uint8 in 0 .. num_levels - 1.
    labels: [N] integers in 0 .. num_classes - 1.
    num_levels: grey levels; images are divided by num_levels - 1.
    num_classes: C.
    error: a key of `ERRORS`.
    threshold: of models that see which pixels are at least that bright; None: of grey images.

  Returns:
    A `Ladder` with {"black image" or "grey image", "best constant", "mean image", "class means"}.
  """
  if threshold is not None:
    images, num_levels = (images >= threshold * (num_levels - 1)).astype(np.uint8), 2
  flat, top, of = images.reshape(len(images), -1), num_levels - 1, ERRORS[error]
  counts = np.bincount(flat.ravel(), minlength=num_levels)
  second_moment = float(counts @ np.arange(len(counts)) ** 2) / len(flat) / top**2
  mean = flat.mean(axis=0) / top
  of_classes = 0.0
  for c in range(num_classes):
    members = flat[labels == c]
    if len(members):
      own = of.of_mean(members.mean(axis=0) / top, second_moment)
      of_classes += len(members) / len(flat) * own
  return Ladder(
    error,
    {
      of.lowest: of.of_lowest(mean.size, second_moment),
      "best constant": of.of_mean(np.full(mean.size, mean.mean()), second_moment),
      "mean image": of.of_mean(mean, second_moment),
      "class means": of_classes,
    },
  )


def describe(ladder: Ladder) -> str:
  """One line for the log."""
  rungs = ", ".join(f"{name} {value:.1f}" for name, value in ladder.rungs.items())
  return f"rungs of the {ERRORS[ladder.error].name} per image: {rungs}"


class StuckError(RuntimeError):
  """Training has not left a plateau by the step at which it should have."""


def check_left_plateau(error: float, ladder: Ladder, step: int) -> None:
  """Stops a run whose decoder is no better than the mean image.

  Args:
    error: mean error on validation images.
    ladder: from `ladder`.
    step: the training step, for the message.

  Raises:
    StuckError: names the rung nearest to the error.
  """
  rungs = ladder.rungs
  if error < rungs["mean image"]:
    return
  nearest = min(rungs, key=lambda name: abs(rungs[name] - error))
  raise StuckError(
    f"at step {step} the validation {ERRORS[ladder.error].name} is {error:.1f}, not below the mean "
    f"image ({rungs['mean image']:.1f}): the decoder is stuck at the rung {nearest!r} "
    f"({rungs[nearest]:.1f}). Lower train.learning_rate, raise train.warmup_steps, or set "
    f"train.stuck_after=None to go on regardless. The {describe(ladder)}"
  )
