"""Expectation-maximisation of one mixture of normals, streamed over blocks of examples."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gencls.models.covariances import TINY, Covariance
from gencls.models.kmeans import lloyd, plus_plus
from gencls.models.products import product
from gencls.types import Array, Key, Params


class Blocks(NamedTuple):
  """The examples of one mixture, in blocks of equal size, the last filled up."""

  of_x: Any  # features of x, each [N, b, …]
  weights: Array  # [N, b], 1 for examples and 0 for filling


def log_joint(covariance: Covariance, params: Params, of_x: Any) -> Array:
  """log π_m + log N(x; μ_m, Σ_m), [B, M]; "log_weights" [M] are normalised here."""
  log_weights = jax.nn.log_softmax(params["log_weights"])
  return log_weights[None] + covariance.log_density(params, of_x, 1)


@jax.jit
def weighted_mean(x: Array, weights: Array) -> Array:
  """The mean of the examples, without the filling, [N, D] -> [D]."""
  return product(weights, x) / jnp.sum(weights)


@functools.partial(jax.jit, static_argnames=("covariance", "block"))
def in_blocks(x: Array, weights: Array, *, covariance: Covariance, block: int) -> Blocks:
  """The features of the examples [N·b, D], computed once for all iterations."""
  split = lambda leaf: leaf.reshape(-1, block, *leaf.shape[1:])  # noqa: E731
  return Blocks(jax.tree.map(split, covariance.features(x)), split(weights))


@functools.partial(jax.jit, static_argnames="covariance")
def em_step(
  params: Params, data: Blocks, reg_covar: Any, *, covariance: Covariance
) -> tuple[Params, Array]:
  """One iteration: the next parameters, and the mean log-likelihood of the given ones.

  Args:
    params: of M components: "log_weights" [M] and those of the covariance.
    data: the examples.
    reg_covar: added to the diagonal of every covariance.
    covariance: its shape.

  Returns:
    (params, nats per example).
  """

  def expectation(of_x: Any, weights: Array) -> tuple[Any, Array]:
    terms = log_joint(covariance, params, of_x)
    largest = jnp.max(terms, axis=1)
    shares = jnp.exp(terms - largest[:, None])  # once, for the likelihood and responsibilities
    total = jnp.sum(shares, axis=1)
    responsibilities = shares * (weights / total)[:, None]
    sums = covariance.statistics(params, of_x, responsibilities)
    return sums, jnp.sum((largest + jnp.log(total)) * weights)

  sums, log_lik = _summed(expectation, data.of_x, data.weights)
  maximized = _maximized(params, sums, reg_covar, covariance)
  return maximized, log_lik / jnp.sum(data.weights)


@functools.partial(jax.jit, static_argnames="covariance")
def from_assignments(
  params: Params, data: Blocks, assigned: Array, reg_covar: Any, *, covariance: Covariance
) -> Params:
  """The parameters of components that each have the examples assigned to them, [N·b, M]."""
  parts = assigned.reshape(*data.weights.shape, -1)
  sums = _summed(lambda of_x, part: covariance.statistics(params, of_x, part), data.of_x, parts)
  return _maximized(params, sums, reg_covar, covariance)


def _maximized(params: Params, sums: Any, reg_covar: Any, covariance: Covariance) -> Params:
  weights = sums["count"] + TINY
  log_weights = jnp.log(weights / jnp.sum(weights))
  return covariance.maximize(params, sums, reg_covar) | {"log_weights": log_weights}


def _summed(part: Any, *blocks: Any) -> Any:
  """Σ part(block) over the leading axis, one block at a time."""
  if jax.tree.leaves(blocks)[0].shape[0] == 1:
    return part(*jax.tree.map(lambda leaf: leaf[0], blocks))
  zeros = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(lambda blocks: part(*jax.tree.map(lambda leaf: leaf[0], blocks)), blocks),
  )
  add = lambda total, block: (jax.tree.map(jnp.add, total, part(*block)), None)  # noqa: E731
  return jax.lax.scan(add, zeros, blocks)[0]


class Mixture(NamedTuple):
  """A fitted mixture."""

  params: Params
  log_lik: float  # nats per example, of the parameters before the last iteration
  iterations: int
  converged: bool  # the last iteration gained less than `tol`


def start(
  key: Key,
  x: Array,
  weights: Array,
  data: Blocks,
  reg_covar: float,
  *,
  covariance: Covariance,
  num_components: int,
  kmeans_iterations: int,
) -> Params:
  """The components of the clusters that k-means finds."""
  keys = jax.random.split(key)
  centres = plus_plus(keys[0], x, weights, num_components)
  assigned, centres = lloyd(x, weights, centres)
  for _ in range(kmeans_iterations):
    assigned, centres = lloyd(x, weights, centres)
  blank = covariance.start(keys[1], jnp.zeros_like(centres), 1.0)
  return from_assignments(blank, data, assigned, reg_covar, covariance=covariance)


def maximize_likelihood(
  params: Params,
  data: Blocks,
  reg_covar: float,
  *,
  covariance: Covariance,
  tol: float,
  max_iterations: int,
) -> Mixture:
  """EM until an iteration gains less than `tol` nats per example.

  Raises:
    FloatingPointError: if the likelihood is not finite.
  """
  log_lik, previous, iteration, converged = -jnp.inf, -jnp.inf, 0, False
  for iteration in range(1, max_iterations + 1):
    params, value = em_step(params, data, reg_covar, covariance=covariance)
    log_lik = float(value)
    if not jnp.isfinite(log_lik):
      raise FloatingPointError(
        f"EM's log-likelihood is {log_lik} in iteration {iteration}: a covariance is singular in "
        f"float32, raise reg_covar ({reg_covar:g})"
      )
    converged = abs(log_lik - previous) < tol
    if converged:
      break
    previous = log_lik
  return Mixture(params, float(log_lik), iteration, converged)
