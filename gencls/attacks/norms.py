"""Norms as values, for attacks whose ball has another radius at every step and example.

`NORMS` has ℓ∞, ℓ2, ℓ1 and ℓ0 (the number of entries that differ from x, colours counted apart).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import expand, pixels
from gencls.types import Array


class Norm(NamedTuple):
  """A norm; the functions work per example and have no leaves."""

  size: Callable[[Array], Array]  # (delta [B, ...]) -> [B]
  dual: Callable[[Array], Array] | None  # the dual norm's size; None for ℓ0, which has none
  project: Callable[[Array, Array, Array], Array]  # (x_adv, x, radius [B]) -> in ball and box


def _linf(delta: Array) -> Array:
  return geometries.linf(0.0).norm(delta)


def _l2(delta: Array) -> Array:
  # Differences of pixels and gradients in nats: nothing here over- or underflows when squared, and
  # the scaling that the balls' norm does costs as much as all else in a step.
  return jnp.sqrt(jnp.sum(jnp.square(delta), axis=pixels(delta)))


def _l1(delta: Array) -> Array:
  return jnp.sum(jnp.abs(delta), axis=pixels(delta))


def _l0(delta: Array) -> Array:
  return jnp.sum(delta != 0, axis=pixels(delta)).astype(delta.dtype)


def _project_linf(x_adv: Array, x: Array, radius: Array) -> Array:
  return geometries.linf(radius).project(x_adv, x)


def _project_l2(x_adv: Array, x: Array, radius: Array) -> Array:
  size = _l2(x_adv - x)
  outside = size > radius
  share = jnp.where(outside, radius / jnp.where(outside, size, 1.0), 1.0)
  return jnp.clip(x + expand(share, x) * (x_adv - x), 0.0, 1.0)


def _project_l1(x_adv: Array, x: Array, radius: Array) -> Array:
  """Onto the ℓ1 ball (the nearest point of it), then into the box, which is no step out of it.

  The projection is sign(δ) max(|δ| − θ, 0) with Σ max(|δ| − θ, 0) = radius. Newton's method finds
  θ from below, exactly and in a few steps, without the sort of Duchi et al. (2008).
  """
  delta = x_adv - x
  size = jnp.abs(delta)

  def newton(theta: Array) -> Array:
    active = size > expand(theta, size)
    total = jnp.sum(jnp.where(active, size, 0.0), axis=pixels(size))
    count = jnp.sum(active, axis=pixels(size))
    return jnp.maximum(theta, (total - radius) / jnp.maximum(count, 1))

  def rising(thetas: tuple[Array, Array]) -> Array:
    return jnp.any(thetas[1] > thetas[0])

  # Below every |δ|, so that the first step is the mean over all entries.
  first = jnp.zeros_like(radius)
  _, theta = jax.lax.while_loop(rising, lambda t: (t[1], newton(t[1])), (first, newton(first)))
  shrunk = jnp.sign(delta) * jnp.maximum(size - expand(theta, size), 0.0)
  inside = expand(theta == 0, x)
  return jnp.clip(jnp.where(inside, x_adv, x + shrunk), 0.0, 1.0)


def _project_l0(x_adv: Array, x: Array, radius: Array) -> Array:
  """Keeps the ⌊radius⌋ largest differences (the first ones of equals), then clips to the box."""
  flat = jnp.reshape(jnp.abs(x_adv - x), (len(x), -1))
  count = jnp.clip(jnp.floor(radius), 0, flat.shape[1]).astype(jnp.int32)
  least = _largest(flat, count)[:, None]
  above, equal = flat > least, flat == least
  room = count - jnp.sum(above, axis=1)
  kept = above | (equal & (jnp.cumsum(equal, axis=1) <= room[:, None]))
  return jnp.clip(jnp.where(jnp.reshape(kept, x.shape), x_adv, x), 0.0, 1.0)


def _largest(values: Array, count: Array) -> Array:
  """The count-th largest of each row of non-negative numbers [B, N]; NaN for a count of 0.

  Such floats are ordered as their bits are, so the answer is found bit by bit: ten times faster
  than a sort on CPUs.
  """
  bits = jax.lax.bitcast_convert_type(values, jnp.int32)

  def set_bit(place: Array, found: Array) -> Array:
    trial = found | (1 << (30 - place))
    return jnp.where(jnp.sum(bits >= trial[:, None], axis=1) >= count, trial, found)

  found = jax.lax.fori_loop(0, 31, set_bit, jnp.zeros_like(count))
  return jax.lax.bitcast_convert_type(found, jnp.float32)


NORMS: dict[str, Norm] = {
  "l0": Norm(Partial(_l0), None, Partial(_project_l0)),
  "l1": Norm(Partial(_l1), Partial(_linf), Partial(_project_l1)),
  "l2": Norm(Partial(_l2), Partial(_l2), Partial(_project_l2)),
  "linf": Norm(Partial(_linf), Partial(_l1), Partial(_project_linf)),
}
