"""What models fitted without gradients share: blocks of data, and choices made on validation."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from gencls import classify
from gencls.types import Array, FitData, Fitted, Keys, Params

BLOCK = 2048  # examples at once


def class_counts(y: Array, num_classes: int) -> np.ndarray:
  """Examples of every class, [C].

  Raises:
    ValueError: if there is a label that is no class, or a class without examples.
  """
  labels = np.asarray(y)
  if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
    raise ValueError(
      f"labels must be between 0 and {num_classes - 1}, got {labels.min()} to {labels.max()}"
    )
  counts = np.bincount(labels, minlength=num_classes)
  if counts.min() == 0:
    raise ValueError(
      f"every class needs examples to be fitted to, got none of {np.flatnonzero(counts == 0)}: "
      "leave the class out of the data set, or add examples"
    )
  return counts


def even_block(num_examples: int) -> int:
  """The size of the fewest blocks of at most `BLOCK` examples that differ least in size."""
  num_blocks = max(math.ceil(num_examples / BLOCK), 1)
  return max(math.ceil(num_examples / num_blocks), 1)


def blocks(x: Array, y: Array) -> Iterator[tuple[Array, Array, Array]]:
  """All examples in blocks of one size, the last one filled up with examples of weight zero.

  Args:
    x: [N, ...].
    y: [N].

  Yields:
    x [size, ...], y [size] and weights [size], 1 for examples and 0 for the filling.
  """
  size = even_block(len(x))
  for start in range(0, len(x), size):
    part, labels = jnp.asarray(x[start : start + size]), jnp.asarray(y[start : start + size])
    missing = size - len(part)
    weights = jnp.pad(jnp.ones(len(part)), (0, missing))
    rest = ((0, 0),) * (part.ndim - 1)
    yield jnp.pad(part, ((0, missing), *rest)), jnp.pad(labels, (0, missing)), weights


def most_accurate(
  candidates: Mapping[str, Callable[[], Fitted]],
  logits: Callable[[Params, Keys, Array], Array],
  data: FitData,
) -> Fitted:
  """Fits every candidate and keeps the one that finds most classes of the validation images.

  Args:
    candidates: what is chosen from, in words -> its fit. Of equally good ones the first wins, and
      one alone needs no validation.
    logits: (params, keys, x) -> [B, C], without randomness: it is given no keys.
    data: the splits.

  Returns:
    The best candidate, with the validation accuracy of each among its metrics.

  Raises:
    ValueError: if there is a choice, and no validation image to make it on.
  """
  if len(candidates) == 1:
    return next(iter(candidates.values()))()
  if not len(data.validation_x):
    raise ValueError(
      f"a choice between {', '.join(candidates)} needs validation images, got none: hold some out, "
      "or give one value"
    )

  @jax.jit
  def right(params: Params, x: Array, y: Array, weight: Array) -> Array:
    return jnp.sum(classify.correct(logits(params, cast(Keys, None), x), y) * weight)

  best, highest, metrics = Fitted(None, {}), -1.0, {}
  for name, fit in candidates.items():
    fitted = fit()
    parts = [right(fitted.params, *b) for b in blocks(data.validation_x, data.validation_y)]
    accuracy = float(sum(parts)) / len(data.validation_x)
    metrics[f"validation_accuracy/{name}"] = accuracy
    if accuracy > highest:
      best, highest = fitted, accuracy
  return Fitted(best.params, best.metrics | metrics | {"validation_accuracy": highest})
