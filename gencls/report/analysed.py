"""The figures of a run's analyses for the HTML report, as data addresses of small PNGs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gencls.analyses import REGISTRY
from gencls.analyses.run import FOLDER, PREFIX, title
from gencls.report import tiles

BYTES = 1_200_000  # of all figures of a page together
_COLOURS = 64  # of a figure on the page; the files have all


def sections(workdirs: Sequence[Path], budget: int = BYTES) -> list[dict[str, Any]]:
  """What the page shows: for each analysis the figures of every run that has it.

  Args:
    workdirs: of the runs.
    budget: bytes of all data addresses together; figures beyond it are named and not shown.

  Returns:
    {name, figures: [{model, file, src or None}]} for each analysis that any run has.
  """
  found, left = [], budget
  for name in REGISTRY:
    figures = []
    for workdir in dict.fromkeys(workdirs):
      statement = workdir / FOLDER / f"{name}.json"
      if not statement.is_file():
        continue
      model = json.loads(statement.read_text())["title"]
      for path in sorted((workdir / "figures").glob(f"{PREFIX}{name}*.png")):
        src = address(path)
        shown = len(src) <= left
        left -= len(src) * shown
        file = f"{workdir.name}/figures/{path.name}"
        figures.append({"model": model, "file": file, "src": src if shown else None})
    if figures:
      found.append({"name": title(name), "figures": figures})
  return found


def address(path: Path) -> str:
  """A PNG with few colours as data address."""
  from PIL import Image  # noqa: PLC0415

  with Image.open(path) as image:
    return tiles.encoded(image.convert("RGB").quantize(_COLOURS))
