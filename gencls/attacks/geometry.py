"""Balls as values: linf(eps), l2(eps) and l1(eps), each intersected with the box [0, 1].

A `Geometry` is a pytree whose leaves are its radii, so that another eps does not compile again. An
attack never asks which norm it has; another norm is one more function in `GEOMETRIES`.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import norms
from gencls.attacks.broadcast import expand
from gencls.attacks.order import kth_largest, largest_float
from gencls.names import unknown_name
from gencls.types import Array, Key, Keys


class Geometry(NamedTuple):
  """A ball around x, intersected with the box; the functions work per example."""

  eps: Array  # [] or [B] float32, the radius
  project: Partial  # (x_adv, x) -> x_adv, into ball and box
  # (gradient, x_adv=None) -> the direction of norm 1 that gains most, 0 for gradient 0. Where the
  # iterate is given, a norm may leave out pixels that the box holds back (ℓ1 does).
  steepest: Partial
  norm: Partial  # (delta [B, ...]) -> [B]
  random: Partial  # (keys [B], x) -> x_adv, uniform in the ball, then clipped to the box
  sphere: Partial  # (keys [B], x) -> x_adv, at random at distance eps, then clipped to the box


def linf(eps: float | Array) -> Geometry:
  """The ℓ∞ ball: no pixel moves further than eps.

  Args:
    eps: radius, one number or [B]; may be traced. Not checked here, see `build`.

  Returns:
    A `Geometry`. `project` is exact: the nearest point of ball and box.
  """
  eps = jnp.asarray(eps, jnp.float32)
  project = Partial(_project_linf, eps)
  return Geometry(
    eps=eps,
    project=project,
    steepest=Partial(_steepest_linf),
    norm=Partial(norms.linf),
    random=Partial(_random, eps, Partial(_noise_linf), project),
    sphere=Partial(_sphere, eps, Partial(_noise_linf), Partial(norms.linf), project),
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
  project = Partial(_project_l2, eps)
  return Geometry(
    eps=eps,
    project=project,
    steepest=Partial(_steepest_l2),
    norm=Partial(norms.l2),
    random=Partial(_random, eps, Partial(_noise_l2), project),
    sphere=Partial(_sphere, eps, Partial(_noise_l2), Partial(norms.l2), project),
  )


def l1(eps: float | Array, sparsity: float = 0.01) -> Geometry:
  """The ℓ1 ball: the absolute perturbations of all pixels sum to at most eps.

  The steepest ℓ1 step moves one pixel, which needs far too many steps. As in SLIDE, `steepest`
  moves the share `sparsity` of the pixels (at least one; more where gradients are equal) with the
  largest gradients, all by the same amount; given the iterate, only pixels that the box lets move.

  Args:
    eps: radius, one number or [B]; may be traced. Not checked here, see `build`.
    sparsity: share of the pixels that a step moves, in (0, 1]; SLIDE has 0.01.

  Returns:
    A `Geometry`. `project` is exact: the nearest point of ball and box.

  Raises:
    ValueError: if sparsity is not in (0, 1].

  References:
    Tramèr and Boneh 2019, arXiv:1904.13000 (SLIDE); Croce and Hein 2021, arXiv:2103.01208 (why the
    projection has to see the box).
  """
  if not 0 < sparsity <= 1:
    raise ValueError(f"sparsity must be a share of the pixels in (0, 1], got {sparsity}")
  eps = jnp.asarray(eps, jnp.float32)
  project = Partial(_project_l1, eps)
  return Geometry(
    eps=eps,
    project=project,
    steepest=Partial(_steepest_l1, jnp.float32(sparsity)),
    norm=Partial(norms.l1),
    random=Partial(_random, eps, Partial(_noise_l1), project),
    sphere=Partial(_sphere, eps, Partial(_noise_l1), Partial(norms.l1), project),
  )


GEOMETRIES = {"linf": linf, "l2": l2, "l1": l1}


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
  if not (isinstance(eps, Real) and math.isfinite(eps) and eps >= 0):
    raise ValueError(f"eps must be a finite number >= 0 (images are in [0, 1]), got {eps}")
  return GEOMETRIES[norm](eps)


def _random(
  eps: Array, noise: Callable[..., Array], project: Callable[..., Array], keys: Keys, x: Array
) -> Array:
  """The noise of a norm is uniform in its unit ball."""
  return project(x + expand(eps, x) * noise(keys, x), x)


def _sphere(
  eps: Array,
  noise: Callable[..., Array],
  norm: Callable[..., Array],
  project: Callable[..., Array],
  keys: Keys,
  x: Array,
) -> Array:
  delta = noise(keys, x)
  return project(x + expand(eps / norm(delta), x) * delta, x)


def _project_linf(eps: Array, x_adv: Array, x: Array) -> Array:
  radius = expand(eps, x)
  return jnp.clip(x_adv, jnp.maximum(x - radius, 0.0), jnp.minimum(x + radius, 1.0))


def _steepest_linf(gradient: Array, x_adv: Array | None = None) -> Array:
  del x_adv  # the box cuts the sign of every pixel by itself
  return jnp.sign(gradient)


def _noise_linf(keys: Keys, x: Array) -> Array:
  def noise(key: Key) -> Array:
    return jax.random.uniform(key, x.shape[1:], minval=-1.0, maxval=1.0)

  return jax.vmap(noise)(keys)


def _project_l2(eps: Array, x_adv: Array, x: Array) -> Array:
  largest = jnp.finfo(x.dtype).max
  unit, size = norms.unit_and_l2(jnp.clip(x_adv - x, -largest, largest))
  outside = expand(size > eps, x)
  return jnp.clip(jnp.where(outside, x + expand(eps, x) * unit, x_adv), 0.0, 1.0)


def _steepest_l2(gradient: Array, x_adv: Array | None = None) -> Array:
  del x_adv
  return norms.unit_and_l2(gradient)[0]


def _noise_l2(keys: Keys, x: Array) -> Array:
  size = math.prod(x.shape[1:])

  def noise(key: Key) -> Array:
    direction, radius = jax.random.split(key)
    # A share r of the radius holds r**size of the volume.
    share = jax.random.uniform(radius) ** (1.0 / size)
    return share * _steepest_l2(jax.random.normal(direction, (1, *x.shape[1:])))[0]

  return jax.vmap(noise)(keys)


def _project_l1(eps: Array, x_adv: Array, x: Array) -> Array:
  """The nearest point moves pixel i by clip(|u_i| − λ, 0, room_i), u = x_adv − x, λ >= 0.

  With w = max |u| − |u| that is clip(τ − w_i, 0, room_i), precise for a far x_adv too. The sum
  grows with τ.
  """
  highest = jnp.finfo(x.dtype).max
  # As rows: on CPUs the sums over three axes took 35 times as long.
  start, wanted = (jnp.reshape(v, (len(v), -1)) for v in (x, x_adv))
  move = jnp.clip(wanted - start, -highest, highest)
  room = jnp.where(move > 0, 1.0 - start, start)
  size = jnp.abs(move)
  top = jnp.max(size, axis=1)
  below = top[:, None] - size

  def shares(tau: Array) -> Array:
    return jnp.clip(tau[:, None] - below, 0.0, room)

  tau = largest_float(lambda tau: jnp.sum(shares(tau), axis=1) <= eps, top)
  nearest = jnp.clip(start + jnp.sign(move) * shares(tau), 0.0, 1.0)
  clipped = jnp.clip(wanted, 0.0, 1.0)
  inside = norms.l1(clipped - start) <= eps
  return jnp.reshape(jnp.where(inside[:, None], clipped, nearest), x.shape)


def _steepest_l1(sparsity: Array, gradient: Array, x_adv: Array | None = None) -> Array:
  if x_adv is not None:
    free = jnp.where(gradient > 0, x_adv < 1.0, x_adv > 0.0)
    gradient = jnp.where(free, gradient, 0.0)
  size = jnp.abs(gradient)
  count = jnp.maximum(sparsity * math.prod(gradient.shape[1:]), 1.0)

  least = kth_largest(size, count)
  signs = jnp.where(size >= expand(least, size), jnp.sign(gradient), 0.0)
  return signs / expand(jnp.maximum(norms.l1(signs), 1.0), signs)


def _noise_l1(keys: Keys, x: Array) -> Array:
  """Laplace noise over its absolute sum and one exponential draw more: uniform in the ball."""

  def noise(key: Key) -> Array:
    direction, rest = jax.random.split(key)
    laplace = jax.random.laplace(direction, x.shape[1:])
    return laplace / (jnp.sum(jnp.abs(laplace)) + jax.random.exponential(rest))

  return jax.vmap(noise)(keys)
