"""An evaluation as it lies on disk, finished or not: what it is, its plan, and the cells so far.

  results/<name>/plan.json     what the evaluation is, and every cell it shall have; written first
  results/<name>/images.npz    the first clean images, as many as cells keep adversarial ones
  results/<name>/cells/*.npz   the finished cells
  results/<name>/table.json    its numbers, written last

Cells of other settings may lie in the same folder: the plan says which files count. Evaluations
older than plan.json are read by their table.json.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencls import json_files
from gencls.evaluate import CLEAN, UNTOUCHED, Plan
from gencls.evaluation.minimum_norm import AS_DISTANCE
from gencls.evaluation.results import Cell, canonical_json, need, read_cell, read_result, write_cell
from gencls.names import unknown_name
from gencls.settings import check_kinds
from gencls.workdir import atomic_write, to_json

PLAN, TABLE, CELLS, IMAGES = "plan.json", "table.json", "cells", "images.npz"
FINISHED, UNFINISHED, NOT_RUN, DAMAGED = "finished", "unfinished", "not run", "damaged"
_FIX = (
  "run the same launch/evaluate.py again: it writes the file anew and computes no finished cell "
  "again"
)
_IDENTITY = ("data", "model", "attack_model", "params", "step")
_GRADING = ("threat", "seed", "select_draws", "grade_draws")


class Planned(NamedTuple):
  """One cell that an evaluation shall have."""

  label: str
  norm: str
  eps: float | None  # None: a minimum-norm attack, run once for every eps
  file: str | None  # in the folder of cells; None: of an older evaluation, and not there
  grid: list[float] | None = None  # the eps of a minimum-norm attack
  state: str = FINISHED  # or UNFINISHED (killed half-way), NOT_RUN, DAMAGED


class Stored(NamedTuple):
  """What there is of an evaluation."""

  folder: Path  # results/<name>
  statement: dict[str, Any]  # name, title, data, model, protocol, attacks, config, record, ...
  planned: list[Planned]
  cells: list[Cell]  # the finished ones, in the order of the plan

  def files(self) -> list[str]:
    """The file of each of `cells`."""
    return [each.file for each in self.planned if each.state == FINISHED and each.file]


def write_plan(
  folder: Path, statement: Mapping[str, Any], plans: Sequence[Plan], images: np.ndarray
) -> None:
  """Writes results/<name>/plan.json and images.npz.

  Args:
    folder: results/<name>.
    statement: JSON-able; what the evaluation is.
    plans: from `evaluate.make_plans`.
    images: [M, H, W, D] float32, the first clean images.
  """
  cells = [
    {
      **{name: getattr(plan, name) for name in ("label", "norm", "eps")},
      "file": plan.path.name,
      "grid": list(plan.spec.eps) if plan.spec is not None and plan.eps is None else None,
    }
    for plan in plans
  ]
  write_cell(folder / IMAGES, Cell({"data": statement["data"]}, {"x": images}))
  atomic_write(folder / PLAN, to_json({**statement, "cells": cells}))


def clean_images(folder: Path, source: Mapping[str, Any]) -> np.ndarray | None:
  """[M, H, W, D] the clean images of results/<name>; None where there are none of this data.

  Args:
    folder: results/<name>.
    source: "data" of the evaluation's statement.

  Raises:
    ValueError: if the file is damaged.
  """
  if not (folder / IMAGES).is_file():
    return None
  found = read_cell(folder / IMAGES)
  need(folder / IMAGES, found, ("data",), ("x",))
  return found.arrays["x"] if found.header["data"] == source else None


def read(workdir: str | Path, name: str) -> Stored:
  """What there is of an evaluation.

  Args:
    workdir: of a run.
    name: of the evaluation.

  Raises:
    FileNotFoundError: if there is no evaluation of that name; names those that are there.
    ValueError: if plan.json or table.json is damaged.
  """
  folder = Path(workdir) / "results" / name
  if (folder / PLAN).is_file():
    statement = json_files.read_object(folder / PLAN, fix=_FIX, needs=("cells",))
    planned = _planned(folder / PLAN, statement.pop("cells"))
  elif (folder / TABLE).is_file():
    statement = json_files.read_object(folder / TABLE, fix=_FIX, needs=("rows", "protocol"))
    try:
      planned = _from_table(folder / CELLS, statement)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise ValueError(f"{folder / TABLE} is damaged (its rows: {error!r}); {_FIX}") from error
  else:
    raise FileNotFoundError(_missing(Path(workdir), name))
  found = [_read(folder / CELLS, each) for each in planned]
  return Stored(folder, statement, [p for p, _ in found], [c for _, c in found if c is not None])


def names(workdir: str | Path) -> list[str]:
  """The evaluations of a run, finished or not."""
  folders = sorted((Path(workdir) / "results").glob("*/"))
  return [f.name for f in folders if (f / PLAN).is_file() or (f / TABLE).is_file()]


def _missing(workdir: Path, name: str) -> str:
  there = names(workdir)
  hint = unknown_name("evaluation", name, there) if there else "no evaluation there yet"
  return (
    f"{workdir / 'results' / name / PLAN} is missing: {hint}. Make it: "
    f"launch/evaluate.py --workdir={workdir} --config=configs/attacks/<name>.py"
  )


def _planned(path: Path, cells: Sequence[Mapping[str, Any]]) -> list[Planned]:
  try:
    for each in cells:
      check_kinds(each, Planned.__annotations__)
    return [Planned(**each) for each in cells]
  except (TypeError, ValueError, AttributeError) as error:
    raise ValueError(f"{path} is damaged (its cells: {error}); {_FIX}") from error


def _read(folder: Path, planned: Planned) -> tuple[Planned, Cell | None]:
  """The cell, and its state."""
  path = folder / planned.file if planned.file else None
  if path is None or not path.is_file():
    partial = path is not None and path.with_suffix(".partial").is_file()
    return planned._replace(state=UNFINISHED if partial else NOT_RUN), None
  try:
    cell = read_result(path)
  except ValueError:
    return planned._replace(state=DAMAGED), None
  if planned.grid is not None:
    cell = cell._replace(header={**cell.header, "grid": planned.grid})
  return planned, cell


def _from_table(folder: Path, table: Mapping[str, Any]) -> list[Planned]:
  """The plan of an evaluation that has none: its rows, and the newest cells that belong to them."""
  headers = {}
  for path in sorted(folder.glob("*.npz"), key=lambda p: p.stat().st_mtime_ns):
    try:
      header = read_result(path).header
    except ValueError:
      continue
    key = _key(header["label"], header["norm"], header["eps"], header["settings"])
    headers[key] = path.name
  own = {n: table[n] for n in _IDENTITY if n in table}
  grading = {**own, **{n: table["protocol"][n] for n in _GRADING}}
  protocol = table["protocol"]
  clean = {"seed": protocol["seed"], "draws": protocol["clean_draws"], "metrics": protocol["clean"]}
  wanted = [(CLEAN, "", 0.0, {**own, **clean}), (UNTOUCHED, "", 0.0, grading)]
  for row in [*table["rows"], *table.get("minimum", ())]:
    if "derived" not in row:
      attack = {"attack": row["attack"]} if "attack" in row else {}
      wanted.append((row["label"], row["norm"], row["eps"], {**grading, **attack}))
  planned = []
  for label, norm, eps, settings in wanted:
    grid = _grid(table["rows"], label, norm) if eps is None else None
    planned.append(Planned(label, norm, eps, headers.get(_key(label, norm, eps, settings)), grid))
  return planned


def _grid(rows: Sequence[Mapping[str, Any]], label: str, norm: str) -> list[float]:
  """The eps at which the rows of a minimum-norm attack were read off."""
  own = (label, label + AS_DISTANCE)
  read_off = (r for r in rows if "derived" in r and r["norm"] == norm and r["label"] in own)
  return sorted({row["eps"] for row in read_off})


def _key(label: str, norm: str, eps: float | None, settings: Mapping[str, Any]) -> str:
  """What a cell is matched by: its identity without what a table does not tell."""
  names = (*_IDENTITY, *_GRADING, "attack", "draws", "metrics")
  return canonical_json([label, norm, eps, {n: settings[n] for n in names if n in settings}])
