"""The members of an ensemble: what each of them broke, as cells of their own.

An ensemble has one cell, but the checks tell gradients from queries: what Square breaks in
AutoAttack, which its gradient attacks had left, is the sign of masking. Nor is what an attack was
handed by others its own.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from gencls import sanity
from gencls.attacks import auto_attack
from gencls.attacks.auto_attack import Member
from gencls.evaluation.candidates import Group
from gencls.evaluation.results import Cell
from gencls.summary.detection import evading

MEMBERS = {"auto_attack": auto_attack.members}


def members_of(cell: Cell) -> dict[str, Member]:
  """The members of the ensemble that made a cell, in their order; empty for any other attack."""
  attack = cell.header["settings"].get("attack") or {}
  if attack.get("name") not in MEMBERS:
    return {}
  return MEMBERS[attack["name"]](**attack["hyperparameters"], adaptive=evading(cell))


def own(groups: Sequence[Group], untouched: Cell) -> list[Group]:
  """The candidates with what each broke itself: images that were handed to it are untouched.

  The cell that handed them on is a candidate at the same eps.
  """

  def view(cell: Cell) -> Cell:
    handed_on = cell.arrays.get("handed_on")
    return cell if handed_on is None else _only(cell, ~handed_on, untouched)

  return [group._replace(cells=[view(cell) for cell in group.cells]) for group in groups]


def split(cells: Sequence[Cell], untouched: Cell) -> list[Cell]:
  """Every ensemble as what follows gradients, and each member behind them that does not.

  Such a member stands for the images that it was the first to break, where the others are
  untouched: it has only met what those before it left. Where gradients follow behind it, as in
  version "plus", they might have broken the same images, and the ensemble stays whole.

  Args:
    cells: of attacks and grey images.
    untouched: the cell of the clean images.
  """
  return [part for cell in cells for part in _parts(cell, untouched)]


def _parts(cell: Cell, untouched: Cell) -> list[Cell]:
  every = members_of(cell) if "broken_by" in cell.arrays else {}
  places = {name: i for i, name in enumerate(every, start=1)}
  last = itertools.takewhile(lambda name: sanity.gradient_free(every[name].attack), reversed(every))
  free = [*last][::-1]
  if not free:
    return [cell]
  broken_by, settings = cell.arrays["broken_by"], cell.header["settings"]
  found = [_only(cell, ~np.isin(broken_by, [places[name] for name in free]), untouched)]
  for name in free:
    own = _only(cell, broken_by == places[name], untouched)
    attack = {**settings["attack"], "name": every[name].attack}
    label = f"{cell.header['label']} ({name})"
    changed = {**settings, "attack": attack}
    header = {**own.header, "label": label, "settings": changed, "member": name}
    found.append(own._replace(header=header))
  return found


def _only(cell: Cell, chosen: np.ndarray, untouched: Cell) -> Cell:
  """A cell whose other images are untouched."""
  names = ("select_correct", "select_margin", "correct")
  views = {name: np.where(chosen, cell.arrays[name], untouched.arrays[name]) for name in names}
  return cell._replace(arrays={**cell.arrays, **views})
