"""What a report is made of: the numbers of each evaluation, computed from the cells that are there.

A half-finished evaluation has the numbers of its finished cells, and a list of what is missing. A
worst case over some of the attacks only says so: with the others it can only be lower.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gencls.evaluate import CLEAN, GREY, UNTOUCHED
from gencls.evaluation import stored
from gencls.evaluation.results import Cell
from gencls.summary.checks import WORST
from gencls.summary.summarise import summarise

_NEEDS = ("title", "data", "model", "attack_model", "protocol", "attacks", "config", "record")
_EMPTY: dict[str, Any] = {"rows": [], "minimum": [], "worst": [], "checks": [], "made_by": {}}


class Entry(NamedTuple):
  """One evaluation of one run."""

  title: str
  workdir: Path
  name: str
  summary: dict[str, Any]  # what table.json holds, and "missing"
  planned: list[stored.Planned]
  cells: list[Cell]  # the finished ones
  files: list[str]  # of `cells`


def read(workdir: str | Path, name: str) -> Entry:
  """The numbers of an evaluation, finished or not.

  Returns:
    An `Entry` with the evaluation's own title. In its summary "missing" lists the cells that are
    not there ({label, norm, eps, state}); "clean" and "untouched" are None where these have not
    been graded; rows of worst cases have "missing", the labels of attacks that may lower them.

  Raises:
    FileNotFoundError: if there is no such evaluation; names those that are there.
    ValueError: if its plan is damaged.
  """
  found = stored.read(workdir, name)
  lacking = [field for field in _NEEDS if field not in found.statement]
  if lacking:
    raise ValueError(
      f"{found.folder} does not say its {', '.join(lacking)}: its plan.json (or table.json) is "
      "damaged; run the same launch/evaluate.py again, it computes no finished cell again"
    )
  missing = [
    {name: getattr(each, name) for name in ("label", "norm", "eps", "state")}
    for each in found.planned
    if each.state != stored.FINISHED
  ]
  graded = {cell.header["label"] for cell in found.cells}
  if not found.cells and "rows" in found.statement:
    missing, summary = [], found.statement  # its cells lie elsewhere: the table is all there is
  elif graded >= {CLEAN, UNTOUCHED}:
    summary = {**found.statement, **summarise(found.cells, [each["label"] for each in missing])}
  else:
    n = found.statement["data"]["num_images"]
    summary = {**found.statement, **_EMPTY, "num_images": n, "clean": None, "untouched": None}
  worst = [{**row, "missing": _lowering(row, missing)} for row in summary["worst"]]
  if missing:
    worst += _unmade(found.planned, worst)
  summary = {**summary, "worst": worst, "missing": missing}
  if summary.get("detection"):  # older files have none
    summary["detection"] = _with_missing(summary["detection"], summary["attacks"], missing)
  title = summary["title"]
  return Entry(title, Path(workdir), name, summary, found.planned, found.cells, found.files())


def _lowering(row: dict[str, Any], missing: Sequence[dict[str, Any]]) -> list[str]:
  """The attacks without which a worst case is not whole."""
  found = [
    each["label"]
    for each in missing
    if each["norm"] == row["norm"] and (each["eps"] is None or each["eps"] <= row["eps"])
  ]
  return list(dict.fromkeys(label for label in found if label != GREY))


def _with_missing(
  found: dict[str, Any], attacks: dict[str, Any], missing: Sequence[dict[str, Any]]
) -> dict[str, Any]:
  """The detector's numbers, whose worst cases say which attacks of their kind may raise them."""
  kinds = {label: attack.get("against") or "classifier" for label, attack in attacks.items()}
  worst = []
  for row in found["worst"]:
    own = [
      each for each in missing if row["kind"] in ("either", kinds.get(each["label"], "classifier"))
    ]
    worst.append({**row, "missing": _lowering(row, own)})
  return {**found, "worst": worst}


def _unmade(planned: Sequence[stored.Planned], worst: Sequence[dict[str, Any]]) -> list[dict]:
  """Rows without a number: the worst cases that no finished cell says anything of."""
  there = {(row["norm"], row["eps"]) for row in worst}
  grid = {(p.norm, e) for p in planned if p.norm for e in p.grid or [p.eps]}
  return [
    {"label": WORST, "norm": norm, "eps": eps, "accuracy": None, "success_rate": None,
     "chosen": {}, "missing": ["all"]}
    for norm, eps in sorted(grid - there)
  ]  # fmt: skip
