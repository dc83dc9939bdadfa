"""Known against unseen draws: does what breaks the images rest on knowing the draws?

Under a known seed attack and grading share each image's draw, and under any threat model what
`prepare` draws once. The worst case, as it was chosen, is graded on draws that no attack has known
too; see `gencls.evaluation.regrade_cell`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gencls.evaluation.regrade_cell import LABEL, UNSEEN
from gencls.evaluation.results import Cell
from gencls.paired import Difference, paired_interval
from gencls.sanity import UNFINISHED, Check
from gencls.summary.regraded import POINT, half, points

NAME = "unseen draws leave as much right as the known ones"
HELD = "unseen draws let as few past the detector as the known ones"


def check(
  cells: Sequence[Cell],
  untouched: Cell,
  clean: Cell,
  model: Mapping[str, Any],
  unfinished: Collection[str] = (),
  held: bool = False,
) -> Check:
  """Accuracy in the worst case does not rest on draws that the attack has known.

  Fails where at any eps the two differ by more than a point and the 95% interval of the paired
  difference does not have 0 in it; passes only where every interval is a point to either side or
  less, or nothing is drawn or known. Else it is undecided, "not run".

  Args:
    cells: of the evaluation.
    untouched: the cell of the clean images.
    clean: the cell of clean numbers.
    model: hyperparameters of the graded model.
    unfinished: labels of the planned cells that are not there yet.
    held: whether it is about what is right or rejected.
  """
  name = HELD if held else NAME
  if not clean.header["prepared_anew"]:
    if untouched.header["settings"]["threat"] != "known_seed":
      return Check(name, "pass", "fresh seed: no attack knows the draws")
    if not untouched.header["randomness"]["randomised"]:
      return Check(name, "pass", "deterministic: nothing is drawn")
  found = _changes(cells, model, held)
  if not found:
    planned = any(label.startswith((LABEL, UNSEEN)) for label in unfinished)
    fix = "run launch/evaluate.py (again) with config.keep_images >= 1"
    return Check(name, "not run", UNFINISHED if planned else fix)
  wrong, open_, fine = [], [], []
  for (norm, eps), change in sorted(found.items()):
    told = f"{norm} {eps:g}: {points(change)}"
    if abs(change.mean) > POINT and not change.low <= 0 <= change.high:
      wrong.append(told)
    else:
      (open_ if half(change) > POINT else fine).append(told)
  detail = f"{'; '.join(wrong or open_ or fine)}; n = {next(iter(found.values())).n}"
  if wrong:
    return Check(name, "fail", f"the numbers are those of known draws: {detail}")
  if open_:
    keep = f"undecided, the interval is wider than ±{100 * POINT:g} point, keep more images"
    return Check(name, "not run", f"{keep} (config.keep_images): {detail}")
  return Check(name, "pass", detail)


def _changes(
  cells: Sequence[Cell], model: Mapping[str, Any], held: bool
) -> dict[tuple[str, float], Difference]:
  """(norm, eps) -> unseen less known, of the cells at the evaluation's own number of samples."""
  found, (before, after) = {}, ("held", "unseen_held") if held else ("correct", "unseen")
  for cell in cells:
    settings = cell.header["settings"]
    at = settings.get("unseen") or settings.get("regraded")
    if at is None or after not in cell.arrays:
      continue
    if at.get("num_samples") in (None, model.get("num_samples")):
      change = paired_interval(cell.arrays[after], cell.arrays[before])
      found[at["norm"], at["eps"]] = change
  return found
