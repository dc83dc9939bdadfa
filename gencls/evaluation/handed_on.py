"""Images that other attacks of the same budget have broken: handed on, and not attacked again.

The worst case over all attacks is the same, and the time of an expensive attack goes to the images
that still stand. An attack's own numbers are then those of what it was given and of what it found.
Broken images have fewer candidates: what other draws, other numbers of samples or other models say
of the images of the worst case (`unseen`, `regraded`, transfer) may be more.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gencls.attacks.cascade import CLEAN, STANDS
from gencls.evaluation.batch_loop import Arrays, Batch

# What an attack says of its own work, which for these images is none.
OWN = ("forward", "backward", "nonfinite_steps", "zero_gradient_steps", "zero_gradient",
       "cut_short")  # fmt: skip


class HandedOn(NamedTuple):
  """What an attack need not do."""

  cells: Sequence[Arrays]  # of the attacks before it, [N, …] each
  source: np.ndarray  # [N] place of the first of them that has broken an image, or STANDS, −1


def handed_on(cells: Sequence[Arrays], num_images: int) -> HandedOn:
  """The images that are wrong in one of these cells; none where there are no cells."""
  source = np.full(num_images, STANDS)
  for place, cell in reversed(list(enumerate(cells))):
    source[cell["correct"] == 0] = place
  return HandedOn(cells, source)


def standing(given: HandedOn, batch: Batch) -> np.ndarray:
  """[valid] bool, the images of a batch that are left to attack."""
  return given.source[batch.at] == STANDS


def taken_over(arrays: Arrays, given: HandedOn, batch: Batch) -> Arrays:
  """The arrays [valid, …] of a batch with what was handed on in its place, and "handed_on".

  What it says of its own work stays; for an ensemble these images were wrong before it.
  """
  if not given.cells:
    return arrays
  found = dict(arrays)
  for name in found.keys() - set(OWN):
    rows = found[name] = np.array(found[name])
    for place, cell in enumerate(given.cells):
      mine = np.flatnonzero(given.source[batch.at] == place)
      if name == "broken_by":
        rows[mine] = CLEAN
      elif name in cell:
        mine = mine[mine < len(rows)]  # images are kept of the first ones alone
        rows[mine] = cell[name][batch.at.start + mine]
  return {**found, "handed_on": ~standing(given, batch)}
