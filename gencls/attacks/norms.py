"""Norms of every example of a batch, [B, ...] -> [B], and their duals.

All are safe from over- and underflow; `plain_l2` is the one that is not, and cheaper.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gencls.attacks.broadcast import expand, pixels
from gencls.types import Array

TOLERANCE = 1e-6  # in the units of the norm; it is added to eps and never shrinks it
LEAST_SAFE = 1e-12  # norms above which squares that underflow are too small to count


def order(norm: str) -> float:
  """The p of a norm's name: "linf", "l0", or "l" and a number p >= 1, as "l1", "l1.5" or "l3".

  Every norm has one name, so the number is as short as it can be, of at most six digits.

  Raises:
    ValueError: if the name is not of this form.
  """
  try:
    p = float(str(norm).removeprefix("l"))
  except ValueError:
    p = math.nan
  if norm == "l0" or (p >= 1 and norm == f"l{p:g}"):
    return p
  fix = f"write 'l{max(p, 1.0):g}'" if p > 0 else "for instance 'l2'"
  raise ValueError(
    "a norm's name must be 'linf', 'l0', or 'l' and a number p >= 1 of at most six digits ('l1', "
    f"'l1.5', 'l3'; below 1 the triangle inequality fails), got {norm!r}: {fix}"
  )


def tolerance(norm: str, eps: float) -> float:
  """What a norm may exceed eps by; a sum of many rounded entries (ℓ1, p < 2) is known less well."""
  return TOLERANCE * max(1.0, eps) if 1 <= order(norm) < 2 else TOLERANCE


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
  scaled, largest = scale(delta)
  size = plain_l2(scaled)
  # 1 <= size where delta is not 0; a NaN must stay one.
  return scaled / expand(jnp.where(size == 0, 1.0, size), delta), largest * size


def lp(p: Array, delta: Array) -> Array:
  """(Σ |δ_i|^p)^(1/p), p >= 1; a leaf, so that another p does not compile again."""
  scaled, largest = scale(delta)
  return largest * jnp.sum(jnp.abs(scaled) ** p, axis=pixels(delta)) ** (1.0 / p)


def scale(delta: Array) -> tuple[Array, Array]:
  """(delta / max |delta|, max |delta|): entries in [-1, 1], of which any power is safe."""
  largest = linf(delta)
  # XLA may divide by multiplying with 1 / largest, which is 0 beyond 8.5e37.
  shrink = jnp.where(largest > 1, 2.0**-8, 1.0)
  divisor = jnp.where(largest > 0, largest * shrink, 1.0)
  return delta * expand(shrink, delta) / expand(divisor, delta), largest


NORMS: dict[str, Callable[[Array], Array]] = {"l1": l1, "l2": l2, "linf": linf}
# |gap| / ||w||_dual is the distance of the hyperplane w·δ = gap.
DUAL_NORMS: dict[str, Callable[[Array], Array]] = {"l1": linf, "l2": l2, "linf": l1}
