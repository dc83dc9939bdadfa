"""Per-example results as columns: one row for each attack, norm, eps and example.

  results = gencls.load_results("runs/gfz_mnist", "fgsm_pgd")
  frame = pandas.DataFrame(results._asdict())          # pandas is no dependency
  frame.groupby(["attack", "norm", "eps"]).counted.mean()   # the accuracies of the tables

docs/results_schema.md describes the files that are read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencls import minimum_norm, stored
from gencls.evaluate import CLEAN, UNTOUCHED
from gencls.report.candidates import attacks_first, candidate, groups
from gencls.report.checks import WORST
from gencls.results import Cell


class Results(NamedTuple):
  """Columns, each [R]; the rows of one (attack, norm, eps) stand together, in data set order.

  `attack` is the label in the config, or "clean" (the mean over the clean draws), "untouched" (the
  clean images under the draws of grading), "grey", or "worst case" (per example over all
  candidates, as the tables have it).
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
  parts += [_worst(group, untouched) for group in groups(attacks, untouched)]
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
  }


def _worst(group: Any, untouched: Cell) -> dict[str, np.ndarray]:
  """The columns of the worst case at one norm and eps."""
  everything: Sequence[Cell] = attacks_first(group, untouched)
  pick, correct = candidate(everything)
  n = len(pick)
  rows = np.arange(n)

  def taken(name: str) -> np.ndarray:
    return np.stack([cell.arrays[name] for cell in everything])[pick, rows]

  labels = np.array([cell.header["label"] for cell in everything], object)
  first = np.stack([cell.arrays["prediction"][:, 0] for cell in everything])
  nothing = np.full(n, np.nan)
  return {
    **_constant(WORST, group.norm, group.eps, n),
    "example": untouched.arrays["index"],
    "label": untouched.arrays["label"],
    "prediction": first[pick, rows],
    "correct": correct,
    "counted": correct,
    "select_correct": np.asarray(taken("select_correct"), np.float64),
    "margin": np.asarray(taken("select_margin"), np.float64),
    "distance": nothing,
    "target": np.full(n, -1, np.int32),
    "forward": nothing,
    "backward": nothing,
    "derived": _texts("", n),
    "chosen": labels[pick],
    "file": _texts("", n),
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
