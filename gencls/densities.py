"""Log-densities in nats per example, every constant included, summed over the last axis."""

import math

import jax
import jax.numpy as jnp

from gencls.types import Array


def normal(x: Array, mean: Array, log_scale: Array) -> Array:
  """log N(x; mean, diag(exp(log_scale)²)), [..., D] -> [...]."""
  standard = (x - mean) * jnp.exp(-log_scale)
  return jnp.sum(-0.5 * standard**2 - log_scale - 0.5 * math.log(2 * math.pi), axis=-1)


def standard_normal(x: Array) -> Array:
  """log N(x; 0, I), [..., D] -> [...]."""
  return jnp.sum(-0.5 * x**2 - 0.5 * math.log(2 * math.pi), axis=-1)


def kl_to_standard_normal(mean: Array, log_scale: Array) -> Array:
  """KL(N(mean, diag(exp(log_scale)²)) ‖ N(0, I)) in closed form, [..., L] -> [...]."""
  return jnp.sum(0.5 * (mean**2 + jnp.exp(2 * log_scale) - 1) - log_scale, axis=-1)


def squared_error(x: Array, mean: Array) -> Array:
  """log N(x; mean, ½I) = −Σ(x − mean)² − (D/2) log π, [..., D] -> [...]."""
  return -jnp.sum((x - mean) ** 2, axis=-1) - 0.5 * x.shape[-1] * math.log(math.pi)


def bernoulli(x: Array, logits: Array) -> Array:
  """log Bernoulli(x; sigmoid(logits)), [..., D] -> [...]; a probability only for x in {0, 1}."""
  # log p = log_sigmoid(a), log(1 − p) = log_sigmoid(−a): finite at |a| = 100 and beyond.
  return jnp.sum(x * jax.nn.log_sigmoid(logits) + (1 - x) * jax.nn.log_sigmoid(-logits), axis=-1)


def categorical(one_hot: Array, logits: Array) -> Array:
  """log softmax(logits) at the class of a one-hot vector, [..., C] -> [...]."""
  return jnp.sum(one_hot * jax.nn.log_softmax(logits, axis=-1), axis=-1)
