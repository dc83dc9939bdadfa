"""The 4-neighbour lattice of an image's pixels, as the Ising models need it.

Spins are s_i in [−1, 1], [..., H, W]. Only edges that exist are there: pixels at the border have
three neighbours, those in a corner two. Pixels of one colour of the chequerboard are no neighbours
of each other, so that all of them can be updated at once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gencls.types import Array, Keys


class Couplings(NamedTuple):
  """θ_ij of the edges, of the rank of the spins; axes of size 1 broadcast."""

  right: Array  # [..., H, W - 1], between a pixel and the one to its right
  down: Array  # [..., H - 1, W], between a pixel and the one below


# (colour 0 or 1, field a [..., H, W], spins [..., H, W]) -> new spins [..., H, W]
Update = Callable[[int, Array, Array], Array]


def check_one_channel(image_shape: Sequence[int], who: str) -> None:
  """Raises ValueError for images [..., H, W, D] of several channels."""
  if image_shape[-1] != 1:
    raise ValueError(
      f"{who} has one spin for each pixel and needs images of shape (H, W, 1), got "
      f"{tuple(image_shape)}: turn colours into grey levels first"
    )


def uniform(beta: float | Array, rank: int) -> Couplings:
  """The same θ_ij = beta on all edges."""
  both = jnp.full((1,) * rank, beta, jnp.float32)
  return Couplings(both, both)


def edge_products(s: Array) -> Couplings:
  """s_i s_j of the edges."""
  return Couplings(s[..., :, :-1] * s[..., :, 1:], s[..., :-1, :] * s[..., 1:, :])


def neighbours(values: Array) -> tuple[Array, Array, Array, Array]:
  """The values to the right, to the left, below and above each pixel, 0 off the image.

  [..., H, W] each.
  """
  padded = jnp.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)])
  return (
    padded[..., 1:-1, 2:],
    padded[..., 1:-1, :-2],
    padded[..., 2:, 1:-1],
    padded[..., :-2, 1:-1],
  )


def edges(couplings: Couplings) -> tuple[Array, Array, Array, Array]:
  """θ_ij in the order of `neighbours`: to a pixel off the image, whose spin is 0, any number."""

  def pad(theta: Array, axis: int, before: int) -> Array:
    if theta.shape[axis] == 1:  # broadcasts
      return theta
    width = [(0, 0)] * theta.ndim
    width[axis] = (before, 1 - before)
    return jnp.pad(theta, width)

  return (
    pad(couplings.right, -1, 0),
    pad(couplings.right, -1, 1),
    pad(couplings.down, -2, 0),
    pad(couplings.down, -2, 1),
  )


def neighbour_field(couplings: Couplings, s: Array) -> Array:
  """Σ_j θ_ij s_j over the neighbours of each pixel, [..., H, W]."""
  # Spins are moved, not products: of many classes they are the same, and padding is slow.
  right, left, below, above = (
    theta * s_j for theta, s_j in zip(edges(couplings), neighbours(s), strict=True)
  )
  return right + left + below + above


def energy(couplings: Couplings, external: Array, s: Array) -> Array:
  """E(s) = −Σ_i h_i s_i − Σ_<ij> θ_ij s_i s_j, [..., H, W] -> [...]."""
  products = edge_products(s)
  total = lambda values: jnp.sum(values, axis=(-2, -1))  # noqa: E731
  return -(
    total(external * s)
    + total(couplings.right * products.right)
    + total(couplings.down * products.down)
  )


def sweep(couplings: Couplings, external: Array, s: Array, update: Update) -> Array:
  """Updates every spin once: one colour of the chequerboard, then the other.

  Args:
    couplings: θ_ij.
    external: h_i, [..., H, W].
    s: [..., H, W].
    update: gives the new spins from the field a_i = h_i + Σ_j θ_ij s_j.

  Returns:
    [..., H, W].
  """
  rows, columns = (jax.lax.broadcasted_iota(jnp.int32, s.shape, s.ndim - 2 + i) for i in (0, 1))
  for colour in (0, 1):
    field = external + neighbour_field(couplings, s)
    s = jnp.where((rows + columns) % 2 == colour, update(colour, field, s), s)
  return s


def gibbs_update(keys: Keys) -> Update:
  """Draws s_i = ±1 from p(s_i = 1 | neighbours) = sigmoid(2 a_i); one key per example, axis 0."""

  def update(colour: int, field: Array, s: Array) -> Array:
    folded = jax.vmap(lambda key: jax.random.fold_in(key, colour))(keys)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, s.shape[1:]))(folded)
    return jnp.where(uniform < jax.nn.sigmoid(2 * field), 1.0, -1.0).astype(s.dtype)

  return update
