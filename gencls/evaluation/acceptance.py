"""Grading with a detector: what counts is an image that is misclassified *and* accepted.

On each draw an image is held if it is classified right or rejected, otherwise it evades. So the
numbers of a detector are those of accuracy with "held" in the place of "correct" (`as_held`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.evaluation.results import CLIPPED, Cell
from gencls.types import Accept, Array, Keys


class Verdict(NamedTuple):
  """What a detector says of a batch, on the draws that choose and the draws that count."""

  score: np.ndarray  # [B, G] float32 on the grade draws
  accepted: np.ndarray  # [B, G] bool, the score is finite and >= 0
  held: np.ndarray  # [B] float32, share of the grade draws that are right or rejected
  select_held: np.ndarray  # [B] float32, share of the select draws that are
  # [B] float32, mean over the select draws of max(margin, −score), > 0 where the draw is held
  select_held_margin: np.ndarray


ARRAYS = Verdict._fields
# The array of a cell that is about "misclassified and accepted" -> the one of "misclassified"
_VIEW = {"held": "correct", "select_held": "select_correct", "select_held_margin": "select_margin"}


@jax.jit
def _scores(accept: Accept, keys: Keys, x: Array, logits: Array) -> Array:
  return accept(keys, x, logits)


def scores(
  accept: Accept, keys: Sequence[Keys], x: np.ndarray, logits: Sequence[np.ndarray]
) -> np.ndarray:
  """[B, M] the detector's scores of M draws, from the logits that are there already."""
  images = jnp.asarray(x)
  every = [_scores(accept, k, images, jnp.asarray(z)) for k, z in zip(keys, logits, strict=True)]
  return np.stack([np.asarray(each) for each in every], axis=1)


def accepts(score: np.ndarray) -> np.ndarray:
  """Whether an image with this score is accepted; one that is not finite never is."""
  return np.isfinite(score) & (score >= 0)


def held(right: np.ndarray, score: np.ndarray) -> np.ndarray:
  """[B] float32, the share of the draws [B, M] that are right or rejected."""
  return np.asarray(np.mean(right | ~accepts(score), axis=1), np.float32)


def held_margin(margins: np.ndarray, score: np.ndarray) -> np.ndarray:
  """[B] float32, how far an image is from evading: the mean of max(margin, −score) over draws.

  Args:
    margins: [B, M] z_y − max other, −inf where there is no prediction.
    score: [B, M]; what is not finite is rejected for good.
  """
  rejected_by = np.where(np.isfinite(score), -score, np.inf)
  return np.asarray(np.mean(np.maximum(margins, rejected_by), axis=1), np.float32)


def as_held(cell: Cell) -> Cell:
  """A graded cell with "held" in the place of "correct", for the columns of the detector.

  Raises:
    ValueError: if the cell was graded without a detector.
  """
  if "held" not in cell.arrays:
    raise ValueError(f"cell {cell.header['label']!r} was graded without a detector")
  renamed = {
    before + new: cell.arrays[before + old]
    for old, new in _VIEW.items()
    for before in ("", CLIPPED)
    if before + old in cell.arrays
  }
  return cell._replace(arrays={**cell.arrays, **renamed})
