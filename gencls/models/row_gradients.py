"""Gradients of a scalar per row, taken in the forward pass.

log p(x | y, z) is one number per row (x, y, z), so its cotangent only scales the row's gradient:
that can be computed at once, while the row's activations are at hand. Reverse mode otherwise keeps
all activations of all rows, or computes them again: 20 times the memory of the two gradients at
MNIST size, or half as many operations again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gencls.types import Array

RowFn = Callable[[Any, Array, Array], Array]


def row_gradients(f: RowFn) -> RowFn:
  """`f` with the same value and gradients, those in x and z taken in the forward pass.

  For gradients in x and z, which attacks need; a gradient in `rest` (parameters) is right too, but
  computes f once more. First order, reverse mode.

  Args:
    f: (rest, x [b, 1, 1, P], z [b, M, k, L]) -> [b, M, k], row by row; `rest` is a pytree.

  Returns:
    A function of the same arguments.
  """

  @jax.custom_vjp
  def value(rest: Any, x: Array, z: Array) -> Array:
    return f(rest, x, z)

  def forward(rest: Any, x: Array, z: Array) -> tuple[Array, Any]:
    rows = jnp.broadcast_to(x, (*z.shape[:-1], x.shape[-1]))
    out, pullback = jax.vjp(lambda rows, z: f(rest, rows, z), rows, z)
    return out, (rest, x, z, *pullback(jnp.ones_like(out)))

  def backward(residuals: Any, cotangent: Array) -> tuple[Any, Array, Array]:
    rest, x, z, grad_x, grad_z = residuals
    _, pullback = jax.vjp(lambda rest: f(rest, x, z), rest)  # dropped under jit if not asked for
    grad_x = jnp.einsum("bmk,bmkp->bp", cotangent, grad_x)[:, None, None]
    return *pullback(cotangent), grad_x, cotangent[..., None] * grad_z

  value.defvjp(forward, backward)
  return value
