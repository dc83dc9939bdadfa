"""The first image under one attack as eps grows, a row for each model."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.report import figures
from gencls.report.reading import Entry


class Shown(NamedTuple):
  """What an attack made of the first image at one eps."""

  eps: float
  image: np.ndarray  # [H, W, D] in [0, 1]
  prediction: int
  right: bool


def rows(entries: Sequence[Entry], label: str) -> dict[str, list[Shown]]:
  """The first image under the attack `label`: title -> one for each eps, from the kept images."""
  found: dict[str, list[Shown]] = {}
  for entry in entries:
    kept = [
      cell
      for cell in entry.cells
      if cell.header["label"] == label and cell.header["eps"] and len(cell.arrays.get("x_adv", ()))
    ]
    for cell in sorted(kept, key=lambda cell: cell.header["eps"]):
      prediction = int(cell.arrays["prediction"][0, 0])
      right = prediction == int(cell.arrays["label"][0])
      shown = Shown(cell.header["eps"], cell.arrays["x_adv"][0], prediction, right)
      found.setdefault(entry.title, []).append(shown)
  return found


@figures.styled
def draw(found: Mapping[str, Sequence[Shown]], label: str, note: str) -> Any:
  """The images with their predictions above, green right and red wrong.

  Args:
    found: from `rows`, not empty.
    label: of the attack.
    note: small print below the figure.

  Returns:
    A matplotlib figure.
  """
  columns = sorted({shown.eps for row in found.values() for shown in row})
  size = (1.2 + 1.1 * len(columns), 0.9 + 1.25 * len(found))
  figure, axes = figures.new(len(columns), len(found), size)
  for row, (title, images) in zip(axes, found.items(), strict=True):
    by_eps = {shown.eps: shown for shown in images}
    for axis, eps in zip(row, columns, strict=True):
      figures.bare(axis)
      if (shown := by_eps.get(eps)) is not None:
        colour = figures.GOOD if shown.right else figures.BAD
        figures.show(axis, shown.image, str(shown.prediction), colour)
    row[0].set_ylabel(title, fontsize=8)
  for axis, eps in zip(axes[-1], columns, strict=True):
    axis.set_xlabel(f"eps = {eps:g}", fontsize=8)
  figure.suptitle(f"The first image under {label}", x=0.02, ha="left", fontsize=11)
  figure.supxlabel(note, fontsize=7, color=figures.QUIET, x=0.02, ha="left")
  return figure
