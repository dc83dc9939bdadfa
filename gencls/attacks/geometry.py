"""Balls as values: linf(eps) and l2(eps), each intersected with the box [0, 1].

A `Geometry` is a pytree whose leaves are its radii, so that another eps does not compile again. An
attack never asks which norm it has; another norm is one more function in `GEOMETRIES`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks.broadcast import expand, pixels
from gencls.names import unknown_name
from gencls.types import Array, Key, Keys


class Geometry(NamedTuple):
  """A ball around x, intersected with the box; the functions work per example."""

  eps: Array  # [] or [B] float32, the radius
  project: Partial  # (x_adv, x) -> x_adv, into ball and box
  steepest: Partial  # (gradient) -> the direction of norm 1 that gains most, 0 for gradient 0
  norm: Partial  # (delta [B, ...]) -> [B]
  random: Partial  # (keys [B], x) -> x_adv, uniform in the ball, then clipped to the box


def linf(eps: float | Array) -> Geometry:
  """The ℓ∞ ball: no pixel moves further than eps.

  Args:
    eps: radius, one number or [B]; may be traced. Not checked here, see `build`.

  Returns:
    A `Geometry`. `project` is exact: the nearest point of ball and box.
  """
  eps = jnp.asarray(eps, jnp.float32)
  return Geometry(
    eps=eps,
    project=Partial(_project_linf, eps),
    steepest=Partial(jnp.sign),
    norm=Partial(_norm_linf),
    random=Partial(_random_linf, eps),
  )


def l2(eps: float | Array) -> Geometry:
  """The ℓ2 ball: the Euclidean norm of the perturbation is at most eps.

  `project` scales the perturbation into the ball and then clips to the box, which brings every
  pixel nearer to x, so that the result is in both (but need not be the nearest such point).

  Args:
    eps: radius, one number or [B]; may be traced. Not checked here, see `build`.

  Returns:
    A `Geometry`.
  """
  eps = jnp.asarray(eps, jnp.float32)
  return Geometry(
    eps=eps,
    project=Partial(_project_l2, eps),
    steepest=Partial(_steepest_l2),
    norm=Partial(_norm_l2),
    random=Partial(_random_l2, eps),
  )


GEOMETRIES = {"linf": linf, "l2": l2}


def build(norm: str, eps: float) -> Geometry:
  """The ball of a named norm.

  Args:
    norm: a name in `GEOMETRIES`.
    eps: radius >= 0, in units of the image's range.

  Returns:
    A `Geometry`.

  Raises:
    ValueError: if the norm is unknown, or eps is negative or not finite.
  """
  if norm not in GEOMETRIES:
    raise ValueError(unknown_name("norm", norm, GEOMETRIES))
  if not (math.isfinite(eps) and eps >= 0):
    raise ValueError(f"eps must be a finite number >= 0 (images are in [0, 1]), got {eps}")
  return GEOMETRIES[norm](eps)


def _project_linf(eps: Array, x_adv: Array, x: Array) -> Array:
  radius = expand(eps, x)
  return jnp.clip(x_adv, jnp.maximum(x - radius, 0.0), jnp.minimum(x + radius, 1.0))


def _norm_linf(delta: Array) -> Array:
  return jnp.max(jnp.abs(delta), axis=pixels(delta))


def _random_linf(eps: Array, keys: Keys, x: Array) -> Array:
  def noise(key: Key) -> Array:
    return jax.random.uniform(key, x.shape[1:], minval=-1.0, maxval=1.0)

  return _project_linf(eps, x + expand(eps, x) * jax.vmap(noise)(keys), x)


def _unit_and_norm(delta: Array) -> tuple[Array, Array]:
  """(delta / ||delta||, ||delta||) without overflow or underflow of the squares; 0 stays 0."""
  largest = _norm_linf(delta)
  # XLA may divide by multiplying with 1 / largest, which is 0 beyond 8.5e37.
  shrink = jnp.where(largest > 1, 2.0**-8, 1.0)
  divisor = jnp.where(largest > 0, largest * shrink, 1.0)
  scaled = delta * expand(shrink, delta) / expand(divisor, delta)
  size = jnp.sqrt(jnp.sum(jnp.square(scaled), axis=pixels(delta)))
  # 1 <= size where delta is not 0; a NaN must stay one.
  return scaled / expand(jnp.where(size == 0, 1.0, size), delta), largest * size


def _project_l2(eps: Array, x_adv: Array, x: Array) -> Array:
  largest = jnp.finfo(x.dtype).max
  unit, size = _unit_and_norm(jnp.clip(x_adv - x, -largest, largest))
  outside = expand(size > eps, x)
  return jnp.clip(jnp.where(outside, x + expand(eps, x) * unit, x_adv), 0.0, 1.0)


def _steepest_l2(gradient: Array) -> Array:
  return _unit_and_norm(gradient)[0]


def _norm_l2(delta: Array) -> Array:
  return _unit_and_norm(delta)[1]


def _random_l2(eps: Array, keys: Keys, x: Array) -> Array:
  size = math.prod(x.shape[1:])

  def noise(key: Key) -> Array:
    direction, radius = jax.random.split(key)
    # A share r of the radius holds r**size of the volume.
    share = jax.random.uniform(radius) ** (1.0 / size)
    return share * _steepest_l2(jax.random.normal(direction, (1, *x.shape[1:])))[0]

  return _project_l2(eps, x + expand(eps, x) * jax.vmap(noise)(keys), x)
