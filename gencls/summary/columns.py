"""Per-example results as columns: one row for each attack, norm, eps and example.

  results = gencls.load_results("runs/gfz_mnist", "fgsm_pgd")
  frame = pandas.DataFrame(results._asdict())          # pandas is no dependency
  frame.groupby(["attack", "norm", "eps"]).counted.mean()   # the accuracies of the tables
  1 - frame.groupby(["attack", "norm", "eps"]).held_counted.mean()   # misclassified and accepted

docs/results_schema.md describes the files that are read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencls.evaluate import CLEAN, UNTOUCHED
from gencls.evaluation import minimum_norm, stored
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.candidates import Group, attacks_first, candidate, groups
from gencls.evaluation.results import Cell
from gencls.summary.checks import HELD, WORST
from gencls.summary.detection import EITHER, held_groups


class Results(NamedTuple):
  """Columns, each [R]; the rows of one (attack, norm, eps) stand together, in data set order.

  `attack` is the label in the config, or "clean" (the mean over the clean draws), "untouched" (the
  clean images under the draws of grading), "grey", "worst case" (per example over all candidates,
  as the tables have it), or "worst case with the detector" (the same by what is misclassified and
  accepted). The four last columns are NaN without a detector, and for clean.
  """

  attack: np.ndarray  # str
  norm: np.ndarray  # str, "" for clean and untouched
  eps: np.ndarray  # float64, 0 for clean and untouched
  example: np.ndarray  # int32, the index in the data set
  label: np.ndarray  # int32
  prediction: np.ndarray  # int32, of the first grade draw; −1 where a logit was not finite
  correct: np.ndarray  # float64, share of the draws that are right, of this image alone
  counted: np.ndarray  # float64, the same with the untouched image as a candidate, as in the tables
  select_correct: np.ndarray  # float64, share of the select draws that are right; NaN for clean
  margin: np.ndarray  # float64, nats, mean over the select draws; NaN for clean
  distance: np.ndarray  # float64, norm of the perturbation; NaN for the worst case
  target: np.ndarray  # int32, −1 where untargeted or without a target
  forward: np.ndarray  # float64, forward passes spent on the example; NaN where not counted
  backward: np.ndarray  # float64
  derived: np.ndarray  # str, "distance" or "clip" where an eps was read off a minimum-norm attack
  chosen: np.ndarray  # str, the attack whose image counts; itself but for the worst case
  file: np.ndarray  # str, the cell in results/<name>/cells; "" for the worst case
  score: np.ndarray  # float64, the detector's, of the first grade draw; accepted from 0 on
  accepted: np.ndarray  # float64, share of the draws that are accepted
  held: np.ndarray  # float64, share of the draws that are right or rejected, of this image alone
  # float64, the same with the untouched image as a candidate, as in the tables; NaN for the worst
  # case, which is chosen by accuracy
  held_counted: np.ndarray


def load_results(workdir: str | Path, name: str) -> Results:
  """Per-example results of an evaluation, finished or not: of all cells that are there.

  Args:
    workdir: of a run.
    name: of the evaluation, a folder of workdir/results.

  Returns:
    `Results`, columns as NumPy arrays.

  Raises:
    FileNotFoundError: if there is no such evaluation; names those that are there.
    ValueError: if its plan is damaged, or the clean images have not been graded yet.
  """
  return columns(stored.read(workdir, name))


def columns(evaluation: stored.Stored) -> Results:
  """The same of an evaluation that has been read."""
  files = dict(zip(map(_key, evaluation.cells), evaluation.files(), strict=True))
  first = {cell.header["label"]: cell for cell in evaluation.cells}
  missing = [label for label in (CLEAN, UNTOUCHED) if label not in first]
  if missing:
    raise ValueError(
      f"{evaluation.folder} has no finished cell called {' or '.join(missing)} yet, and nothing is "
      "graded without; run the same launch/evaluate.py again, it goes on where it was"
    )
  untouched = first[UNTOUCHED]
  attacks = [c for c in evaluation.cells if c.header["norm"]]
  parts = [_rows(first[CLEAN], None, files), _rows(untouched, untouched, files)]
  for cell in attacks:
    parts += [_rows(each, untouched, files) for each in minimum_norm.expand([cell], untouched)]
  grouped = groups(attacks, untouched)
  parts += [_worst(group, untouched) for group in grouped]
  if "held" in untouched.arrays:
    parts += [_worst_held(g, as_held(untouched)) for g in held_groups(grouped, EITHER)]
  return Results(*[np.concatenate([part[name] for part in parts]) for name in Results._fields])


def _key(cell: Cell) -> tuple[str, str]:
  return cell.header["label"].removesuffix(minimum_norm.AS_DISTANCE), cell.header["norm"] + _at(
    cell
  )


def _at(cell: Cell) -> str:
  """ "minimum" of all that comes from a minimum-norm attack."""
  minimum = cell.header["eps"] is None or "derived" in cell.header
  return " minimum" if minimum else f" {cell.header['eps']:g}"


def _texts(text: str, n: int) -> np.ndarray:
  return np.repeat(np.array([text], object), n)


def _constant(cell_label: str, norm: str, eps: float, n: int) -> dict[str, np.ndarray]:
  return {"attack": _texts(cell_label, n), "norm": _texts(norm, n), "eps": np.full(n, eps, float)}


def _rows(cell: Cell, untouched: Cell | None, files: Any) -> dict[str, np.ndarray]:
  """The columns of one cell that has an eps.

  Args:
    cell: of an attack, grey, untouched or clean.
    untouched: the cell of the clean images; None where it is no candidate.
    files: key -> file name.
  """
  header, arrays = cell.header, cell.arrays
  who = arrays if untouched is None else untouched.arrays
  n = len(arrays["correct"])

  def number(name: str, otherwise: float = np.nan) -> np.ndarray:
    return np.asarray(arrays.get(name, np.full(n, otherwise)), np.float64)

  counted = number("correct")
  if untouched is not None and header["norm"]:
    counted = candidate([cell, untouched])[1]
  return {
    **_constant(header["label"], header["norm"], header["eps"], n),
    "example": who["index"],
    "label": who["label"],
    "prediction": arrays["prediction"][:, 0],
    "correct": number("correct"),
    "counted": counted,
    "select_correct": number("select_correct"),
    "margin": number("select_margin"),
    "distance": number("norm", 0.0),
    "target": arrays.get("target", np.full(n, -1, np.int32)),
    "forward": number("forward"),
    "backward": number("backward"),
    "derived": _texts(header.get("derived", ""), n),
    "chosen": _texts(header["label"], n),
    "file": _texts(files[_key(cell)], n),
    **_verdict([cell], np.zeros(n, int)),
    "held_counted": _held_counted(cell, untouched, n),
  }


def _held_counted(cell: Cell, untouched: Cell | None, n: int) -> np.ndarray:
  if untouched is None or "held" not in cell.arrays:
    return np.full(n, np.nan)
  return candidate([as_held(cell), as_held(untouched)])[1]


def _verdict(cells: Sequence[Cell], pick: np.ndarray) -> dict[str, np.ndarray]:
  """What the detector says of the images that were picked, NaN where none was asked.

  Args:
    cells: of the candidates.
    pick: [N] which of them.
  """

  def taken(name: str) -> np.ndarray:
    if any(name not in cell.arrays for cell in cells):
      return np.full(len(pick), np.nan)
    values = np.stack([cell.arrays[name] for cell in cells])[pick, np.arange(len(pick))]
    return np.asarray(values, np.float64)

  score, accepted = taken("score"), taken("accepted")
  return {
    "score": score[:, 0] if score.ndim > 1 else score,
    "accepted": np.mean(accepted, axis=1) if accepted.ndim > 1 else accepted,
    "held": taken("held"),
  }


def _worst(group: Group, untouched: Cell) -> dict[str, np.ndarray]:
  """The columns of the worst case at one norm and eps."""
  everything = attacks_first(group, untouched)
  pick, correct = candidate(everything)
  rows = np.arange(len(pick))

  def taken(name: str) -> np.ndarray:
    found = np.stack([cell.arrays[name] for cell in everything])[pick, rows]
    return np.asarray(found, np.float64)

  return _picked(WORST, group, untouched, everything, pick) | {
    "correct": correct,
    "counted": correct,
    "select_correct": taken("select_correct"),
    "margin": taken("select_margin"),
  }


def _worst_held(group: Group, untouched: Cell) -> dict[str, np.ndarray]:
  """The columns of the worst case by what is misclassified and accepted.

  Args:
    group: from `held_groups`.
    untouched: as held too.
  """
  everything = attacks_first(group, untouched)
  pick, held = candidate(everything)
  return _picked(HELD, group, untouched, everything, pick) | {"held_counted": held}


def _picked(
  what: str, group: Group, untouched: Cell, everything: Sequence[Cell], pick: np.ndarray
) -> dict[str, np.ndarray]:
  """What the columns of both worst cases have in common."""
  n, labels = len(pick), untouched.arrays["label"]
  names = np.array([cell.header["label"] for cell in everything], object)
  prediction = np.stack([cell.arrays["prediction"] for cell in everything])[pick, np.arange(n)]
  nothing = np.full(n, np.nan)
  return {
    **_constant(what, group.norm, group.eps, n),
    **dict.fromkeys(("counted", "select_correct", "margin", "distance"), nothing),
    **dict.fromkeys(("forward", "backward", "held_counted"), nothing),
    "example": untouched.arrays["index"],
    "label": labels,
    "prediction": prediction[:, 0],
    "correct": np.mean(prediction == labels[:, None], axis=1),
    "target": np.full(n, -1, np.int32),
    "derived": _texts("", n),
    "chosen": names[pick],
    "file": _texts("", n),
    **_verdict(everything, pick),
  }


def at(results: Results, attack: str, norm: str = "", eps: float = 0.0) -> Results:
  """The rows of one attack at one norm and eps.

  Raises:
    ValueError: if there are none.
  """
  rows = (results.attack == attack) & (results.norm == norm) & (results.eps == eps)
  if not np.any(rows):
    there = sorted({f"{a} {m} {e:g}" for a, m, e in zip(*results[:3], strict=True)})
    raise ValueError(f"no results of {attack} {norm} {eps:g}; there are {', '.join(there)}")
  return Results(*[column[rows] for column in results])
