"""Fitting Ising classifiers by L-BFGS, one minimum for each candidate penalty.

A pixel, its four neighbours and the class are all that a conditional p(s_i | s_neighbours, y) sees:
2⁵ patterns. The numbers of images with each pattern at each pixel are sufficient statistics of the
pseudo-likelihood, so that one pass over the images is all it takes, and an iteration costs the same
for any number of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls import densities
from gencls.models import fitting
from gencls.models.ising_scores import discriminative_logits
from gencls.models.lattice import Couplings, edges
from gencls.models.lbfgs import minimise
from gencls.types import Array, FitData, Fitted, Key, Params

PIECE = 2000  # images at once
TOLERANCE = 3e-4  # of the gradient of the mean over images, nats
# s_j of the 16 patterns of neighbours, these in the order of `lattice.neighbours`, [16, 4]
NEIGHBOURS = 2.0 * ((np.arange(16)[:, None] >> np.arange(4)) & 1) - 1


class Settings(NamedTuple):
  """Of a fit."""

  l2: tuple[float, ...]  # candidates of the penalty of couplings
  unary_l2: float
  max_iterations: int


def fitter(
  settings: Settings,
  init: Callable[[Key, Array, Array], Params],
  logits: Callable[[Params, Array], Array],
  spins: Callable[[Array], Array],
  *,
  generative: bool,
) -> Callable[[Key, FitData], Fitted]:
  """The `fit` of an Ising classifier.

  Args:
    settings: what is tried.
    init: of the classifier.
    logits: (params, spins [B, H, W]) -> [B, C].
    spins: x [B, H, W, 1] -> s [B, H, W].
    generative: by pseudo-likelihood; else by the cross-entropy.

  Returns:
    (key, data) -> fitted. The objectives are convex: the key is not used.
  """
  objective = pseudo_likelihood_objective if generative else cross_entropy_objective

  def fit(key: Key, data: FitData) -> Fitted:
    start = init(key, data.x[:1], data.y[:1])
    num_classes = len(start["unary"])
    fitting.class_counts(data.y, num_classes)
    statistics = (
      pattern_counts(spins, data.x, data.y, num_classes)
      if generative
      else _pieces(spins, data.x, data.y)
    )

    def minimum(params: Params, l2: float) -> Fitted:
      penalties = jnp.asarray([settings.unary_l2, l2]) / len(data.x)
      limits = {"max_iterations": settings.max_iterations, "tolerance": TOLERANCE}
      found = minimise(objective, params, statistics, penalties, **limits)
      return Fitted(found.params, found.metrics() | {"objective_nats": found.value})

    candidates = fitting.penalty_path(minimum, start, settings.l2)
    axes = lambda _: {"l2": settings.l2}  # noqa: E731
    return fitting.most_accurate(
      candidates, lambda p, keys, x: logits(p, spins(x)), data, axes=axes
    )

  return fit


def pattern_counts(
  spins: Callable[[Array], Array], x: Array, y: Array, num_classes: int
) -> np.ndarray:
  """How often each pattern is seen at each pixel of each class.

  Args:
    spins: x [B, H, W, 1] -> s [B, H, W].
    x: [N, H, W, 1].
    y: [N].
    num_classes: C.

  Returns:
    [C, H, W, 16, 2] float32: the patterns of neighbours are the rows of `NEIGHBOURS` (a neighbour
    off the image counts as −1, its coupling is 0); last the pixel itself, −1 or +1. Divided by N.
  """
  height, width = x.shape[1:3]
  counts = np.zeros(num_classes * height * width * 32)
  pixel = np.arange(height * width).reshape(height, width)
  for i in range(0, len(x), PIECE):
    on = np.asarray(spins(x[i : i + PIECE])) > 0
    p = np.pad(on, ((0, 0), (1, 1), (1, 1))).astype(np.int64)
    around = (p[:, 1:-1, 2:], p[:, 1:-1, :-2], p[:, 2:, 1:-1], p[:, :-2, 1:-1])
    pattern = sum(bits << k for k, bits in enumerate(around))
    label = np.asarray(y[i : i + PIECE])[:, None, None]
    index = ((label * height * width + pixel) * 16 + pattern) * 2 + on
    counts += np.bincount(index.ravel(), minlength=counts.size)
  return (counts / len(x)).astype(np.float32).reshape(num_classes, height, width, 16, 2)


def pseudo_likelihood_objective(params: Params, counts: Array, penalties: Array) -> Array:
  """Mean −Σ_i log p(s_i | s_neighbours, y) over the images, and the penalty.

  Args:
    params: of the classifier.
    counts: from `pattern_counts`.
    penalties: [2] λ of the θ_i and of the θ_ij, divided by the number of images.
  """
  couplings = Couplings(params["right"], params["down"])
  around = jnp.stack(edges(couplings), axis=-1)  # 0 where there is no neighbour
  field = params["unary"][..., None] + around @ jnp.asarray(NEIGHBOURS.T, jnp.float32)
  log_p = jnp.stack([jax.nn.log_sigmoid(-2 * field), jax.nn.log_sigmoid(2 * field)], axis=-1)
  return _penalty(params, penalties) - jnp.sum(counts * log_p)


def cross_entropy_objective(
  params: Params, pieces: tuple[Array, Array, Array], penalties: Array
) -> Array:
  """Mean −log p(y | s) over the images, and the penalty; piece by piece."""

  @jax.checkpoint  # the products of the pixels are cheaper made again than kept
  def piece(total: Array, some: tuple[Array, Array, Array]) -> tuple[Array, None]:
    s, y, weight = some
    logits = discriminative_logits(params, s.astype(jnp.float32))
    log_p = densities.categorical(jax.nn.one_hot(y, logits.shape[-1]), logits)
    return total - jnp.sum(weight * log_p), None

  total, _ = jax.lax.scan(piece, jnp.float32(0), pieces)
  return _penalty(params, penalties) + total


def _penalty(params: Params, penalties: Array) -> Array:
  square = lambda name: 0.5 * jnp.sum(params[name] ** 2)  # noqa: E731
  return penalties[0] * square("unary") + penalties[1] * (square("right") + square("down"))


def _pieces(
  spins: Callable[[Array], Array], x: Array, y: Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Spins (int8), labels and weights (1 / N, 0 for padding) in pieces of equal size."""
  num = len(x)
  size = min(PIECE, num)
  s = np.concatenate(
    [np.asarray(spins(x[i : i + size])).astype(np.int8) for i in range(0, num, size)]
  )

  def pad(a: np.ndarray) -> np.ndarray:
    padded = np.pad(a, [(0, -num % size)] + [(0, 0)] * (a.ndim - 1))
    return padded.reshape(-1, size, *a.shape[1:])

  return pad(s), pad(np.asarray(y, np.int32)), pad(np.full(num, 1 / num, np.float32))
