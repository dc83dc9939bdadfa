"""Normal components of covariance Λ Λᵀ + Ψ: few factors for many pixels, Ψ diagonal.

x = μ + Λ z + noise with z ~ N(0, I_L). With Ψ⁻¹Λ = A and RRᵀ = I + ΛᵀΨ⁻¹Λ (Cholesky), the vector
v = R⁻¹ Aᵀ (x − μ) has all that is needed: the quadratic form is that of Ψ alone less ‖v‖², and
p(z | x) = N(R⁻ᵀ v, R⁻ᵀ R⁻¹). EM works on Rᵀz, whose posterior N(v, I) needs no inverse.

References:
  Ghahramani and Hinton 1996, "The EM algorithm for mixtures of factor analyzers". Differs from it:
  every component has its own Ψ.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gencls.models.covariances import (
  TINY,
  Covariance,
  diagonal_log_density,
  weighted_sums,
  with_squares,
)
from gencls.models.products import product
from gencls.types import Array, Key, Params


@functools.cache  # one object per size: what is compiled for it serves every fit
def factor_analyser(latent_size: int) -> Covariance:
  """Components with `latent_size` factors each."""

  def log_density(params: Params, of_x: Any, num_groups: int) -> Array:
    factor, lower = _projection(params)
    log_det = jnp.sum(jnp.log(jnp.diagonal(lower, axis1=1, axis2=2)), axis=1)
    explained = jnp.sum(_project(params, factor, of_x["x"]) ** 2, axis=2)
    return diagonal_log_density(params, of_x, num_groups) + 0.5 * explained - log_det[None]

  def statistics(params: Params, of_x: Any, weights: Array) -> dict[str, Array]:
    factor, _ = _projection(params)
    v = _project(params, factor, of_x["x"])
    weighted = weights[:, :, None] * v  # [B, M, L]
    xv = product(of_x["x"].T, weighted.reshape(len(v), -1)).reshape(-1, *v.shape[1:])
    outer = product(jnp.moveaxis(weighted, 0, 2), jnp.moveaxis(v, 0, 1))  # [M, L, L]
    sums = weighted_sums("x", "squares")(params, of_x, weights)
    return sums | {"v": jnp.sum(weighted, axis=0), "xv": jnp.moveaxis(xv, 1, 0), "vv": outer}

  def maximize(params: Params, sums: Any, reg_covar: Any) -> Params:
    """The regression of x on [v, 1]: [ΛR⁻ᵀ, μ] = E[x [v, 1]ᵀ] E[[v, 1] [v, 1]ᵀ]⁻¹."""
    _, lower = _projection(params)
    count = (sums["count"] + TINY)[:, None, None]
    eye = jnp.eye(latent_size)[None]
    column = sums["v"][:, :, None]
    gram = jnp.block([[sums["vv"] + count * eye, column], [jnp.swapaxes(column, 1, 2), count]])
    cross = jnp.concatenate([sums["xv"], sums["x"][:, :, None]], axis=2)  # [M, D, L + 1]
    slope = jnp.linalg.solve(gram / count, jnp.swapaxes(cross / count, 1, 2))
    slope = jnp.swapaxes(slope, 1, 2)
    variance = sums["squares"] / count[:, :, 0] - jnp.sum(slope * cross / count, axis=2)
    return {
      "mean": slope[:, :, -1],
      "loadings": product(slope[:, :, :-1], jnp.swapaxes(lower, 1, 2)),
      "log_scale": 0.5 * jnp.log(jnp.maximum(variance, 0.0) + reg_covar),
    }

  def start(key: Key, mean: Array, scale: Any) -> Params:
    # Small, random: the first step regresses x on random projections of itself.
    loadings = 0.1 * scale * jax.random.normal(key, (*mean.shape, latent_size))
    log_scale = jnp.log(scale) * jnp.ones_like(mean)
    return {"mean": mean, "loadings": loadings, "log_scale": log_scale}

  def noise(key: Key, params: Params) -> Array:
    keys = jax.random.split(key)
    z = jax.random.normal(keys[0], (latent_size,))
    own = jax.random.normal(keys[1], params["mean"].shape)
    return product(params["loadings"], z) + jnp.exp(params["log_scale"]) * own

  return Covariance(with_squares, log_density, statistics, maximize, start, noise)


def _projection(params: Params) -> tuple[Array, Array]:
  """(A R⁻ᵀ [M, D, L], R [M, L, L])."""
  loadings = params["loadings"]
  scaled = loadings * jnp.exp(-2 * params["log_scale"])[:, :, None]
  gram = product(jnp.swapaxes(loadings, 1, 2), scaled)
  lower = jnp.linalg.cholesky(gram + jnp.eye(gram.shape[-1])[None])
  factor = jax.scipy.linalg.solve_triangular(lower, jnp.swapaxes(scaled, 1, 2), lower=True)
  return jnp.swapaxes(factor, 1, 2), lower


def _project(params: Params, factor: Array, x: Array) -> Array:
  """v of every example and component, [B, M, L]."""
  components, size, latents = factor.shape
  flat = jnp.moveaxis(factor, 0, 1).reshape(size, -1)
  offset = product(params["mean"][:, None], factor)[:, 0]
  return product(x, flat).reshape(-1, components, latents) - offset[None]
