"""Minimal eps and average robustness, from the per-example results of finished evaluations.

For each image and attack the nearest wrong image that an evaluation holds: 0 for natural errors,
infinity where the attack never succeeded. Under a fresh seed the select draws choose and the grade
draws count: the smallest distance within which the worst image by the select draws is wrong on at
least half of both. Of a fixed budget that is the smallest eps of the grid at
which it did, or less where the graded image lies nearer; of a minimum-norm attack its distance. The
share of images within eps is the attack's success curve, natural errors included, as a function of
every eps and not of a grid alone.

The average robustness ρ = mean ‖η‖₂ / ‖x‖₂, of attacks of any norm, is infinite with the first
failure; therefore its median and the mean over the successes stand beside it
(`minimum_norm.distance_statistics`). Older cells hold the attack's norm alone: of ℓ2 that is the
one, of others ρ is not stored.

References:
  Moosavi-Dezfooli et al. 2016, arXiv:1511.04599 (ρ); Li et al. 2019, arXiv:1802.06552 (minimal eps
  over a grid).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.analyses.inputs import Arrays, Caption, Examined, Inputs, Numbers, floats
from gencls.evaluate import GREY, UNTOUCHED
from gencls.evaluation import minimum_norm, stored
from gencls.evaluation.results import Cell, data_digest
from gencls.intervals import share_interval
from gencls.markdown import grid, percent
from gencls.report import analysis_figures
from gencls.summary.checks import WORST
from gencls.summary.detection import own_view
from gencls.summary.targeted import aim


class Nearest(NamedTuple):
  """How far the nearest wrong images are; infinite where there is none."""

  distance: np.ndarray  # [N] float64, in the attacks' norm
  l2_norm: np.ndarray  # [N] float64, of the same perturbations; NaN where it is not stored


def nearest(cells: Sequence[Cell], untouched: Cell) -> Nearest:
  """The nearest wrong image of each example.

  An image is wrong if at least half of its select draws fail, and of its grade draws too. Asked is
  only the one that the select draws choose within its distance (as `grading.worst_case`): of many
  images that are mostly right, some draws of some are wrong by chance.

  Args:
    cells: of one norm and one predicate: one for each attack and eps, or a minimum-norm attack's.
    untouched: of the clean images.
  """
  views = [own_view(untouched, cells[0]), *map(own_view, cells)]
  names = ("select_correct", "select_margin", "correct")
  select, margin, correct = (np.stack([v.arrays[name] for v in views]) for name in names)
  zero = np.zeros(select.shape[1])
  far = np.stack([zero, *(c.arrays["norm"].astype(np.float64) for c in cells)])
  l2_norm = np.stack([zero, *map(_l2_norm, cells)])
  worse = np.lexsort((far, margin, select), axis=0)  # of equal ones the nearer first
  place = np.argsort(worse, axis=0)
  outwards = np.lexsort((place, far), axis=0)
  place, far, l2_norm, select, correct = (
    np.take_along_axis(each, outwards, axis=0) for each in (place, far, l2_norm, select, correct)
  )
  chosen = place == np.minimum.accumulate(place, axis=0)
  wrong = chosen & minimum_norm.failing(select) & minimum_norm.failing(correct)
  first, there = np.argmax(wrong, axis=0)[None], np.any(wrong, axis=0)
  distance, l2_norm = (np.take_along_axis(each, first, axis=0)[0] for each in (far, l2_norm))
  return Nearest(np.where(there, distance, np.inf), np.where(there, l2_norm, np.inf))


def _l2_norm(cell: Cell) -> np.ndarray:
  size = cell.arrays["norm"]
  own = size if cell.header["norm"] == "l2" else np.full(size.shape, np.nan)
  return np.asarray(cell.arrays.get("l2_norm", own), np.float64)


def curve(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(every finite distance in order, the share of all images that are no farther)."""
  at = np.unique(distances[np.isfinite(distances)])
  return at, np.searchsorted(np.sort(distances), at, side="right") / len(distances)


def evaluations(workdir: Any, names: Sequence[str]) -> dict[str, stored.Stored]:
  """The evaluations of a run by name: those asked for, or all; finished or not."""
  return {name: stored.read(workdir, name) for name in names or stored.names(workdir)}


def attacks(evaluation: stored.Stored) -> dict[tuple[str, str], list[Cell]]:
  """(label, norm) -> the cells of each untargeted attack."""
  found: dict[tuple[str, str], list[Cell]] = {}
  for cell in evaluation.cells:
    header = cell.header
    if header["norm"] and header["label"] != GREY and aim(cell) is None:
      found.setdefault((header["label"], header["norm"]), []).append(cell)
  return found


def depends(examined: Examined, settings: Mapping[str, Any]) -> Any:
  """The cells that there are, and those that are not: with more of them the analysis is another."""
  found = evaluations(examined.workdir, settings["evaluations"])
  return {
    name: {"files": sorted(each.files()), "missing": _missing(each)} for name, each in found.items()
  }


def _missing(evaluation: stored.Stored) -> list[dict[str, Any]]:
  """The cells of untargeted attacks that are planned and not there."""
  made = evaluation.statement.get("attacks", {})
  return [
    {"label": each.label, "norm": each.norm, "eps": each.eps}
    for each in evaluation.planned
    if each.state != stored.FINISHED
    and each.norm
    and each.label != GREY
    and made.get(each.label, {}).get("target") is None
  ]


def _as_named(evaluation: stored.Stored, files: Sequence[str]) -> stored.Stored:
  """With these cells only: others may have been finished since."""
  finished = [each for each in evaluation.planned if each.state == stored.FINISHED]
  kept = [cell for each, cell in zip(finished, evaluation.cells, strict=True) if each.file in files]
  if len(kept) != len(files):
    raise ValueError(
      f"{evaluation.folder} has lost {len(files) - len(kept)} of {len(files)} cells while it was "
      "read; run again"
    )
  return evaluation._replace(cells=kept)


def analyse(inputs: Inputs, settings: Mapping[str, Any]) -> tuple[Arrays, Numbers]:
  """The distances of every attack of every evaluation, and the nearest over all of them.

  Args:
    inputs: the classifier; its images are those of the evaluations, or start like them. What it
      depends on names the cells that are read.
    settings: of the analysis; the evaluations are those that `inputs.depends` names.
  """
  arrays: Arrays = {}
  numbers: Numbers = {"rows": [], "left_out": {}, "missing": {}}
  for name, there in inputs.depends.items():
    each = _as_named(stored.read(inputs.examined.workdir, name), there["files"])
    untouched = next((c for c in each.cells if c.header["label"] == UNTOUCHED), None)
    groups = attacks(each)
    x = _images(inputs.examined, each.statement["data"])
    if untouched is None or x is None or not groups:
      reason = "no untargeted attack is graded yet" if x is not None else "it is of other images"
      numbers["left_out"][name] = reason
      continue
    if there["missing"]:
      numbers["missing"][name] = there["missing"]
    for norm in dict.fromkeys(norm for _, norm in groups):
      own = {label: nearest(c, untouched) for (label, n), c in groups.items() if n == norm}
      blind = [c for (_, n), c in groups.items() if n == norm and not _evading(c)]
      if len(blind) > 1:
        own[WORST] = nearest([cell for cells in blind for cell in cells], untouched)
      for label, found in own.items():
        row = _row(name, label, norm, found, x, len(arrays))
        row["missing"] = any(
          m["norm"] == norm and label in (m["label"], WORST) for m in there["missing"]
        )
        numbers["rows"].append(row)
        arrays[f"distance_{len(arrays)}"] = found.distance
  return arrays, numbers


def _evading(cells: Sequence[Cell]) -> bool:
  return cells[0].header["settings"]["attack"].get("against") == "detector"


def _images(examined: Examined, source: Mapping[str, Any]) -> np.ndarray | None:
  """[N, H, W, D] what was evaluated; None where that is other data than the analysis has."""
  whole, n = examined.whole, source["num_images"]
  if (source["name"], source["split"]) != (whole.name, whole.split) or n > len(whole.labels):
    return None
  if data_digest(whole.images[:n], whole.labels[:n]) != source["digest"]:
    return None
  return floats(whole, np.arange(n))


def _row(
  evaluation: str, label: str, norm: str, wrong: Nearest, x: np.ndarray, number: int
) -> Numbers:
  found, relative = np.isfinite(wrong.distance), None
  if not np.any(np.isnan(wrong.l2_norm)):
    size = minimum_norm.relative_l2(np.where(found, wrong.l2_norm, 0.0), x)
    relative = np.where(found, size, np.inf)
  statistics = minimum_norm.distance_statistics(wrong.distance, relative)
  return {
    "evaluation": evaluation,
    "label": label,
    "norm": norm,
    "array": f"distance_{number}",
    "broken": share_interval(found)._asdict(),
    **statistics,
  }


def figures(cell: Cell, caption: Caption) -> dict[str, Any]:
  """Success curves by norm, one figure for each evaluation."""
  found = {}
  rows = cell.header["numbers"]["rows"]
  for name in dict.fromkeys(row["evaluation"] for row in rows):
    panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    own = [row for row in rows if row["evaluation"] == name]
    for row in own:
      points = curve(cell.arrays[row["array"]])
      panels.setdefault(f"eps ({row['norm']}, images in [0, 1])", {})[row["label"]] = points
    title = f"{caption.title}: images broken within eps, {name}"
    note = (
      f"n = {own[0]['broken']['n']}; natural errors count as broken at 0. Nearest wrong image that "
      "the evaluation has."
    )
    missing = cell.header["numbers"]["missing"].get(name)
    if missing:
      note += f" Unfinished: {len(missing)} cells of attacks are not run yet."
    found[f"_{name}"] = analysis_figures.steps(panels, title, note, strong=WORST)
  return found


def markdown(cell: Cell) -> str:
  """One row for each attack."""
  numbers = cell.header["numbers"]
  fields = ("median_norm_all", "median_norm", "mean_relative_norm", "median_relative_norm_all",
            "mean_relative_norm_of_successes")  # fmt: skip
  rows = [
    [
      row["evaluation"],
      row["label"],
      row["norm"],
      percent(row["broken"]) + " *" * row["missing"],
      *[minimum_norm.text(row, field) for field in fields],
    ]
    for row in numbers["rows"]
  ]
  header = ["evaluation", "attack", "norm", "broken, %", "median eps", "of successes", "rho",
            "median of ‖η‖₂/‖x‖₂", "rho of successes"]  # fmt: skip
  left_out = "".join(f"\n\nWithout {name}: {why}." for name, why in numbers["left_out"].items())
  left_out += "".join(
    f"\n\nNot run yet in {name} (what has * can only break more images, and nearer): "
    f"{', '.join(map(_cell_name, cells))}."
    for name, cells in numbers["missing"].items()
  )
  text = (
    "The nearest wrong image of every attack, natural errors at 0, failures infinitely far; rho = "
    "mean ‖η‖₂ / ‖x‖₂. Of a fixed budget, eps and rho are upper bounds that its "
    "grid of eps sets. The worst case is over the attacks on the classifier."
  )
  return f"{text}\n\n{grid(header, rows)}{left_out}" if rows else f"No attack.{left_out}"


def _cell_name(missing: Mapping[str, Any]) -> str:
  eps = "minimum" if missing["eps"] is None else f"{missing['eps']:g}"
  return f"{missing['label']} {missing['norm']} {eps}"
