"""Worst cases as the checks need them: those of the headline would pass by construction.

A headline keeps what breaks an image at every larger eps, so that it can only fall, and the grey
image, which at eps = 0.5 in linf is the same for all. Here attacks have to get there by themselves.
"""

import itertools
from collections.abc import Sequence

from gencls import sanity
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.candidates import Group, candidate
from gencls.evaluation.cells import GREY
from gencls.evaluation.results import Cell
from gencls.summary.detection import evading
from gencls.summary.targeted import aim

_ALONE = "by the attacks of each eps alone"


def falling(
  worst: str, grouped: Sequence[Group], untouched: Cell, draws: int, detector: bool = False
) -> list[sanity.Check]:
  """A worst case never rises with eps, for each norm.

  From each eps to the next, over the attacks that were made at both for this very eps.

  Args:
    worst: what it is called.
    grouped: the candidates at every eps.
    untouched: the cell of the clean images.
    draws: number of grade draws.
    detector: whether it is about what is misclassified and accepted.
  """
  clean, found = as_held(untouched) if detector else untouched, []
  for norm in dict.fromkeys(group.norm for group in grouped):
    own = [group for group in grouped if group.norm == norm and group.eps > 0]
    steps = _steps(own, clean, detector)
    against = "detector" if detector else "classifier"
    found.append(sanity.never_rises(f"{worst} {_ALONE}", norm, steps, draws, against=against))
  return found


def _steps(grouped: Sequence[Group], clean: Cell, detector: bool) -> list[sanity.Step]:
  """The worst case at each eps that has attacks, and at the next."""
  at = [(group.eps, _made_here(group, detector)) for group in grouped]
  at = [(eps, cells) for eps, cells in at if cells]
  steps = []
  for (low, first), (high, second) in itertools.pairwise(at):
    both = [label for label in first if label in second]
    if both:
      less, more = (
        candidate([*(own[label] for label in both), clean])[1] for own in (first, second)
      )
      steps.append(sanity.Step(low, less, high, more))
  return steps


def _made_here(group: Group, detector: bool) -> dict[str, Cell]:
  """label -> cell of the attacks that pursue such a worst case, made for this eps.

  Not what rises rightly, or falls by construction: images of other evaluations, single steps past
  what a detector accepts, attacks with a target, distances.
  """
  found = {}
  for cell in group.cells:
    header = cell.header
    if header["label"] == GREY or header["eps"] != group.eps or "derived" in header:
      continue
    name = header["settings"]["attack"]["name"]
    past_it = detector and name in sanity.SINGLE_STEP
    if evading(cell) != detector or past_it or sanity.made_elsewhere(name) or aim(cell) is not None:
      continue
    found[header["label"]] = as_held(cell) if detector else cell
  return found


def of_attacks(grouped: Sequence[Group], untouched: Cell, norm: str) -> sanity.Curve | None:
  """The worst case over attacks without the grey image, at every eps that has an attack."""
  points = []
  for group in grouped:
    attacks = [cell for cell in group.cells if cell.header["label"] != GREY]
    if group.norm == norm and any(cell.header["eps"] == group.eps for cell in attacks):
      points.append((group.eps, candidate([*attacks, untouched])[1]))
  if not points:
    return None
  eps, correct = zip(*points, strict=True)
  return sanity.Curve("attacks", norm, eps, correct)
