"""Every image against every centre or template, by one matrix product.

Nothing of the size [B, M, D] is ever made. Products are of float32 and not less: the difference of
large numbers is what counts, ‖x‖² − 2 x·c + ‖c‖², and what it loses is in proportion to ‖x‖².
"""

import functools

import jax
import jax.numpy as jnp
from jax.lax import Precision

from gencls.types import Array

TILE = 16  # columns of a matrix product, on CPUs

product = functools.partial(jnp.matmul, precision=Precision.HIGHEST)


def squared_distances(x: Array, squares: Array, centres: Array) -> Array:
  """‖x − c‖², [B, D], its [B] and [M, D] -> [B, M]; CPUs multiply whole tiles quicker."""
  missing = -len(centres) % TILE
  products = product(x, jnp.pad(centres, ((0, missing), (0, 0))).T)[:, : len(centres)]
  return jnp.maximum(squares[:, None] + jnp.sum(centres**2, axis=1)[None] - 2 * products, 0.0)


def bernoulli(x: Array, logits: Array) -> Array:
  """log Bernoulli(x; sigmoid(logits)), [B, D] and [M, D] -> [B, M]: Σ x a + Σ log(1 − σ(a))."""
  return product(x, logits.T) + jnp.sum(jax.nn.log_sigmoid(-logits), axis=1)[None]
