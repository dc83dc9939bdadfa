"""Reads the adversarial images of another finished evaluation, for `transfer_cell`."""

from pathlib import Path

import numpy as np

from gencls import data
from gencls.evaluation import stored
from gencls.evaluation.cells import GREY
from gencls.evaluation.results import Cell
from gencls.evaluation.transfer_cell import Source
from gencls.sanity import SAME_MODEL, TRANSFER, made_elsewhere


def read(
  workdir: str | Path, name: str, dataset: data.Dataset, *, same_run: bool = False
) -> Source:
  """The attacks of an evaluation whose images can be graded in another one.

  Args:
    workdir: of its run.
    name: of the evaluation.
    dataset: the images that are to be graded: the first of those that were attacked, or all.
    same_run: whether the images are graded on the run that they were made on, in another
      evaluation; they are called by that evaluation then, not by the run.

  Returns:
    A `Source`; images that were made elsewhere themselves are left out.

  Raises:
    FileNotFoundError: if there is no such evaluation; names those that are there.
    ValueError: if it is not finished, attacked other images, or does not keep the images.
  """
  found = stored.read(workdir, name)
  where = f"transfer_from {workdir}:{name}"
  open_ = [each.label for each in found.planned if each.norm and each.state != stored.FINISHED]
  if open_:
    raise ValueError(
      f"{where} is not finished, {', '.join(dict.fromkeys(open_))} is missing: run "
      f"launch/evaluate.py --workdir={workdir} with its config again"
    )
  pairs = zip(found.cells, found.files(), strict=True)
  pairs = [(cell, file) for cell, file in pairs if _attack(cell)]
  if not pairs:
    raise ValueError(f"{where} has no attack whose images could be transferred: take another one")
  for cell, _ in pairs:
    _check_cell(cell, dataset, where)
  _check_clean(found, dataset, where)
  cells, files = zip(*pairs, strict=True)
  if same_run:
    return Source(f"images of {name}", SAME_MODEL, cells, files)
  return Source(f"transfer from {Path(workdir).resolve().name}", TRANSFER, cells, files)


def _attack(cell: Cell) -> bool:
  """Whether a cell is of an attack on its own model."""
  if not cell.header["norm"] or cell.header["label"] == GREY:
    return False
  return not made_elsewhere(cell.header["settings"]["attack"]["name"])


def _check_cell(cell: Cell, dataset: data.Dataset, where: str) -> None:
  n = len(dataset.labels)
  for name, wanted in (("index", dataset.indices), ("label", dataset.labels)):
    if not np.array_equal(cell.arrays[name][:n], wanted):
      raise ValueError(
        f"{where} has not attacked the {n} images that are evaluated here (their {name} differs): "
        "take the same data and split, and no more images than it has"
      )
  kept = len(cell.arrays["x_adv"])
  if kept < n:
    raise ValueError(
      f"{where} keeps {kept} adversarial images of {cell.header['label']!r}, and {n} are evaluated "
      f"here: run this with --config.num_images={kept} (and a --config.name of its own), which "
      f"uses what is there, or evaluate that one anew with --config.keep_images={n} (and a "
      "--config.name of its own)"
    )


def _check_clean(found: stored.Stored, dataset: data.Dataset, where: str) -> None:
  """Raises ValueError where the clean images are others, whatever their labels."""
  n = len(dataset.labels)
  clean = stored.clean_images(found.folder, found.statement["data"])
  own = np.asarray(data.to_float(dataset.images, dataset.num_levels))
  if clean is not None and not np.array_equal(clean[:n], own[: len(clean)]):
    raise ValueError(
      f"{where} has attacked other images than those that are evaluated here: take a run of the "
      "same data and split"
    )
