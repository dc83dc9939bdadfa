"""How the cells of a sweep stand: what their files in <sweep>/cells/ say, whoever runs them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gencls import locks, owners
from gencls.sweep import Cell, read_json, run_folder
from gencls.workdir import atomic_write, to_json

FINISHED, FAILED, BLOCKED = "finished", "failed", "blocked"  # these are over
RUNNING, WAITING = "running", "waiting"
_NOTE = ("status", "arguments", "attempts", "seconds")  # of how a cell ended


class Sweep(NamedTuple):
  """A sweep as one worker sees it."""

  folder: Path
  cells: Mapping[str, Cell]  # all of them, by name
  command: Callable[[Cell], list[str]]
  retries: int
  # How cells had ended before this worker started: what failed then is tried again.
  before: Mapping[str, dict[str, Any] | None]


def open_sweep(
  folder: Path, cells: Sequence[Cell], command: Callable[[Cell], list[str]], retries: int
) -> Sweep:
  """A sweep as it stands now.

  Raises:
    ValueError: if `retries` < 0 or two cells have one name.
  """
  if retries < 0:
    raise ValueError(f"retries must be >= 0, got {retries}")
  named = {cell.name: cell for cell in cells}
  if len(named) != len(cells):
    raise ValueError(f"every cell needs a name of its own, got {[cell.name for cell in cells]}")
  before = {name: read_json(_file(folder, cell, "json"), _NOTE) for name, cell in named.items()}
  return Sweep(folder, named, command, retries, before)


def lock_path(sweep: Sweep, cell: Cell) -> Path:
  """Where the lock of who runs a cell lies."""
  return _file(sweep.folder, cell, "lock")


def log_path(sweep: Sweep, cell: Cell) -> Path:
  """What a cell has printed, in all attempts."""
  return _file(sweep.folder, cell, "log")


def ending(sweep: Sweep, cell: Cell) -> dict[str, Any] | None:
  """How a cell ended, if it did so under the arguments that it has now.

  A failure from before this worker started does not count, nor does success without its product.

  Raises:
    ValueError: if the note of it is damaged.
  """
  found = read_json(_file(sweep.folder, cell, "json"), _NOTE)
  if found is None or found["arguments"] != list(cell.arguments):
    return None
  if found["status"] == FINISHED:
    return found if product(sweep, cell).exists() else None
  return None if found == sweep.before[cell.name] else found


def write_ending(sweep: Sweep, cell: Cell, status: str, **numbers: Any) -> None:
  """Notes how a cell has ended."""
  me = owners.this_process()  # its token tells two failures apart
  record = {"status": status, "arguments": list(cell.arguments), **numbers, "by": me._asdict()}
  atomic_write(_file(sweep.folder, cell, "json"), to_json(record))


def product(sweep: Sweep, cell: Cell) -> Path:
  """The file that is there when a cell is finished."""
  return run_folder(sweep.folder, cell.run) / cell.product


def status(sweep: Sweep, cell: Cell) -> str:
  """One of FINISHED, FAILED, BLOCKED (what it needs has failed), RUNNING, WAITING."""
  found = ending(sweep, cell)
  if found is not None:
    return found["status"]
  owner = locks.owner(lock_path(sweep, cell))
  if owner is not None and not owners.is_dead(owner):
    return RUNNING
  needs = [status(sweep, sweep.cells[name]) for name in cell.needs]
  return BLOCKED if FAILED in needs or BLOCKED in needs else WAITING


def ready(sweep: Sweep, cell: Cell) -> bool:
  """Whether all that a cell needs is finished."""
  return all(status(sweep, sweep.cells[name]) == FINISHED for name in cell.needs)


def over(sweep: Sweep, cell: Cell) -> bool:
  """Whether nothing will be done any more for a cell."""
  return status(sweep, cell) in (FINISHED, FAILED, BLOCKED)


def _file(folder: Path, cell: Cell, suffix: str) -> Path:
  return folder / "cells" / f"{cell.name}.{suffix}"
