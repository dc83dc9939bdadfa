"""The images of the HTML report: clean, adversarial and perturbation, as small PNG data addresses.

Pillow is imported where it is used.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls import data
from gencls.evaluate import GREY, UNTOUCHED
from gencls.evaluation import stored
from gencls.evaluation.cells import first_images
from gencls.evaluation.results import Cell, data_digest
from gencls.report.pages import strongest_shown
from gencls.report.reading import Entry
from gencls.workdir import read_config

MAX_COLUMNS = 8
LARGEST_SIDE = 96  # larger images are thinned out
BYTES = 1_500_000  # of all images of a report; there are fewer columns where they do not fit
_LEVELS = 31  # of the perturbation's colours, the middle one is 0


class Row(NamedTuple):
  """The images of one attack."""

  attack: str
  norm: str
  where: str  # "eps = 0.1" or "minimum"
  scale: float  # of the perturbation's colours
  adversarial: list[dict[str, Any]]  # src, text, right, title
  perturbation: list[dict[str, Any]]


class Gallery(NamedTuple):
  """The images of one model."""

  model: str
  clean: list[dict[str, Any]]
  rows: list[Row]
  problem: str = ""  # why there are no clean images


def address(image: np.ndarray, palette: np.ndarray | None = None) -> str:
  """A PNG data address.

  Args:
    image: [H, W, D] uint8, D = 1 or 3; with a palette [H, W] numbers of colours.
    palette: [P, 3] uint8, or None.
  """
  from PIL import Image  # noqa: PLC0415

  flat = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
  picture = Image.fromarray(np.ascontiguousarray(flat))
  if palette is not None:
    picture.putpalette(palette.astype(np.uint8).tobytes())
  return encoded(picture)


def encoded(picture: Any) -> str:
  """A Pillow image as PNG data address."""
  content = io.BytesIO()
  picture.save(content, format="PNG", optimize=True)
  return png_address(content.getvalue())


def png_address(content: bytes) -> str:
  """The data address of a PNG."""
  return "data:image/png;base64," + base64.b64encode(content).decode()


def levels(x: np.ndarray) -> np.ndarray:
  """Images in [0, 1] as 8-bit levels, thinned out to at most `LARGEST_SIDE` pixels a side."""
  step = -(-max(x.shape[1:3]) // LARGEST_SIDE)
  return np.round(255 * np.clip(x[:, ::step, ::step], 0, 1)).astype(np.uint8)


def diverging() -> np.ndarray:
  """[31, 3] blue over white to red."""
  side = np.linspace(0, 1, _LEVELS // 2 + 1)[:, None]
  white = np.array([[247.0, 247.0, 247.0]])
  blue, red = (white + side * (np.array([end]) - white) for end in ((5, 72, 160), (178, 10, 35)))
  return np.round(np.concatenate([blue[:0:-1], red])).astype(np.uint8)


def clean_images(entry: Entry, count: int) -> np.ndarray:
  """[count, H, W, D] the first images of an evaluation, float32.

  Evaluations hold them; those that are older than that have them read from the data set.

  Raises:
    FileNotFoundError: if the data is not on this machine; nothing is downloaded.
    ValueError: if it is other data than was evaluated.
  """
  source = entry.summary["data"]
  kept = stored.clean_images(entry.workdir / "results" / entry.name, source)
  if kept is not None and len(kept) >= count:
    return kept[:count]
  settings = read_config(entry.workdir)["config"]["data"]
  if data.on_disk(settings["name"], settings["dir"]) is None:
    raise FileNotFoundError(f"{settings['name']} is not on this machine")
  dataset = data.load(
    settings["name"],
    split=source["split"],
    data_dir=settings["dir"],
    validation_size=settings["validation_size"],
  )
  first = first_images(dataset, source["num_images"])
  if data_digest(first.images, first.labels) != source["digest"]:
    raise ValueError(f"the {source['split']} images here are not those that were evaluated")
  return np.asarray(data.to_float(first.images[:count], first.num_levels))


def gallery(entry: Entry, columns: int) -> Gallery | None:
  """The first images of a model as its attacks left them: never chosen by how they look.

  Each attack is shown at the eps at which it leaves nearest to 40% right.

  Returns:
    A `Gallery`, or None where no cell keeps images.
  """
  shown = [cell for cell in map(strongest_shown, _by_attack(entry.cells)) if cell is not None]
  if not shown:
    return None
  count = min(columns, *(len(cell.arrays["x_adv"]) for cell in shown))
  untouched = next((c for c in entry.cells if c.header["label"] == UNTOUCHED), None)
  try:
    clean = clean_images(entry, count)
  except (OSError, ValueError) as error:
    clean, problem = None, f"no clean images: {str(error).splitlines()[0]}"
  else:
    problem = ""
  rows = [_row(cell, clean, count) for cell in shown]
  first = [] if clean is None or untouched is None else _tiles(levels(clean), untouched)
  return Gallery(entry.title, first, rows, problem)


def _by_attack(cells: Sequence[Cell]) -> list[list[Cell]]:
  found: dict[tuple[str, str], list[Cell]] = {}
  for cell in cells:
    if cell.header["norm"] and cell.header["label"] != GREY:
      found.setdefault((cell.header["label"], cell.header["norm"]), []).append(cell)
  return list(found.values())


def _row(cell: Cell, clean: np.ndarray | None, count: int) -> Row:
  x_adv, header = cell.arrays["x_adv"][:count], cell.header
  where = "nearest found" if header["eps"] is None else f"eps = {header['eps']:g}"
  scale, noise = 0.0, []
  if clean is not None:
    delta = np.mean(x_adv - clean, axis=-1)
    scale = max(float(np.max(np.abs(delta))), 1e-6)
    step = -(-max(delta.shape[1:]) // LARGEST_SIDE)
    middle = _LEVELS // 2
    numbers = np.round(middle + middle * delta[:, ::step, ::step] / scale).astype(np.uint8)
    palette = diverging()
    noise = [{"src": address(each, palette), "text": "", "right": True} for each in numbers]
  return Row(header["label"], header["norm"], where, scale, _tiles(levels(x_adv), cell), noise)


def _tiles(images: np.ndarray, cell: Cell) -> list[dict[str, Any]]:
  arrays, found = cell.arrays, []
  for i, image in enumerate(images):
    prediction, label = int(arrays["prediction"][i, 0]), int(arrays["label"][i])
    title = f"image {int(arrays['index'][i])}, label {label}, "
    title += "no prediction" if prediction < 0 else f"predicted {prediction}"
    if "norm" in arrays:
      title += f", {cell.header['norm']} distance {float(arrays['norm'][i]):.3g}"
    text = "none" if prediction < 0 else str(prediction)
    found.append(
      {"src": address(image), "text": text, "right": prediction == label, "title": title}
    )
  return found


def galleries(entries: Sequence[Entry], budget: int = BYTES) -> list[Gallery]:
  """The images of every model, as many columns as fit the budget, at least one.

  Args:
    entries: the models.
    budget: bytes of all data addresses together.
  """
  found = [each for each in (gallery(entry, MAX_COLUMNS) for entry in entries) if each is not None]
  column = max(1, sum(map(_size, found)) // MAX_COLUMNS)
  keep = max(1, min(MAX_COLUMNS, budget // column))
  return [_first(each, keep) for each in found]


def _size(each: Gallery) -> int:
  rows = [each.clean, *(tiles for row in each.rows for tiles in row[-2:])]
  return sum(len(tile["src"]) for tiles in rows for tile in tiles)


def _first(each: Gallery, keep: int) -> Gallery:
  rows = [
    row._replace(adversarial=row.adversarial[:keep], perturbation=row.perturbation[:keep])
    for row in each.rows
  ]
  return each._replace(clean=each.clean[:keep], rows=rows)
