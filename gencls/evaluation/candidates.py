"""Which images stand for an eps: the candidates of a worst case.

Every image in the ball of radius eps is a candidate, whatever it was made for:

  the results of fixed budgets at this eps, and at every smaller one of the same norm;
  the results of minimum-norm attacks whose distance is at most eps, whether or not it is on the
    attack's own grid;
  what a published protocol has clipped to this eps or a smaller one;
  the grey images at these eps, and the untouched image.

So under a known seed a worst case never rises with eps. The rows of an attack keep to its own grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gencls.evaluation import minimum_norm
from gencls.evaluation.cells import GREY
from gencls.evaluation.grading import worst_case
from gencls.evaluation.results import Cell


class Group(NamedTuple):
  """The candidates at one norm and eps, but for the untouched image."""

  norm: str
  eps: float
  cells: list[Cell]


def candidate(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
  """([N] chosen cell, [N] share of grade draws that are right) of the worst of several cells."""
  names = ("select_correct", "select_margin", "correct")
  pick, correct = worst_case(*[[cell.arrays[name] for cell in cells] for name in names])
  return pick, correct.astype(np.float64)


def attacks_first(group: Group, untouched: Cell) -> list[Cell]:
  """The candidates in the order in which ties are broken: attacks of this very eps come first.

  Of these the one that broke an image comes before those that it was handed on to.
  """

  def place(cell: Cell) -> tuple[bool, bool, int]:
    given = int(np.sum(cell.arrays.get("handed_on", 0)))
    return cell.header["label"] == GREY, cell.header["eps"] != group.eps, given

  return [*sorted(group.cells, key=place), untouched]


def groups(cells: Sequence[Cell], untouched: Cell) -> list[Group]:
  """The candidates by norm and eps, in order, at every eps that any attack is asked for.

  Args:
    cells: of attacks and grey images as they were made, minimum-norm attacks before any eps.
    untouched: the cell of the clean images.
  """
  grid = {(c.header["norm"], e) for c in cells for e in c.header.get("grid", [c.header["eps"]])}
  own = minimum_norm.expand(cells, untouched)
  found = []
  for norm, eps in sorted(grid):
    within = [
      cell
      for cell in own
      if cell.header["norm"] == norm
      and cell.header["eps"] <= eps
      and cell.header.get("derived") != "distance"  # made below, at this eps
    ]
    minimum = [c for c in cells if minimum_norm.is_minimum(c) and c.header["norm"] == norm]
    within += [minimum_norm.derive(cell, untouched, eps, "distance") for cell in minimum]
    found.append(Group(norm, eps, within))
  return found
