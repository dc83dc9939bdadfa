"""Counts, means and variances of every class, in one pass over the data.

Blocks are merged by the differences of their means, not by sums of squares: nothing is lost to
cancellation where a variance is small beside its mean.

References:
  Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
  variances".
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import Precision

from gencls.models.fitting import blocks
from gencls.types import Array


class ClassMoments(NamedTuple):
  """Of each class and pixel."""

  num_examples: Array  # [C, 1]
  mean: Array  # [C, D]
  squares: Array  # [C, D], Σ (x − mean)²

  def variance(self) -> Array:
    """[C, D], the maximum of the likelihood; zero for a class without examples."""
    return self.squares / jnp.maximum(self.num_examples, 1)


def of_block(x: Array, weights: Array) -> ClassMoments:
  """The moments of one block.

  Args:
    x: [B, D].
    weights: [B, C], how much of each example a class gets: one-hot labels.
  """
  per_class = weights.T
  count = jnp.sum(per_class, axis=1, keepdims=True)
  mean = jnp.matmul(per_class, x, precision=Precision.HIGHEST) / jnp.maximum(count, 1)
  centred = x - jnp.matmul(weights, mean, precision=Precision.HIGHEST)
  return ClassMoments(count, mean, jnp.matmul(per_class, centred**2, precision=Precision.HIGHEST))


def merged(a: ClassMoments, b: ClassMoments) -> ClassMoments:
  """The moments of both blocks together."""
  count = a.num_examples + b.num_examples
  difference, share = b.mean - a.mean, b.num_examples / jnp.maximum(count, 1)
  squares = a.squares + b.squares + difference**2 * a.num_examples * share
  return ClassMoments(count, a.mean + difference * share, squares)


def class_moments(
  x: Array, y: Array, num_classes: int, transform: Callable[[Array], Array]
) -> ClassMoments:
  """The moments of a whole split.

  Args:
    x: [N, H, W, D] images.
    y: [N] labels.
    num_classes: C.
    transform: what is done to the images first.

  Returns:
    `ClassMoments` of the flattened images.
  """

  @jax.jit
  def add(total: ClassMoments, x: Array, y: Array, weight: Array) -> ClassMoments:
    one_hot = jax.nn.one_hot(y, num_classes) * weight[:, None]
    return merged(total, of_block(transform(x.reshape(len(x), -1)), one_hot))

  pixels = x[:1].size
  zeros = jnp.zeros((num_classes, pixels))
  total = ClassMoments(jnp.zeros((num_classes, 1)), zeros, zeros)
  for block in blocks(x, y):
    total = add(total, *block)
  return total
