"""Runs analyses into a work directory, each once: a finished one is never computed again.

  results/analyses/<analysis>-<identity>.npz   arrays, and everything else as its header
  results/analyses/logits_….npz                what several analyses start from
  results/analyses/<analysis>.json             the numbers of the last run, with what made them
  results/analyses/page.md                     what every <analysis>.json of this model says
  figures/analyses_….png

Several processes may work on one folder: each analysis is made under a lock, by one.
"""

import functools
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencls import data, json_files, locks, sharing
from gencls.analyses import REGISTRY
from gencls.analyses.inputs import (
  FITTING_PURPOSE,
  PURPOSE,
  Caption,
  Examined,
  Inputs,
  logits_of_set,
  make_inputs,
)
from gencls.evaluation.results import Cell, cell_path, data_digest, read_cell, write_cell
from gencls.names import unknown_name
from gencls.report import figures
from gencls.workdir import atomic_write, to_json

# Raised by hand whenever the same settings give other numbers or other arrays than before.
VERSION = 2
FOLDER = Path("results") / "analyses"
PREFIX = "analyses_"  # of the figures
_LINK = "../../figures/"  # from the page to a figure
OWN, FITTING = "logits_own", "logits_fitting"


class Plan(NamedTuple):
  """One file to be made; `settings` is everything that decides its numbers."""

  name: str
  settings: dict[str, Any]
  path: Path


def check_names(names: Iterable[str]) -> None:
  """Raises ValueError, with the nearest names, for an analysis that does not exist."""
  for name in names:
    if name not in REGISTRY:
      raise ValueError(unknown_name("analysis", name, REGISTRY))


def make_plans(
  examined: Examined, chosen: Mapping[str, Mapping[str, Any]], identity: Mapping[str, Any]
) -> list[Plan]:
  """The files of the chosen analyses, and before them the logits that they need.

  Args:
    examined: the classifier.
    chosen: name of an analysis -> its settings.
    identity: JSON-able; what the model is (parameters, checkpoint, hyperparameters, backend).

  Raises:
    ValueError: if there is no such analysis.
  """
  check_names(chosen)
  base = {"version": VERSION, **identity, "seed": examined.seed}
  own, fitting = (describe(each) for each in (examined.dataset, examined.fitting))
  detectors = {
    "names": list(examined.detectors),
    "false_positive_rate": examined.false_positive_rate,
    "data": fitting,
  }

  def plan(name: str, **settings: Any) -> Plan:
    settings = {**base, "analysis": name, **settings}
    return Plan(name, settings, cell_path(examined.workdir / FOLDER, name, settings))

  needed = any(REGISTRY[name].needs_logits for name in chosen)
  logits = [plan(OWN, data=own), plan(FITTING, data=fitting)] if needed else []
  analyses = [
    plan(
      name,
      data=own,
      settings=dict(settings),
      depends=REGISTRY[name].depends(examined, settings),
      **({"detectors": detectors} if REGISTRY[name].needs_logits else {}),
    )
    for name, settings in chosen.items()
  ]
  return [*logits, *analyses]


def describe(dataset: data.Dataset) -> dict[str, Any]:
  """Which images, JSON-able."""
  return {
    "name": dataset.name,
    "split": dataset.split,
    "num_images": len(dataset.labels),
    "digest": data_digest(dataset.images, dataset.labels),
  }


def run(
  examined: Examined,
  chosen: Mapping[str, Mapping[str, Any]],
  *,
  identity: Mapping[str, Any],
  record: Mapping[str, Any],
) -> dict[str, Cell]:
  """Makes what is not there yet.

  Args:
    examined: the classifier.
    chosen: name of an analysis -> its settings.
    identity: JSON-able, see `make_plans`.
    record: JSON-able; written into new files (config, versions, device, command).

  Returns:
    name -> the `Cell` of each chosen analysis: "numbers" in its header, and arrays.

  Raises:
    ValueError: for an analysis or setting that does not exist or fit, or a damaged file.
  """
  plans = make_plans(examined, chosen, identity)
  found: dict[str, Cell] = {}

  @functools.cache
  def inputs() -> Inputs:
    return _inputs(examined, found)

  def done(plan: Plan) -> bool:
    if plan.name not in found and plan.path.exists():
      found[plan.name] = read_cell(plan.path)
    return plan.name in found

  def ready(plan: Plan) -> bool:
    return plan.name in (OWN, FITTING) or all(p.name in found for p in plans[: -len(chosen)])

  def make(plan: Plan, held: locks.Held) -> None:
    del held  # who has lost it writes the same numbers
    start = time.perf_counter()
    if plan.name in (OWN, FITTING):
      arrays, header = _logits(examined, plan.name), {}
    else:
      given = inputs()._replace(depends=plan.settings["depends"])
      arrays, numbers = REGISTRY[plan.name].analyse(given, plan.settings["settings"])
      header = {"numbers": numbers, "left_out_detectors": inputs().left_out}
    header |= {
      "analysis": plan.name,
      "settings": plan.settings,
      "num_images": plan.settings["data"]["num_images"],
      "seconds": round(time.perf_counter() - start, 3),
      "record": dict(record),
    }
    found[plan.name] = Cell(header, arrays)
    write_cell(plan.path, found[plan.name])

  sharing.share(plans, make, lock_path=_lock, done=done, ready=ready)
  return {name: found[name] for name in chosen}


def _lock(plan: Plan) -> Path:
  return plan.path.with_suffix(".lock")


def _logits(examined: Examined, name: str) -> dict[str, np.ndarray]:
  dataset, purpose = examined.dataset, PURPOSE
  if name == FITTING:
    dataset, purpose = examined.fitting, FITTING_PURPOSE
  logits = logits_of_set(examined, dataset, name.replace("_", " "), purpose=purpose)
  return {"index": dataset.indices, "label": dataset.labels, "logits": logits}


def _inputs(examined: Examined, found: Mapping[str, Cell]) -> Inputs:
  """With the logits and detectors, or without where no chosen analysis needs them."""
  if OWN not in found:
    return Inputs(examined, np.zeros((0, len(examined.class_prior))), {}, {})
  return make_inputs(examined, *(found[name].arrays["logits"] for name in (OWN, FITTING)))


def write(
  cells: Mapping[str, Cell], statement: Mapping[str, Any], workdir: Path, caption: Caption
) -> str:
  """Writes numbers, figures and the page; returns the page.

  The page has the other analyses of the same model too that are there.

  Args:
    cells: from `run`.
    statement: JSON-able; what the page is about (title, data, model, config).
    workdir: of the run.
    caption: of the figures.
  """
  for name, cell in cells.items():
    made = REGISTRY[name].figures(cell, caption)
    names = [f"{PREFIX}{name}{ending}.png" for ending in made]
    for path, figure in zip(names, made.values(), strict=True):
      figures.save(figure, workdir / "figures" / path)
    file = cell_path(Path(), name, cell.header["settings"]).name
    numbers = {**statement, **cell.header, "file": file, "figures": names, "note": caption.note}
    atomic_write(workdir / FOLDER / f"{name}.json", to_json(numbers))
  model = _model(next(iter(cells.values())).header) if cells else {}
  sections, without = [], []
  for name in REGISTRY:
    header = _shown(workdir / FOLDER, name, model)
    if header is None:
      continue
    cell = cells[name] if name in cells else read_cell(workdir / FOLDER / header["file"])
    note = "" if header["note"] == caption.note else header["note"]
    sections.append(section(name, cell, header["figures"], note))
    left_out = header["left_out_detectors"].items()
    without += [f"No detector {detector}: {why}." for detector, why in left_out]
  parts = [f"# {caption.title}: analyses", caption.note, *dict.fromkeys(without), *sections]
  page = "\n\n".join(parts) + "\n"
  atomic_write(workdir / FOLDER / "page.md", page)
  return page


def publish(page: str, workdir: Path, out: Path) -> None:
  """Copies a page with its figures and numbers into one folder, as <out>/page.md.

  Args:
    page: from `write`.
    workdir: of the run.
    out: folder, made where it is not there.
  """
  figure_names = re.findall(rf"\]\({re.escape(_LINK)}([^)]+)\)", page)
  for name in figure_names:
    atomic_write(out / name, (workdir / "figures" / name).read_bytes())
  shown = [name for name in REGISTRY if f"## {title(name)}\n" in page]
  for name in shown:
    atomic_write(out / f"{name}.json", (workdir / FOLDER / f"{name}.json").read_text())
  numbers = ", ".join(f"[{name}.json]({name}.json)" for name in shown)
  made = f"\nNumbers, settings, seed, versions, device and command: {numbers}.\n"
  atomic_write(out / "page.md", page.replace(_LINK, "") + made)


def _model(header: Mapping[str, Any]) -> dict[str, Any]:
  """What has to agree on one page; JSON-able."""
  names = ("version", "model", "params", "step", "backend")
  found = {name: header["settings"].get(name) for name in names}
  return json.loads(json.dumps(found))


def _shown(folder: Path, name: str, model: Mapping[str, Any]) -> dict[str, Any] | None:
  """<analysis>.json, if it is there with its arrays and of this model."""
  path = folder / f"{name}.json"
  if not path.is_file():
    return None
  needs = ("settings", "file")
  header = json_files.read_object(path, fix="delete it and run again", needs=needs)
  fits = _model(header) == model and (folder / header["file"]).is_file()
  return header if fits else None


def section(name: str, cell: Cell, figure_names: Sequence[str], note: str = "") -> str:
  """What the page says of one analysis; `note` where its images are not those of the page."""
  shown = "\n\n".join(f"![{name}]({_LINK}{path})" for path in figure_names)
  head = f"## {title(name)}\n\n{note}\n\n" if note else f"## {title(name)}\n\n"
  text = head + REGISTRY[name].markdown(cell)
  return f"{text}\n\n{shown}" if shown else text


def title(name: str) -> str:
  """Of an analysis, in words."""
  return name.replace("_", " ").capitalize()
