"""One result cell over all batches: the progress bar, and the batches finished before a kill.

A cell that is not whole yet lies beside its place as <cell>.partial, written whole or not at all;
the next run goes on behind its last batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from gencls import data
from gencls.evaluation.clean import Subject
from gencls.evaluation.results import Cell, need, read_cell, write_cell
from gencls.types import Accept

Arrays = dict[str, np.ndarray]

SAVE_EVERY = 10.0  # a partial cell is written after this many times of what writing it takes


class Protocol(NamedTuple):
  """How numbers are made; everything but `batch_size` decides them."""

  threat: str  # one of grading.THREATS
  seed: int
  select_draws: int
  grade_draws: int
  clean_draws: int
  clean: tuple[str, ...]  # names of clean.METRICS
  batch_size: int | None  # None: by the backend
  keep_images: int  # adversarial images kept in each cell


class Work(NamedTuple):
  """What every cell needs."""

  subject: Subject
  dataset: data.Dataset
  protocol: Protocol
  bar: tqdm
  partial: Path | None = None  # where the cell lies while it is not whole; None: nowhere
  origin: str = ""  # code, versions and device: batches of another origin are made again
  accept: Accept | None = None  # the detector that grading asks too


class Batch(NamedTuple):
  """A batch in its one shape."""

  levels: np.ndarray  # [B, H, W, D] integers
  x: np.ndarray  # [B, H, W, D] float32 in [0, 1]
  labels: np.ndarray  # [B]
  indices: np.ndarray  # [B]
  at: slice  # where its images stand in the dataset
  valid: int  # rows after these repeat the last image


class Turn(NamedTuple):
  """A batch and where its cell stands."""

  batch: Batch
  progress: Callable[[int, int], None]  # (made, total) within the batch moves the bar
  seconds: float  # spent on the cell so far, killed runs included
  share: float  # of the images still to be done that this batch is


def auto_batch_size(num_images: int) -> int:
  """A batch that fits the cache on CPU and fills an accelerator, in equal parts of the set."""
  most = 100 if jax.default_backend() == "cpu" else 500
  return math.ceil(num_images / math.ceil(num_images / most))


def size_of_batches(dataset: data.Dataset, batch_size: int | None) -> int:
  """The one size that all batches have."""
  n = len(dataset.labels)
  return min(batch_size or auto_batch_size(n), n)


def batches(dataset: data.Dataset, batch_size: int | None, start: int = 0) -> Iterator[Batch]:
  """All images from `start` in order, in batches of one size (the last one is padded)."""
  n, size = len(dataset.labels), size_of_batches(dataset, batch_size)
  for first in range(start, n, size):
    rows = np.minimum(np.arange(first, first + size), n - 1)
    levels = dataset.images[rows]
    x = np.asarray(data.to_float(levels, dataset.num_levels))
    at = slice(first, min(first + size, n))
    labels, indices = dataset.labels[rows], dataset.indices[rows]
    yield Batch(levels, x, labels, indices, at, at.stop - at.start)


def over_batches(work: Work, title: str, make: Callable[[Turn], Arrays]) -> Arrays:
  """Runs every batch that is not done yet, shows how it goes, and joins the valid rows.

  Args:
    work: model, data, protocol, and where the partial cell lies.
    title: what the bar says.
    make: the arrays of a batch, [B, ...] in the batch's one shape, or fewer rows.

  Returns:
    name -> [N, ...], or fewer rows where `make` gave fewer.
  """
  n, parts, done, before = len(work.dataset.labels), [], 0, 0.0
  found = _read(work)
  if found is not None:
    parts, done, before = [found.arrays], found.header["images"], found.header["seconds"]
    work.bar.update(done)
  right = float(np.sum(parts[0]["correct"])) if parts else 0.0
  begin, first, saved, cost = time.perf_counter(), done, time.perf_counter(), 0.0
  for batch in batches(work.dataset, work.protocol.batch_size, start=done):
    at, accuracy = work.bar.n, right / done if done else None

    def progress(made: int, total: int, at=at, done=done, batch=batch, accuracy=accuracy) -> None:
      share = batch.valid * made / total
      elapsed, reached = time.perf_counter() - begin, done - first + share
      left = elapsed * (n - done - share) / reached if reached else None
      work.bar.set_postfix_str(_status(title, accuracy, left), refresh=False)
      work.bar.update(int(at + share) - work.bar.n)

    spent = before + time.perf_counter() - begin
    part = make(Turn(batch, progress, spent, batch.valid / (n - done)))
    parts.append({name: value[: batch.valid] for name, value in part.items()})
    right, done = right + float(np.sum(parts[-1]["correct"])), batch.at.stop
    elapsed = time.perf_counter() - begin
    left = elapsed * (n - done) / (done - first)
    work.bar.set_postfix_str(_status(title, right / done, left), refresh=False)
    work.bar.update(at + batch.valid - work.bar.n)
    if done < n and time.perf_counter() - saved > SAVE_EVERY * cost:
      started = time.perf_counter()
      parts = [_join(parts)]
      _write(work, parts[0], done, before + elapsed)
      saved = time.perf_counter()
      cost = saved - started
  return _join(parts)


def seconds_before(work: Work) -> float:
  """What earlier runs, killed ones, have spent on a cell."""
  found = _read(work)
  return 0.0 if found is None else found.header["seconds"]


def _join(parts: list[Arrays]) -> Arrays:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _status(title: str, accuracy: float | None, left: float | None) -> str:
  """For example "pgd 0.1: accuracy 81.0%, 2:05 left"."""
  found = [] if accuracy is None else [f"accuracy {100 * accuracy:.1f}%"]
  if left is not None and left >= 1:
    found.append(f"{tqdm.format_interval(left)} left")
  return f"{title}: {', '.join(found)}" if found else title


def _read(work: Work) -> Cell | None:
  if work.partial is None or not work.partial.exists():
    return None
  cell = read_cell(work.partial)
  need(work.partial, cell, ("images", "seconds", "origin"), ("correct",))
  return cell if cell.header["origin"] == work.origin else None


def _write(work: Work, arrays: Arrays, images: int, seconds: float) -> None:
  if work.partial is not None:
    header = {"images": images, "seconds": round(seconds, 3), "origin": work.origin}
    write_cell(work.partial, Cell(header, arrays))
