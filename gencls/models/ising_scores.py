"""Scores of spins on a lattice that need no partition function."""

import jax
import jax.numpy as jnp

from gencls.models.lattice import Couplings, edge_products, neighbour_field
from gencls.types import Array, Params


def log_pseudo_likelihood(params: Params, s: Array) -> Array:
  """Σ_i log p(s_i | s_neighbours), nats.

  Args:
    params: "unary" [..., H, W], "right" [..., H, W − 1], "down" [..., H − 1, W]: θ, of the rank of
      s.
    s: [..., H, W] of ±1.

  Returns:
    [...], with axes broadcast.
  """
  field = params["unary"] + neighbour_field(Couplings(params["right"], params["down"]), s)
  return jnp.sum(jax.nn.log_sigmoid(2 * s * field), axis=(-2, -1))


def discriminative_logits(params: Params, s: Array) -> Array:
  """−E(s, y) + b_y, [B, H, W] -> [B, C]: one matrix product with the pixels and their products."""
  products = edge_products(s)
  rows = lambda *parts: jnp.concatenate([a.reshape(len(a), -1) for a in parts], axis=1)  # noqa: E731
  features = rows(s, products.right, products.down)
  theta = rows(params["unary"], params["right"], params["down"])
  return features @ theta.T + params["bias"][None]
