"""Everything that one evaluation leaves behind: table.json, table.md and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gencls.evaluate import GREY, SURFACE
from gencls.evaluation import minimum_norm
from gencls.evaluation.results import Cell
from gencls.report import figures, table
from gencls.summary import detection
from gencls.workdir import atomic_write, to_json

MAX_COLUMNS = 8


def write(
  summary: Mapping[str, Any],
  cells: Sequence[Cell],
  images: np.ndarray,
  *,
  results: Path,
  figure_folder: Path,
) -> list[Path]:
  """Writes table and figures of one evaluation.

  Args:
    summary: from `summary.summarise` with the fields that `launch/evaluate.py` adds.
    cells: the cells it was made of.
    images: [M, H, W, D] float32, the first clean images.
    results: folder for table.json and table.md.
    figure_folder: folder for the figures, <name>_….png.

  Returns:
    The files written.
  """
  paths = [results / "table.json", results / "table.md"]
  atomic_write(paths[0], to_json(dict(summary)))
  atomic_write(paths[1], table.markdown(summary))
  if summary["worst"]:
    paths.append(figure_folder / f"{summary['name']}_accuracy_vs_eps.png")
    figures.save(accuracy_figure(summary), paths[-1])
  roc = roc_figure(summary, cells)
  if roc is not None:
    paths.append(figure_folder / f"{summary['name']}_roc.png")
    figures.save(roc, paths[-1])
  surface = surface_figure(summary, cells)
  if surface is not None:
    paths.append(figure_folder / f"{summary['name']}_surface.png")
    figures.save(surface, paths[-1])
  shown = strongest_shown(cells)
  if shown is not None and len(images):
    paths.append(figure_folder / f"{summary['name']}_images.png")
    figures.save(images_figure(summary, cells[1], shown, images), paths[-1])
  return paths


def sample(summary: Mapping[str, Any]) -> str:
  """Which images a figure shows, under which threat model."""
  settings = summary["protocol"]
  threat = settings["threat"].replace("_", " ")
  return (
    f"First {summary['num_images']} {summary['data']['split']} images, {threat}, "
    f"seed {settings['seed']}"
  )


def note(summary: Mapping[str, Any]) -> str:
  """The small print of a figure."""
  return f"{sample(summary)}; bars and bands: 95% intervals over images"


def accuracy_figure(summary: Mapping[str, Any]) -> Any:
  """Accuracy against eps, a curve for each attack and the worst case."""
  start, panels = summary["untouched"]["accuracy"], {}
  for norm in dict.fromkeys(row["norm"] for row in summary["worst"]):
    rows = [row for row in summary["rows"] if row["norm"] == norm]
    worst = [row for row in summary["worst"] if row["norm"] == norm]
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows if row["label"] != GREY):
      own = [row for row in rows if row["label"] == label]
      lines.append(figures.line(label, own, "accuracy", start))
    grey = [row for row in rows if row["label"] == GREY]
    lines.append(figures.line("grey image", grey, "accuracy", start, quiet=True))
    lines.append(figures.line("worst case", worst, "accuracy", start, strong=True))
    panels[norm] = lines
  title = f"{summary['title']}: accuracy under attack"
  chance = summary["largest_class_share"]
  return figures.curves(panels, title, "accuracy, %", note(summary), chance)


def roc_figure(summary: Mapping[str, Any], cells: Sequence[Cell]) -> Any:
  """ROC curves of the detector at each norm's largest eps; None without one, or a success."""
  found = summary["detection"]
  if found is None:
    return None
  attacked = [cell for cell in cells if cell.header["norm"]]
  lines = detection.curves(cells[1], minimum_norm.expand(attacked, cells[1]))
  if not lines:
    return None
  panels = {f"{norm}, eps = {eps:g}": own for (norm, eps), own in lines.items()}
  name = found["detector"]["name"]
  title = f"{summary['title']}: detection of attacks by {name}"
  text = f"{sample(summary)}; attacks on the detector aim at the threshold used, and no other"
  return figures.roc(panels, found["test_rejected"]["mean"], title, text)


def surface_figure(summary: Mapping[str, Any], cells: Sequence[Cell]) -> Any:
  """The margin over a plane through the first images; None where it was not looked at."""
  cell = next((cell for cell in cells if cell.header["label"] == SURFACE), None)
  if cell is None:
    return None
  title = f"{summary['title']}: margin around the first {cell.header['num_images']} images"
  eps = cell.header["surface"]["eps"]
  who = zip(cell.arrays["index"], cell.arrays["label"], strict=True)
  names = [f"image {i}, class {y}" for i, y in who]
  return figures.surfaces(cell.arrays["margin"], names, eps, title, _surface_note(summary))


def _surface_note(summary: Mapping[str, Any]) -> str:
  settings = summary["protocol"]
  return (
    "largest other less own logit, nats: red misclassified, blue right, black line the boundary, "
    "dot the image; eps in linf, pixels clipped to [0, 1]; one key for each image, "
    f"seed {settings['seed']}"
  )


def strongest_shown(cells: Sequence[Cell]) -> Cell | None:
  """The attack whose images are shown: the one that leaves nearest to 40% right."""
  moved = [cell for cell in cells if cell.header["eps"] != 0]  # None: of a minimum-norm attack
  kept = [cell for cell in moved if len(cell.arrays.get("x_adv", ()))]
  if not kept:
    return None
  return min(kept, key=lambda cell: abs(float(np.mean(cell.arrays["correct"])) - 0.4))


def images_figure(
  summary: Mapping[str, Any], untouched: Cell, shown: Cell, images: np.ndarray
) -> Any:
  """The first images, as the attack left them: never chosen by how they look."""
  adversarial = shown.arrays["x_adv"][:MAX_COLUMNS]
  n = min(len(adversarial), len(images))
  header = shown.header
  at = "minimum" if header["eps"] is None else f"eps = {header['eps']:g}"
  return figures.image_grid(
    images[:n],
    adversarial[:n],
    shown.arrays["label"][:n],
    untouched.arrays["prediction"][:n, 0],
    shown.arrays["prediction"][:n, 0],
    f"{summary['title']}: {header['label']}, {header['norm']} {at}, the first {n} images",
  )
