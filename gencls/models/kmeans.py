"""k-means of one class, from a k-means++ start: where EM begins.

References:
  Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding"; of several
  candidates at each step the best is kept, as in scikit-learn.
"""

import functools
import math

import jax
import jax.numpy as jnp

from gencls.models.covariances import TINY
from gencls.models.products import product, squared_distances
from gencls.types import Array, Key


@functools.partial(jax.jit, static_argnames="num_clusters")
def plus_plus(key: Key, x: Array, weights: Array, num_clusters: int) -> Array:
  """Centres among the examples, each drawn in proportion to its squared distance to the others.

  Args:
    key: one key.
    x: [N, D], centred.
    weights: [N], 1 for examples and 0 for filling.
    num_clusters: M.

  Returns:
    [M, D].
  """
  num_trials = 2 + int(math.log(num_clusters))
  squares = jnp.sum(x**2, axis=1)

  def draw(key: Key, share: Array) -> Array:
    # By the inverse of the distribution function, at points in (0, 1]: none without a share is
    # drawn. Where all share is zero (as many centres as different examples), the first example.
    summed = jnp.cumsum(share)
    points = (1.0 - jax.random.uniform(key, (num_trials,))) * summed[-1]
    return jnp.minimum(jnp.searchsorted(summed, points), len(share) - 1)

  def add(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
    centres, nearest = state
    candidates = x[draw(jax.random.fold_in(key, index), nearest * weights)]
    closer = jnp.minimum(nearest[:, None], squared_distances(x, squares, candidates))
    best = jnp.argmin(product(weights, closer))
    return centres.at[index].set(candidates[best]), closer[:, best]

  first = x[draw(key, weights)[0]][None]
  centres = jnp.zeros((num_clusters, x.shape[1])).at[0].set(first[0])
  nearest = squared_distances(x, squares, first)[:, 0]
  return jax.lax.fori_loop(1, num_clusters, add, (centres, nearest))[0]


@jax.jit
def lloyd(x: Array, weights: Array, centres: Array) -> tuple[Array, Array]:
  """One iteration of Lloyd's: (assignments [N, M] one-hot, the centres of them [M, D])."""
  distances = squared_distances(x, jnp.sum(x**2, axis=1), centres)
  assigned = jax.nn.one_hot(jnp.argmin(distances, axis=1), len(centres)) * weights[:, None]
  count = jnp.sum(assigned, axis=0)[:, None]
  moved = product(assigned.T, x) / jnp.maximum(count, TINY)
  return assigned, jnp.where(count > 0, moved, centres)
