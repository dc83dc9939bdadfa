"""Norms of every example of a batch, [B, ...] -> [B], and their duals.

All are safe from over- and underflow; `plain_l2` is the one that is not, and cheaper.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gencls.attacks.broadcast import expand, pixels
from gencls.types import Array

LEAST_SAFE = 1e-12  # norms above which squares that underflow are too small to count


def linf(delta: Array) -> Array:
  """The largest absolute entry."""
  return jnp.max(jnp.abs(delta), axis=pixels(delta))


def l1(delta: Array) -> Array:
  """The sum of absolute entries."""
  return jnp.sum(jnp.abs(delta), axis=pixels(delta))


def l0(delta: Array) -> Array:
  """The number of entries that are not 0, colours counted apart."""
  return jnp.sum(delta != 0, axis=pixels(delta)).astype(delta.dtype)


def l2(delta: Array) -> Array:
  """The Euclidean norm, of any floats; scaled, at many times the cost, only where it has to be."""
  plain = plain_l2(delta)
  safe = (plain > LEAST_SAFE) & (plain < jnp.inf)

  def scaled() -> Array:
    return jnp.where(safe, plain, unit_and_l2(delta)[1])

  return jax.lax.cond(jnp.all(safe), lambda: plain, scaled)


def plain_l2(delta: Array) -> Array:
  """The Euclidean norm of entries whose squares are floats.

  For differences of pixels, noise, and gradients in nats, which may well be 0: there the scaling of
  `l2` costs as much as all else in a small attack's step.
  """
  return jnp.sqrt(jnp.sum(jnp.square(delta), axis=pixels(delta)))


def unit_and_l2(delta: Array) -> tuple[Array, Array]:
  """(delta / ||delta||, ||delta||) without overflow or underflow of the squares; 0 stays 0."""
  largest = linf(delta)
  # XLA may divide by multiplying with 1 / largest, which is 0 beyond 8.5e37.
  shrink = jnp.where(largest > 1, 2.0**-8, 1.0)
  divisor = jnp.where(largest > 0, largest * shrink, 1.0)
  scaled = delta * expand(shrink, delta) / expand(divisor, delta)
  size = plain_l2(scaled)
  # 1 <= size where delta is not 0; a NaN must stay one.
  return scaled / expand(jnp.where(size == 0, 1.0, size), delta), largest * size


NORMS: dict[str, Callable[[Array], Array]] = {"l1": l1, "l2": l2, "linf": linf}
# |gap| / ||w||_dual is the distance of the hyperplane w·δ = gap.
DUAL_NORMS: dict[str, Callable[[Array], Array]] = {"l1": linf, "l2": l2, "linf": l1}
