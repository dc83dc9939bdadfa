"""Combining one number per example with arrays that have the batch as leading axis."""

from typing import Any

import jax
import jax.numpy as jnp

from gencls.types import Array


def expand(values: Array, like: Array) -> Array:
  """Numbers, one for all or [B], shaped so that they combine with [B, ...] arrays."""
  return jnp.reshape(values, values.shape + (1,) * (like.ndim - 1)) if values.ndim else values


def choose(condition: Array, chosen: Any, other: Any) -> Any:
  """`jnp.where` per example over two trees whose leaves are [B, ...]."""
  return jax.tree.map(lambda a, b: jnp.where(expand(condition, a), a, b), chosen, other)


def pick(many: Array, which: Array) -> Array:
  """Number `which` [B] of the candidates of every example, [B, M, ...] -> [B, ...]."""
  return jax.vmap(lambda candidates, index: candidates[index])(many, which)


def repeated(num: int, *values: Any) -> Any:
  """Trees of [B, ...] leaves with every example `num` times, as rows of its candidates."""
  return jax.tree.map(lambda leaf: jnp.repeat(leaf, num, axis=0), values)


def pixels(x: Array) -> tuple[int, ...]:
  """Every axis but the batch's."""
  return tuple(range(1, x.ndim))
