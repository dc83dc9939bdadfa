"""A set of labelled images as arrays, with the checks that every source has to pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Dataset(NamedTuple):
  """One split of a labelled image set, at rest: integer levels, not floats."""

  name: str
  split: str  # "train", "validation" or "test"
  source: str  # where the arrays came from, in words
  images: np.ndarray  # [N, H, W, D] uint8, levels 0 .. num_levels - 1
  labels: np.ndarray  # [N] int32
  indices: np.ndarray  # [N] int32, position in the original file: seeds the example's randomness
  num_classes: int
  num_levels: int


class Raw(NamedTuple):
  """What a source read: one original file (train or test), in the original order."""

  source: str
  images: np.ndarray  # [N, H, W, D] uint8
  labels: np.ndarray  # [N] int32
  indices: np.ndarray  # [N] int32
  num_classes: int
  num_levels: int


def checked(
  source: str,
  images: np.ndarray,
  labels: np.ndarray,
  *,
  image_shape: tuple[int, ...] | None,
  num_classes: int,
  num_levels: int = 256,
) -> Raw:
  """Checks arrays as read from a source against what the data set must be.

  Args:
    source: where they came from; named in every error.
    images: [N, H, W, D] uint8.
    labels: [N] integers.
    image_shape: (H, W, D), or None where any is right.
    num_classes: C; labels lie in 0 .. C - 1.
    num_levels: levels lie in 0 .. num_levels - 1.

  Returns:
    The arrays, labels as int32, indices 0 .. N - 1.

  Raises:
    ValueError: if a type, shape, count, label or level breaks the rule.
  """
  if images.dtype != np.uint8:
    raise ValueError(f"images must be uint8, got {images.dtype} from {source}")
  if images.ndim != 4:
    raise ValueError(f"images must be [N, H, W, D], got shape {images.shape} from {source}")
  if image_shape is not None and images.shape[1:] != image_shape:
    raise ValueError(f"images must have shape {image_shape}, got {images.shape[1:]} from {source}")
  if labels.shape != images.shape[:1]:
    raise ValueError(
      f"images and labels must be of equal number, got {len(images)} images and labels of shape "
      f"{labels.shape} from {source}; do both files belong to the same set?"
    )
  if len(images) == 0:
    raise ValueError(f"a data set must hold at least one example, got none from {source}")
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"labels must be integers, got {labels.dtype} from {source}")
  _check_range(labels, num_classes, "labels", source)
  if num_levels < 256:
    _check_range(images, num_levels, "image levels", source)
  indices = np.arange(len(images), dtype=np.int32)
  return Raw(source, images, labels.astype(np.int32), indices, num_classes, num_levels)


def _check_range(values: np.ndarray, size: int, what: str, source: str) -> None:
  low, high = values.min(), values.max()
  if low < 0 or high >= size:
    bad = (values < 0) | (values >= size)
    raise ValueError(
      f"{what} must lie in 0 .. {size - 1}, got {low} .. {high} from {source} "
      f"(first at position {np.argwhere(bad)[0].tolist()})"
    )


def to_float(images: Any, num_levels: int) -> Any:
  """Images as the models see them: float32 in [0, 1], level · 1 / (num_levels - 1).

  Works on NumPy arrays (and returns one) and on JAX arrays, traced or not. Floats pass unchanged
  but for the type. Values of a traced array cannot be checked.

  Args:
    images: integer levels 0 .. num_levels - 1, or floats in [0, 1]; any shape.
    num_levels: number of levels, >= 2.

  Returns:
    float32 of the same shape, in [0, 1].

  Raises:
    ValueError: if a value is out of range or not finite, or the type is neither integer nor float.
  """
  if num_levels < 2:
    raise ValueError(f"num_levels must be >= 2, got {num_levels}")
  images = images if isinstance(images, jax.Array) else np.asarray(images)
  integer = jnp.issubdtype(images.dtype, jnp.integer)
  if not integer and not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(f"images must be integer levels or floats, got {images.dtype}")
  top = num_levels - 1 if integer else 1
  every_value_fits = images.dtype == np.uint8 and top >= 255
  if images.size and not every_value_fits and not isinstance(images, Tracer):
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= top):  # so written, NaN fails too
      kind = "integer images must be levels in" if integer else "float images must lie in"
      raise ValueError(f"{kind} [0, {top}], got {low} .. {high}; is num_levels={num_levels} right?")
  floats = images.astype(np.float32)
  # Not a division: XLA turns it into this product, and NumPy must give the same bits.
  return floats * np.float32(1 / top) if integer else floats


def class_frequencies(dataset: Dataset, pseudo_count: int = 0) -> tuple[float, ...]:
  """The share of each class among the labels.

  Args:
    dataset: any split.
    pseudo_count: added to every class: 1 (Laplace) keeps the prior of an unseen class positive.

  Returns:
    C floats that add up to 1; 0.0 for a class without an example and without a pseudo-count.
  """
  counts = np.bincount(dataset.labels, minlength=dataset.num_classes) + pseudo_count
  return tuple((counts / counts.sum()).tolist())
