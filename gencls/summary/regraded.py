"""The worst case under other numbers of importance samples: do its images carry over to them?

See `gencls.evaluation.regrade_cell`. Every number of samples is compared with the smallest on the
same images, by draws that no attack has known.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.evaluation.regrade_cell import LABEL
from gencls.evaluation.results import Cell
from gencls.intervals import share_interval
from gencls.markdown import grid, percent
from gencls.paired import Difference, paired_interval
from gencls.sanity import UNFINISHED, Check

NAME = "more importance samples change nothing"
POINT = 0.01  # a difference that counts, and that an interval has to tell apart


class Line(NamedTuple):
  """One line of a table."""

  num_samples: int
  name: str
  at: dict[tuple[str, float], Any]  # (norm, eps) -> interval


def is_regraded(cell: Cell) -> bool:
  """Whether a cell holds a worst case under another number of samples."""
  return "regraded" in cell.header["settings"]


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
  """Accuracy for each number of samples, norm and eps, JSON-able.

  Args:
    cells: those that are regraded.

  Returns:
    {num_samples, norm, eps, num_images, accuracy, unseen}: the latter on draws that the attack has
    not known, None where it has known none.
  """
  found = []
  for cell in cells:
    settings, arrays = cell.header["settings"], cell.arrays
    again, unseen = settings["regraded"], arrays.get("unseen")
    older = dict.fromkeys(("correct", "unseen"), settings["grade_draws"])
    draws = cell.header.get("draws", older)
    found.append(
      {
        **{name: again[name] for name in ("num_samples", "norm", "eps")},
        "num_images": cell.header["num_images"],
        "accuracy": share_interval(arrays["correct"], draws["correct"])._asdict(),
        "unseen": None if unseen is None else share_interval(unseen, draws["unseen"])._asdict(),
      }
    )
  return found


def check(
  cells: Sequence[Cell], model: Mapping[str, Any], unfinished: Collection[str] = ()
) -> Check:
  """Accuracy under attack does not depend on the number of samples that grading uses.

  Fails where any number of samples and the smallest differ by more than a point, at any eps, and
  the 95% interval of the paired difference (each by itself) does not have 0 in it. Passes only
  where every interval is a point to either side or less; else it is undecided, "not run".

  Args:
    cells: those that are regraded.
    model: hyperparameters of the graded model.
    unfinished: labels of the planned cells that are not there yet.
  """
  planned = any(label.startswith(LABEL) for label in unfinished)
  fix = UNFINISHED if planned else "set config.regrade_samples"
  if not cells:
    why = fix if "num_samples" in model else "the model draws no importance samples"
    return Check(NAME, "not run", why)
  wrong, open_, fine = [], [], []
  for (norm, eps), own in _by_radius(cells).items():
    few, *more = sorted(own)
    for many in more:
      change = paired_interval(_unseen(own[many]), _unseen(own[few]))
      text = f"{norm} {eps:g}: K = {many} against K = {few}: {points(change)}"
      if abs(change.mean) > POINT and not change.low <= 0 <= change.high:
        wrong.append(f"{text}, {_why(change, few, many, model)}")
      else:
        (open_ if half(change) > POINT else fine).append(text)
  if not (wrong or open_ or fine):
    return Check(NAME, "not run", f"one number of samples: {fix}")
  detail = "; ".join(wrong or open_ or fine)
  if open_ and not wrong:
    detail = (
      f"undecided, the interval is wider than ±{100 * POINT:g} point, keep more images "
      f"(config.keep_images): {detail}"
    )
  status = "fail" if wrong else "not run" if open_ else "pass"
  return Check(NAME, status, f"{detail}; n = {cells[0].header['num_images']}")


def _by_radius(cells: Sequence[Cell]) -> dict[tuple[str, float], dict[int, Cell]]:
  """(norm, eps) -> number of samples -> cell."""
  found: dict[tuple[str, float], dict[int, Cell]] = {}
  for cell in cells:
    again = cell.header["settings"]["regraded"]
    found.setdefault((again["norm"], again["eps"]), {})[again["num_samples"]] = cell
  return found


def _unseen(cell: Cell) -> np.ndarray:
  return cell.arrays.get("unseen", cell.arrays["correct"])


def points(change: Difference) -> str:
  """A difference with its interval, in points."""
  mean, low, high = (100 * value for value in (change.mean, change.low, change.high))
  return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}] points"


def half(change: Difference) -> float:
  """Half of the interval."""
  return (change.high - change.low) / 2


def _why(change: Difference, few: int, many: int, model: Mapping[str, Any]) -> str:
  """What a difference says; the images were made against the evaluation's own K."""
  own = model.get("num_samples")
  better, worse = (many, few) if change.mean > 0 else (few, many)
  if better == own:
    return f"K = {own}, which was attacked, grades these images better than K = {worse} does"
  against = "the evaluation's own K" if own is None else f"K = {own}"
  return (
    f"the images, optimised against {against}, do not carry over to K = {better}: attack at that K "
    "before concluding"
  )


def table(summary: Mapping[str, Any]) -> str:
  """Accuracy against the number of samples and eps; empty where there is none."""
  found = lines(summary)
  radii = sorted({where for line in found for where in line.at})
  texts = [[line.name, *[percent(line.at[w]) if w in line.at else "" for w in radii]]
           for line in found]  # fmt: skip
  return grid(["worst case", *[f"{norm} {eps:g}" for norm, eps in radii]], texts) if texts else ""


def lines(summary: Mapping[str, Any]) -> list[Line]:
  """What is shown, a line for each number of samples and kind of draws.

  Where the attack has known the draws, those of another K are unseen anyway.
  """
  again = summary.get("regraded") or []  # older files have none
  found: dict[str, Line] = {}

  def put(count: int, kind: str, where: tuple[str, float], interval: Any) -> None:
    name = f"K = {count}{kind}"
    found.setdefault(name, Line(count, name, {})).at[where] = interval

  for row in sorted(again, key=lambda row: row["num_samples"]):
    count, where = row["num_samples"], (row["norm"], row["eps"])
    if row["unseen"] is None:
      put(count, "", where, row["accuracy"])
      continue
    if count == summary["model"].get("num_samples"):
      put(count, ", as attacked", where, row["accuracy"])
    put(count, ", unseen draws", where, row["unseen"])
  return list(found.values())


def section(summary: Mapping[str, Any]) -> str:
  """The part of table.md; empty where nothing was graded again."""
  found = table(summary)
  if not found:
    return ""
  counts = [row["num_images"] for row in summary["regraded"]]
  text = (
    "The worst case, chosen as above, graded again under other numbers K of importance samples, % "
    f"with 95% interval, n = {counts[0]}."
  )
  if any(row["unseen"] for row in summary["regraded"]):
    text += (
      " Unseen draws are those that no attack has known; at another K all are new, and only they "
      "compare."
    )
  return f"{text}\n\n{found}\n\n"
