"""The ladder of summed squared errors that a decoder climbs: which rung is a run stuck at?

A decoder that ignores its input can reach the mean image and no better; one that is worse than
that has not left a plateau such as the black image, the usual trap on MNIST.
"""

import numpy as np


def ladder(
  images: np.ndarray, labels: np.ndarray, *, num_levels: int, num_classes: int
) -> dict[str, float]:
  """Summed squared error per image of the best constant predictions, from worst to best.

  Args:
    images: [N, H, W, D] uint8 in 0 .. num_levels - 1.
    labels: [N] integers in 0 .. num_classes - 1.
    num_levels: grey levels; images are divided by num_levels - 1.
    num_classes: C.

  Returns:
    {"black image", "best constant", "mean image", "class means"} -> mean over images of
    sum_d (x_d - prediction_d)^2 with x in [0, 1].
  """
  flat = images.reshape(len(images), -1)
  scale = (num_levels - 1) ** 2
  counts = np.bincount(flat.ravel(), minlength=num_levels)
  black = float(counts @ np.arange(len(counts)) ** 2) / len(flat)  # E |x|^2
  # E |x - m|^2 = E |x|^2 - |m|^2 for the mean m of what is predicted.
  mean = flat.mean(axis=0)
  explained = 0.0
  for c in range(num_classes):
    members = flat[labels == c]
    if len(members):
      explained += len(members) / len(flat) * float(np.sum(members.mean(axis=0) ** 2))
  return {
    "black image": black / scale,
    "best constant": (black - flat.shape[1] * float(mean.mean()) ** 2) / scale,
    "mean image": (black - float(np.sum(mean**2))) / scale,
    "class means": (black - explained) / scale,
  }


def describe(rungs: dict[str, float]) -> str:
  """One line for the log."""
  return ", ".join(f"{name} {value:.1f}" for name, value in rungs.items())


class StuckError(RuntimeError):
  """Training has not left a plateau by the step at which it should have."""


def check_left_plateau(squared_error: float, rungs: dict[str, float], step: int) -> None:
  """Stops a run whose decoder is no better than the mean image.

  Args:
    squared_error: mean summed squared error on validation images.
    rungs: from `ladder`.
    step: the training step, for the message.

  Raises:
    StuckError: names the rung nearest to the error.
  """
  if squared_error < rungs["mean image"]:
    return
  nearest = min(rungs, key=lambda name: abs(rungs[name] - squared_error))
  raise StuckError(
    f"at step {step} the validation squared error is {squared_error:.1f}, not below the mean image "
    f"({rungs['mean image']:.1f}): the decoder is stuck at the rung {nearest!r} "
    f"({rungs[nearest]:.1f}). Lower train.learning_rate, raise train.warmup_steps, or set "
    f"train.stuck_after=None to go on regardless. Rungs: {describe(rungs)}"
  )
