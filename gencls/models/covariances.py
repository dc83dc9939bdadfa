"""Normal components by the shape of their covariance: the density, and both steps of EM.

The names are values of the option `covariance` of the mixture. M components have their parameters
stacked along the leading axis. ‖x − μ‖² comes from matrix products, ‖x‖² − 2 x·μ + ‖μ‖², which is
why x must be centred: what float32 loses is in proportion to ‖x‖². Where pixels have precisions of
their own it loses as much more as the largest one: see `diagonal_log_density`.

References:
  Dempster, Laird and Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm".
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gencls.models.products import product, squared_distances
from gencls.types import Array, Key, Params

LOG_2_PI = math.log(2 * math.pi)
TINY = 1e-6  # examples, added to a component's: an empty one keeps finite parameters


class Covariance(NamedTuple):
  """Components with one shape of covariance; params always hold "mean" [M, D]."""

  # (x [B, D]) -> what of x the density and the statistics read, computed once; B leads
  features: Callable[[Array], dict[str, Array]]
  # (params, features, G) -> [B, M] nats, of components in G equal groups of similar ones: classes
  log_density: Callable[[Params, Any, int], Array]
  # (params, features, weights [B, M]) -> sums over the examples
  statistics: Callable[[Params, Any, Array], dict[str, Array]]
  maximize: Callable[[Params, Any, Any], Params]  # (params, sums, reg_covar) -> params
  start: Callable[[Key, Array, Any], Params]  # (key, means [M, D], scale) -> params
  noise: Callable[[Key, Params], Array]  # (key, params of one component) -> draw of x − μ, [D]


def _spherical() -> Covariance:
  """σ² I."""

  def features(x: Array) -> dict[str, Array]:
    return {"x": x, "square": jnp.sum(x**2, axis=1, keepdims=True)}

  def log_density(params: Params, of_x: Any, num_groups: int) -> Array:
    del num_groups
    mean, log_scale = params["mean"], params["log_scale"][None]
    distance = squared_distances(of_x["x"], of_x["square"][:, 0], mean) * jnp.exp(-2 * log_scale)
    return -0.5 * distance - mean.shape[1] * (log_scale + 0.5 * LOG_2_PI)

  def maximize(params: Params, sums: Any, reg_covar: Any) -> Params:
    del params
    count = sums["count"] + TINY
    mean = sums["x"] / count[:, None]
    variance = (sums["square"][:, 0] / count - jnp.sum(mean**2, axis=1)) / mean.shape[1]
    return {"mean": mean, "log_scale": 0.5 * jnp.log(jnp.maximum(variance, 0.0) + reg_covar)}

  def start(key: Key, mean: Array, scale: Any) -> Params:
    del key
    return {"mean": mean, "log_scale": jnp.log(scale) * jnp.ones(len(mean))}

  statistics = weighted_sums("x", "square")
  return Covariance(features, log_density, statistics, maximize, start, _scaled_noise)


def _diagonal() -> Covariance:
  """diag(σ_1², …, σ_D²)."""

  def maximize(params: Params, sums: Any, reg_covar: Any) -> Params:
    del params
    count = (sums["count"] + TINY)[:, None]
    mean = sums["x"] / count
    variance = jnp.maximum(sums["squares"] / count - mean**2, 0.0)
    return {"mean": mean, "log_scale": 0.5 * jnp.log(variance + reg_covar)}

  def start(key: Key, mean: Array, scale: Any) -> Params:
    del key
    return {"mean": mean, "log_scale": jnp.log(scale) * jnp.ones_like(mean)}

  statistics = weighted_sums("x", "squares")
  return Covariance(with_squares, diagonal_log_density, statistics, maximize, start, _scaled_noise)


def _full() -> Covariance:
  """Any, by the upper Cholesky factor P of the precision, Σ⁻¹ = P Pᵀ."""

  def log_density(params: Params, of_x: Any, num_groups: int) -> Array:
    del num_groups
    mean, factor = params["mean"], jnp.triu(params["precision_cholesky"])
    components, size = mean.shape
    whitened = product(of_x["x"], jnp.moveaxis(factor, 0, 1).reshape(size, -1))
    whitened = whitened.reshape(-1, components, size) - product(mean[:, None], factor)[None, :, 0]
    log_det = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor, axis1=1, axis2=2))), axis=1)
    return -0.5 * (jnp.sum(whitened**2, axis=2) + size * LOG_2_PI) + log_det[None]

  def statistics(params: Params, of_x: Any, weights: Array) -> dict[str, Array]:
    x, sums = of_x["x"], weighted_sums("x")(params, of_x, weights)
    weighted = weights.T[:, :, None] * x[None]  # [M, B, D]
    return sums | {"outer": product(jnp.moveaxis(weighted, 1, 2), x[None])}

  def maximize(params: Params, sums: Any, reg_covar: Any) -> Params:
    del params
    count = sums["count"] + TINY
    mean = sums["x"] / count[:, None]
    covariance = sums["outer"] / count[:, None, None] - mean[:, :, None] * mean[:, None]
    return {"mean": mean, "precision_cholesky": precision_cholesky(covariance, reg_covar)}

  def start(key: Key, mean: Array, scale: Any) -> Params:
    del key
    eye = jnp.eye(mean.shape[1])[None] / scale
    return {"mean": mean, "precision_cholesky": jnp.repeat(eye, len(mean), axis=0)}

  def noise(key: Key, params: Params) -> Array:
    draw = jax.random.normal(key, params["mean"].shape)
    factor = jnp.triu(params["precision_cholesky"])
    return jax.scipy.linalg.solve_triangular(factor, draw, trans="T", lower=False)

  return Covariance(lambda x: {"x": x}, log_density, statistics, maximize, start, noise)


def precision_cholesky(covariance: Array, reg_covar: Any = 0.0) -> Array:
  """The upper triangular P of (Σ + reg_covar I)⁻¹ = P Pᵀ, [M, D, D] -> [M, D, D]."""
  eye = jnp.broadcast_to(jnp.eye(covariance.shape[-1])[None], covariance.shape)
  lower = jnp.linalg.cholesky(covariance + reg_covar * eye)
  inverse = jax.scipy.linalg.solve_triangular(lower, eye, lower=True)
  return jnp.swapaxes(inverse, 1, 2)


def diagonal_log_density(params: Params, of_x: Any, num_groups: int) -> Array:
  """log N(x; μ_m, diag(σ_m²)) of every component, [B, M].

  The matrix products cancel, and most where the precision p is largest: at pixels that are constant
  in a whole class. With a precision s <= p and a centre c for all components of a group,

    p (x − μ)² = s (x − c)² + (p − s) x² − 2 [(p − s) μ + s (μ − c)] x + (p − s) μ² + s (μ² − c²)

  holds for any s and c, and at such pixels p = s and μ = c leave the first term alone, which is
  computed as it stands.
  """
  mean, log_scale, x = params["mean"], params["log_scale"], of_x["x"]
  precision = jnp.exp(-2 * log_scale)
  groups = lambda leaf: jax.lax.stop_gradient(leaf.reshape(num_groups, -1, leaf.shape[1]))  # noqa: E731
  s, c = jnp.min(groups(precision), axis=1), jnp.mean(groups(mean), axis=1)  # [G, D]
  first = jnp.sum(s[None] * (x[:, None] - c[None]) ** 2, axis=2)  # [B, G]
  s, c = (jnp.repeat(leaf, len(mean) // num_groups, axis=0) for leaf in (s, c))
  rest, shift = precision - s, s * (mean - c)
  distance = product(of_x["squares"], rest.T) - 2 * product(x, (rest * mean + shift).T)
  distance += jnp.sum(rest * mean**2 + shift * (mean + c), axis=1)[None]
  distance += jnp.repeat(first, len(mean) // num_groups, axis=1)
  distance = jnp.maximum(distance, 0.0)
  return -0.5 * (distance + mean.shape[1] * LOG_2_PI) - jnp.sum(log_scale, axis=1)[None]


def with_squares(x: Array) -> dict[str, Array]:
  """The features of covariances with a diagonal: x and x² of each pixel."""
  return {"x": x, "squares": x**2}


def weighted_sums(*names: str) -> Callable[[Params, Any, Array], dict[str, Array]]:
  """The statistics that are weighted sums of these features."""

  def statistics(params: Params, of_x: Any, weights: Array) -> dict[str, Array]:
    del params
    sums = {name: product(weights.T, of_x[name]) for name in names}
    return sums | {"count": jnp.sum(weights, axis=0)}

  return statistics


def _scaled_noise(key: Key, params: Params) -> Array:
  return jnp.exp(params["log_scale"]) * jax.random.normal(key, params["mean"].shape)


SPHERICAL, DIAGONAL, FULL = _spherical(), _diagonal(), _full()
