"""Adversarial images of another finished evaluation, graded here: a cell for each eps.

At each norm and eps the candidates are the images that every attack there has in that ball; of each
example the one that fails most on the select draws stands for all, as in a worst case. Images that
were made on another model are an attack without gradients like any other, called "transfer from
<run>". Those that another evaluation has made on the same model, by other attacks or through
another of its gradients, are called "images of <evaluation>".

References:
  Athalye et al. 2018, arXiv:1802.00420, and Carlini et al. 2019, arXiv:1902.06705: a white-box
  attack that transferred images beat has not seen the model's gradient.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.evaluation import minimum_norm
from gencls.evaluation.attack_grades import grade_results
from gencls.evaluation.attack_specs import DEFAULT_LOSS, AttackSpec
from gencls.evaluation.batch_loop import Arrays, Protocol, Turn, Work, over_batches
from gencls.evaluation.grading import tolerance, worst_case
from gencls.evaluation.results import Cell


class Source(NamedTuple):
  """The attacks of another evaluation, on the same images; see `transfer_source`."""

  label: str  # "transfer from <run>" or "images of <evaluation>"
  name: str  # in the place of an attack's: sanity.TRANSFER or sanity.SAME_MODEL
  cells: tuple[Cell, ...]  # with "x_adv" of every image
  files: tuple[str, ...]  # of `cells`: the name of a file tells what is in it


def at(source: Source, norm: str, eps: float) -> list[int]:
  """The cells of a source that have images for this norm and eps."""
  headers = [cell.header for cell in source.cells]
  return [
    i for i, header in enumerate(headers) if header["norm"] == norm and header["eps"] in (eps, None)
  ]


def identity(source: Source, norm: str, eps: float, protocol: Protocol) -> dict[str, Any]:
  """What decides the images of a cell, in the form of an attack's settings; JSON-able."""
  return {
    "label": source.label,
    "name": source.name,
    "norm": norm,
    "hyperparameters": {},
    "files": [source.files[i] for i in at(source, norm, eps)],
    "keep_images": protocol.keep_images,
  }


def transfer_cell(
  work: Work, source: Source, norm: str, eps: float
) -> tuple[Arrays, dict[str, Any]]:
  """Grades the images of a source at one norm and eps.

  Args:
    work: model, data and protocol.
    source: the other evaluation's attacks, with at least one cell at this norm and eps.
    norm: of the ball.
    eps: its radius.

  Returns:
    (arrays [N, …] as an attack's; "made_by" [N] says which attack's image was taken, an index into
    "attacks" of the header).
  """
  cells = [source.cells[i] for i in at(source, norm, eps)]
  # Of a fixed budget nothing but the norm is read in grading.
  spec = AttackSpec(source.label, source.name, norm, (eps,), DEFAULT_LOSS, 1, {})

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    x = batch.x[: batch.valid]
    every = [grade_results(work, spec, eps, _images(c, x, batch.at, eps), batch) for c in cells]
    names = ("select_correct", "select_margin", "correct")
    pick, _ = worst_case(*[[arrays[name] for arrays in every] for name in names])
    taken = {name: _take([arrays[name] for arrays in every], pick) for name in every[0]}
    kept = taken.pop("x_adv")[: max(0, work.protocol.keep_images - batch.at.start)]
    return {**taken, "made_by": pick.astype(np.int32), "x_adv": kept}

  arrays = over_batches(work, f"{source.label} {eps:g}", make)
  return arrays, {"attacks": [cell.header["label"] for cell in cells]}


def _take(values: Sequence[np.ndarray], pick: np.ndarray) -> np.ndarray:
  return np.stack(values)[pick, np.arange(len(pick))]


def _images(cell: Cell, x: np.ndarray, rows: slice, eps: float) -> np.ndarray:
  """The images of an attack; of minimum norm x itself where the nearest success is too far."""
  x_adv = cell.arrays["x_adv"][rows]
  if not minimum_norm.is_minimum(cell):
    return x_adv
  norm = cell.header["norm"]
  within = cell.arrays["norm"][rows].astype(np.float64) <= eps + tolerance(norm, eps)
  return np.where(np.reshape(within, (-1,) + (1,) * (x.ndim - 1)), x_adv, x)
