"""Straight lines between images: which pairs, what lies between, and what logits say of it."""

import collections

import numpy as np

from gencls.analyses.inputs import PURPOSE, Arrays, Examined, floats, log_lik, logits_of
from gencls.calibration import log_softmax
from gencls.evaluation.grading import keys_for

_STREAM = 11  # of the random numbers that choose pairs


def draw_pairs(labels: np.ndarray, eligible: np.ndarray, count: int, seed: int) -> np.ndarray:
  """[P, 2] positions of two images of different classes, at random among the eligible ones.

  No image is in two pairs, so that pairs are independent; there are fewer than `count` where the
  images do not last.

  Args:
    labels: [N].
    eligible: [N] bool.
    count: P at most.
    seed: of the draws.

  Raises:
    ValueError: if the eligible images are not of two classes at least.
  """
  positions = np.flatnonzero(eligible)
  found = np.unique(labels[positions])
  if len(found) < 2:
    raise ValueError(
      "pairs need eligible images of at least two classes, got "
      f"{len(positions)} of {len(found)} class(es) among {len(labels)} images"
    )
  rng = np.random.default_rng([seed, _STREAM])
  pairs: list[tuple[int, int]] = []
  waiting: collections.deque[int] = collections.deque()  # all of one class
  for position in rng.permutation(positions):
    if len(pairs) == count:
      break
    if waiting and labels[waiting[0]] != labels[position]:
      pairs.append((waiting.popleft(), int(position)))
    else:
      waiting.append(int(position))
  return np.array(pairs)


def between(first: np.ndarray, second: np.ndarray, alpha: np.ndarray) -> np.ndarray:
  """[B, H, W, D] (1 − α) first + α second, the images themselves at 0 and 1; alpha is [B]."""
  share = np.asarray(alpha, np.float32).reshape(-1, *[1] * (first.ndim - 1))
  return (np.float32(1) - share) * first + share * second


def along(examined: Examined, pairs: np.ndarray, alphas: np.ndarray) -> np.ndarray:
  """[P, A, C] logits on the paths between pairs [P, 2] of positions, at every alpha [A]."""
  pair, step = np.divmod(np.arange(len(pairs) * len(alphas)), len(alphas))
  keys = keys_for(examined.seed, examined.dataset.indices[pairs[:, 0]], PURPOSE)[pair]

  def images(rows: np.ndarray) -> np.ndarray:
    first, second = (floats(examined.dataset, pairs[pair[rows], end]) for end in (0, 1))
    return between(first, second, alphas[step[rows]])

  flat = logits_of(examined, keys, images, "interpolation")
  return flat.reshape(len(pairs), len(alphas), -1)


def profile(logits: np.ndarray, labels: np.ndarray, class_prior: np.ndarray) -> Arrays:
  """What logits say along the paths.

  Args:
    logits: [P, A, C].
    labels: [P, 2] the classes of both ends.
    class_prior: [C] p(y).

  Returns:
    name -> [P, A] float64: `log_lik_first` and `_second` (log p(x | y) of the ends' classes),
    `log_marginal`, `posterior_first` and `_second`. The first three are likelihoods only where the
    logits tell them.
  """
  shape, flat = logits.shape[:2], logits.reshape(-1, logits.shape[2])
  log_posterior = log_softmax(flat)
  rows = np.arange(len(flat))
  found = {"log_marginal": (flat - log_posterior)[:, 0]}
  for name, end in (("first", 0), ("second", 1)):
    own = np.repeat(labels[:, end], shape[1])
    found[f"log_lik_{name}"] = log_lik(flat, own, class_prior)
    found[f"posterior_{name}"] = np.exp(log_posterior[rows, own])
  return {name: values.reshape(shape) for name, values in found.items()}
