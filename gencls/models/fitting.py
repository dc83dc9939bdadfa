"""What models fitted without gradients share: blocks of data, and choices made on validation."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from gencls import classify
from gencls.types import Array, FitData, Fitted, Keys, Params

Number = TypeVar("Number", bound=float)

_LOG = logging.getLogger(__name__)

BLOCK = 2048  # examples at once


def check_labels(y: Array, num_classes: int, name: str) -> np.ndarray:
  """The labels as they are.

  Raises:
    ValueError: if there is one that is no class.
  """
  labels = np.asarray(y)
  if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
    raise ValueError(
      f"{name} must be between 0 and {num_classes - 1}, got {labels.min()} to {labels.max()}"
    )
  return labels


def class_counts(y: Array, num_classes: int, among: str = "the training images") -> np.ndarray:
  """Examples of every class, [C].

  Args:
    y: [N] labels.
    num_classes: C.
    among: what the examples are, in words.

  Raises:
    ValueError: if there is a label that is no class, or a class without examples.
  """
  labels = check_labels(y, num_classes, "labels")
  counts = np.bincount(labels, minlength=num_classes)
  if counts.min() == 0:
    missing = np.flatnonzero(counts == 0)
    raise ValueError(
      f"every class needs examples to be fitted to, got none of {missing} among {among}: leave "
      "the class out of the data set, or add examples"
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


def validation_accuracy(
  logits: Callable[[Params, Keys, Array], Array], data: FitData, choice: str
) -> Callable[[Params], float]:
  """params -> the share of the validation images whose class they find.

  Args:
    logits: (params, keys, x) -> [B, C], without randomness: it is given no keys.
    data: the splits.
    choice: what is chosen by it, in words.

  Raises:
    ValueError: if there is no validation image.
  """
  if not len(data.validation_x):
    raise ValueError(
      f"a choice between {choice} needs validation images, got none: hold some out, or give one "
      "value"
    )

  @jax.jit
  def right(params: Params, x: Array, y: Array, weight: Array) -> Array:
    return jnp.sum(classify.correct(logits(params, cast(Keys, None), x), y) * weight)

  def accuracy(params: Params) -> float:
    parts = [right(params, *block) for block in blocks(data.validation_x, data.validation_y)]
    return float(sum(parts)) / len(data.validation_x)

  return accuracy


def candidates(given: Number | Sequence[Number]) -> tuple[Number, ...]:
  """The values of a hyperparameter that are tried: several are chosen from on validation images.

  Raises:
    ValueError: if two have the same name, their first six digits.
  """
  values = tuple(given) if isinstance(given, Sequence) else (given,)
  if len({f"{value:g}" for value in values}) < len(values):
    raise ValueError(f"candidates must differ in their first six digits, got {values}")
  return values


def penalty_path(
  minimum: Callable[[Params, float], Fitted], start: Params, penalties: Sequence[float]
) -> dict[str, Callable[[], Fitted]]:
  """Candidates of `most_accurate`, from the strongest penalty to the weakest.

  Args:
    minimum: (params, l2) -> the fit that starts there.
    start: of the first fit; every other one starts at the minimum before it.
    penalties: one or several.

  Returns:
    "l2=..." -> its fit; to be called in this order.
  """
  at = start

  def fit(l2: float) -> Fitted:
    nonlocal at
    fitted = minimum(at, l2)
    at = fitted.params
    return Fitted(at, fitted.metrics | {"l2": float(l2)})

  return {f"l2={l2:g}": functools.partial(fit, l2) for l2 in sorted(penalties, reverse=True)}


def most_accurate(
  candidates: Mapping[str, Callable[[], Fitted]],
  logits: Callable[[Params, Keys, Array], Array],
  data: FitData,
  *,
  axes: Callable[[str], Mapping[str, Sequence[float]]] = lambda chosen: {},
) -> Fitted:
  """Fits every candidate and keeps the one that finds most classes of the validation images.

  Args:
    candidates: what is chosen from, in words -> its fit. Of equally good ones the first wins, and
      one alone needs no validation.
    logits: (params, keys, x) -> [B, C], without randomness: it is given no keys.
    data: the splits.
    axes: the ordered numbers among what is chosen: candidate -> {metric: the values tried}. A
      warning is logged where the best has the smallest or the largest of three or more.

  Returns:
    The best candidate, with the validation accuracy of each among its metrics.

  Raises:
    ValueError: if there is a choice, and no validation image to make it on.
  """
  if len(candidates) == 1:
    return next(iter(candidates.values()))()
  accuracy_of = validation_accuracy(logits, data, ", ".join(candidates))
  best, highest, chosen, metrics = Fitted(None, {}), -1.0, "", {}
  for name, fit in candidates.items():
    fitted = fit()
    metrics[f"validation_accuracy/{name}"] = accuracy = accuracy_of(fitted.params)
    if accuracy > highest:
      best, highest, chosen = fitted, accuracy, name
  for name, values in axes(chosen).items():
    _warn_at_edge(name, best.metrics[name], values)
  return Fitted(best.params, best.metrics | metrics | {"validation_accuracy": highest})


def _warn_at_edge(name: str, chosen: float, values: Sequence[float]) -> None:
  tried = sorted({float(value) for value in values})
  if len(tried) >= 3 and chosen in (tried[0], tried[-1]):
    _LOG.warning(
      "%s=%g of the best validation accuracy is the %s of the %d values tried, and a %s one may "
      "be better: widen the grid",
      *(name, chosen, "smallest" if chosen == tried[0] else "largest", len(tried)),
      "smaller" if chosen == tried[0] else "larger",
    )
