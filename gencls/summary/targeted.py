"""The numbers of targeted attacks: how many images end in the class they were sent to."""

from typing import Any

import numpy as np

from gencls.evaluation.minimum_norm import asked
from gencls.evaluation.results import Cell
from gencls.evaluation.targets import share_in_target
from gencls.intervals import share_interval
from gencls.sanity import Curve


def aim(cell: Cell) -> str | int | None:
  """The target that an attack's cell was made with; None of an untargeted one and of grey."""
  return cell.header["settings"]["attack"]["target"] if "target" in cell.arrays else None


def numbers(cell: Cell, correct: np.ndarray, draws: int) -> dict[str, Any]:
  """What the row of a targeted attack has at one eps and others have not; {} of those.

  Args:
    cell: of the attack; of minimum norm, derived.
    correct: [N] share of the grade draws that are right, the untouched image being a candidate.
    draws: number of grade draws.

  Returns:
    {"targeted": {target, success_rate, accuracy, num_images, left_out}}: both shares are of the
    images that have a target, None where there are none.
  """
  if aim(cell) is None:
    return {}
  mine = asked(cell)
  shares = {"success_rate": cell.arrays["in_target"], "accuracy": correct}
  found = {name: share(values[mine], draws) for name, values in shares.items()}
  return {"targeted": {**_who(cell), **found}}


def distance_numbers(cell: Cell) -> dict[str, Any]:
  """The same of a minimum-norm attack itself: {"targeted": {target, num_images, left_out}}."""
  return {} if aim(cell) is None else {"targeted": _who(cell)}


def share(values: np.ndarray, draws: int) -> dict[str, Any] | None:
  """The mean with its interval, JSON-able; None of no images."""
  return share_interval(values, draws)._asdict() if len(values) else None


def _who(cell: Cell) -> dict[str, Any]:
  mine = asked(cell)
  return {
    "target": aim(cell),
    "num_images": int(np.sum(mine)),
    "left_out": int(np.sum(~mine)),
  }


def agrees(cell: Cell) -> np.ndarray:
  """[N] bool, whether grading finds a success exactly where the attack says so (known seed)."""
  arrays = cell.arrays
  if aim(cell) is None:
    return arrays["attack_success"] == (arrays["correct"] <= 0.5)
  return arrays["attack_success"] == (arrays["in_target"] >= 0.5)


def curve(cells: list[Cell], untouched: Cell) -> Curve:
  """The share of the images with a target that is outside it, the untouched at eps = 0 first.

  Args:
    cells: of one targeted attack, each of its own eps.
    untouched: the cell of the clean images.
  """
  first, mine = cells[0], asked(cells[0])
  evading = first.header["settings"]["attack"].get("against") == "detector"
  accepted = untouched.arrays["accepted"] if evading else None
  before = share_in_target(untouched.arrays["prediction"], first.arrays["target"], accepted)
  cells = sorted(cells, key=lambda cell: cell.header["eps"])
  outside = [1.0 - each[mine] for each in (before, *(c.arrays["in_target"] for c in cells))]
  eps = (0.0, *(float(cell.header["eps"]) for cell in cells))
  label, norm = first.header["label"], first.header["norm"]
  against = "detector" if evading else "classifier"
  return Curve(label, norm, eps, tuple(outside), aim(first), against)
