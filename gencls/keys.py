"""Randomness: one typed Threefry key per example, folded from what it is used for.

A key is folded from (seed, purpose, dataset index), then epoch or restart, step and draw. Two
purposes never share a stream, and no key depends on the batch, the shard or the device.
"""

import zlib

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gencls.names import unknown_name
from gencls.types import Array, Key, Keys

PURPOSES = (
  *("init", "train", "validate", "clean", "attack", "select", "grade", "sample", "prepare"),
  "detect",
  "regrade",
)


def _tag(name: str) -> int:
  # A hash, not a small integer: models fold small integers (classes, layers) into the same keys.
  return zlib.crc32(name.encode())


def purpose_key(seed: int | Array, purpose: str) -> Key:
  """The root key of one purpose.

  Args:
    seed: the run's seed.
    purpose: one of `PURPOSES`.

  Returns:
    One typed Threefry key.

  Raises:
    ValueError: if `purpose` is unknown.
  """
  if purpose not in PURPOSES:
    raise ValueError(unknown_name("purpose", purpose, PURPOSES))
  return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _tag(purpose))


def example_keys(seed: int | Array, indices: ArrayLike, purpose: str = "grade") -> Keys:
  """One key per example, from the example's index in its dataset.

  Args:
    seed: the run's seed.
    indices: [B] integers, the examples' dataset indices.
    purpose: one of `PURPOSES`; streams of two purposes never meet.

  Returns:
    [B] typed Threefry keys.

  Raises:
    ValueError: if `purpose` is unknown, or the indices are no integers.
  """
  root, indices = purpose_key(seed, purpose), jnp.asarray(indices)
  if indices.size and not jnp.issubdtype(indices.dtype, jnp.integer):
    raise ValueError(f"indices must be integers, got {indices.dtype} of shape {indices.shape}")
  return jax.vmap(lambda index: jax.random.fold_in(root, index))(indices)


def fold(keys: Keys, *data: int | str | Array) -> Keys:
  """Folds integers (one for all, or one per example) or names into every key.

  Args:
    keys: [B] typed keys.
    *data: ints, [B] integer arrays, or names, folded from left to right.

  Returns:
    [B] typed keys.
  """
  for item in data:
    value = _tag(item) if isinstance(item, str) else item
    keys = jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(jnp.uint32(value), keys.shape))
  return keys
