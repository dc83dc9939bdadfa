"""The first image under one attack as eps grows, a row for each model."""

import base64
import logging
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.report import figures, results_file
from gencls.report.reading import Entry

_LOG = logging.getLogger(__name__)
_LABEL_WIDTH = 22  # characters


class Shown(NamedTuple):
  """What an attack made of the first image at one eps."""

  eps: float
  image: np.ndarray  # [H, W, D] in [0, 1]
  prediction: int
  right: bool


def recorded_attack(entries: Sequence[Entry]) -> str | None:
  """The attack whose image models without cells have; None if none has one."""
  records = [entry.summary.get("one_image") for entry in entries if not entry.cells]
  return next((record["attack"] for record in records if record), None)


def rows(entries: Sequence[Entry], label: str) -> dict[str, list[Shown]]:
  """The first image under the attack `label`: title -> one for each eps, from the kept images.

  Of a model without cells: as `recorded` left it.
  """
  found = {entry.title: _of_cells(entry, label) or _of_record(entry, label) for entry in entries}
  lost = [entry.title for entry in entries if results_file.kept(entry) and not found[entry.title]]
  if lost:
    _LOG.warning("no image under %s is kept of %s: no figure has them", label, ", ".join(lost))
  return {title: images for title, images in found.items() if images}


def _of_cells(entry: Entry, label: str) -> list[Shown]:
  kept = [
    cell
    for cell in entry.cells
    if cell.header["label"] == label and cell.header["eps"] and len(cell.arrays.get("x_adv", ()))
  ]
  found = []
  for cell in sorted(kept, key=lambda cell: cell.header["eps"]):
    prediction = int(cell.arrays["prediction"][0, 0])
    right = prediction == int(cell.arrays["label"][0])
    found.append(Shown(cell.header["eps"], cell.arrays["x_adv"][0], prediction, right))
  return found


def _of_record(entry: Entry, label: str) -> list[Shown]:
  record = entry.summary.get("one_image")
  if entry.cells or record is None or record["attack"] != label:
    return []
  try:
    return [_decoded(each, record["shape"]) for each in record["images"]]
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{entry.workdir} is damaged (the images of {entry.title!r}: {error!r}); restore it"
    ) from error


def _decoded(image: Mapping[str, Any], shape: Sequence[int]) -> Shown:
  levels = np.frombuffer(base64.b64decode(image["levels"], validate=True), np.uint8)
  pixels = (levels / np.float32(255)).reshape(shape)
  return Shown(image["eps"], pixels, image["prediction"], image["right"])


def recorded(
  summaries: Mapping[str, Any], found: Mapping[str, Sequence[Shown]], label: str
) -> dict[str, Any]:
  """The summaries with the images that are shown, in 256 levels, so that they can be drawn again.

  Args:
    summaries: title -> summary.
    found: from `rows`.
    label: of the attack.
  """
  return {
    title: {**summary, "one_image": _record(found[title], label)} if title in found else summary
    for title, summary in summaries.items()
  }


def _record(images: Sequence[Shown], label: str) -> dict[str, Any]:
  return {
    "attack": label,
    "shape": list(images[0].image.shape),
    "images": [
      {"eps": each.eps, "prediction": each.prediction, "right": each.right,
       "levels": base64.b64encode(_levels(each.image).tobytes()).decode()}
      for each in images
    ],
  }  # fmt: skip


def _levels(image: np.ndarray) -> np.ndarray:
  return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _wrapped(title: str) -> str:
  """A title in lines of a row's label, broken at spaces and behind underscores."""
  lines = textwrap.wrap(title.replace("_", "_ "), _LABEL_WIDTH)
  return "\n".join(line.replace("_ ", "_") for line in lines)


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
  size = (2.0 + 1.1 * len(columns), 0.9 + 1.25 * len(found))
  figure, axes = figures.new(len(columns), len(found), size)
  for row, (title, images) in zip(axes, found.items(), strict=True):
    by_eps = {shown.eps: shown for shown in images}
    for axis, eps in zip(row, columns, strict=True):
      figures.bare(axis)
      if (shown := by_eps.get(eps)) is not None:
        colour = figures.GOOD if shown.right else figures.BAD
        figures.show(axis, _levels(shown.image) / 255, str(shown.prediction), colour)
    row[0].set_ylabel(_wrapped(title), fontsize=8, rotation=0, ha="right", va="center")
  for axis, eps in zip(axes[-1], columns, strict=True):
    axis.set_xlabel(f"eps = {eps:g}", fontsize=8)
  figure.suptitle(f"The first image under {label}", x=0.02, ha="left", fontsize=11)
  figure.supxlabel(note, fontsize=7, color=figures.QUIET, x=0.02, ha="left")
  return figure
