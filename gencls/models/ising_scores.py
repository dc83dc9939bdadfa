"""Scores of spins on a lattice that need no partition function.

The gradient of log p(s_i | s_neighbours) at s_i = ±1 is that of a saturated sigmoid: it says little
about what another s_i does. `flip_secants` says just that, and `flip_log_pseudo_likelihoods` has
them as its derivative. −E is multilinear in the spins: there the gradient already is the secant.
"""

import jax
import jax.numpy as jnp

from gencls.models.lattice import Couplings, edge_products, edges, neighbour_field, neighbours
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
  return jnp.sum(_log_sigmoid(2 * s * _field(params, s)), axis=(-2, -1))


def flip_secants(params: Params, s: Array) -> Array:
  """½ [f(s_i = +1) − f(s_i = −1)] of the log pseudo-likelihood f, for every pixel i.

  With the field a_j at j and r_j = a_j − θ_ij s_i, what it is without s_i, they are

    a_i + Σ_j ½ [log σ(2 s_j (r_j + θ_ij)) − log σ(2 s_j (r_j − θ_ij))],   j the neighbours of i

  because only the conditionals of i and of its neighbours change, and log σ(2 a) − log σ(−2 a) is
  2 a.

  Args:
    params: as in `log_pseudo_likelihood`.
    s: [..., H, W] of ±1.

  Returns:
    [..., H, W], with axes broadcast.
  """
  field = _field(params, s)
  around = (edges(_couplings(params)), neighbours(field), neighbours(s))
  # log σ(u) = min(u, 0) − log(1 + exp(−|u|)): one logarithm of a ratio in [1/16, 16] does for all.
  twice, ratio = 2 * field, jnp.ones_like(field)
  for theta, field_j, s_j in zip(*around, strict=True):
    rest = field_j - theta * s
    bright, dark = 2 * s_j * (rest + theta), 2 * s_j * (rest - theta)
    twice += jnp.minimum(bright, 0) - jnp.minimum(dark, 0)
    ratio *= (1 + jnp.exp(-jnp.abs(dark))) / (1 + jnp.exp(-jnp.abs(bright)))
  return 0.5 * (twice + jnp.log(ratio))


def log_pseudo_likelihoods(params: Params, s: Array) -> Array:
  """Σ_i log p(s_i | s_neighbours, y) of every class y.

  Args:
    params: "unary" [C, H, W], "right" [C, H, W − 1], "down" [C, H − 1, W].
    s: [B, H, W] of ±1.

  Returns:
    [B, C].
  """
  return log_pseudo_likelihood(_every_class(params), s[:, None])


@jax.custom_vjp
def flip_log_pseudo_likelihoods(params: Params, s: Array) -> Array:
  """`log_pseudo_likelihoods`, bit for bit, with `flip_secants` as the derivative in s.

  The gradient in `params` is the true one. First order, reverse mode.
  """
  return log_pseudo_likelihoods(params, s)


def _forward(params: Params, s: Array) -> tuple[Array, tuple[Params, Array]]:
  return log_pseudo_likelihoods(params, s), (params, s)


def _backward(residuals: tuple[Params, Array], cotangent: Array) -> tuple[Params, Array]:
  params, s = residuals
  # Dropped under jit if not asked for.
  _, pullback = jax.vjp(lambda params: log_pseudo_likelihoods(params, s), params)
  secants = flip_secants(_every_class(params), s[:, None])
  return *pullback(cotangent), jnp.einsum("bc,bchw->bhw", cotangent, secants)


flip_log_pseudo_likelihoods.defvjp(_forward, _backward)


def discriminative_logits(params: Params, s: Array) -> Array:
  """−E(s, y) + b_y, [B, H, W] -> [B, C]: one matrix product with the pixels and their products."""
  products = edge_products(s)
  rows = lambda *parts: jnp.concatenate([a.reshape(len(a), -1) for a in parts], axis=1)  # noqa: E731
  features = rows(s, products.right, products.down)
  theta = rows(params["unary"], params["right"], params["down"])
  return features @ theta.T + params["bias"][None]


def _couplings(params: Params) -> Couplings:
  return Couplings(params["right"], params["down"])


def _every_class(params: Params) -> Params:
  """[C, ...] -> [1, C, ...], for spins [B, 1, H, W]."""
  return jax.tree.map(lambda theta: theta[None], params)


def _field(params: Params, s: Array) -> Array:
  """a_i = θ_i + Σ_j θ_ij s_j, half the log odds of s_i."""
  return params["unary"] + neighbour_field(_couplings(params), s)


def _log_sigmoid(u: Array) -> Array:
  """log σ(u). That of `jax.nn` branches for NaN, at twice the cost of the whole score."""
  return jnp.minimum(u, 0) - jnp.log1p(jnp.exp(-jnp.abs(u)))
