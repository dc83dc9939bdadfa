"""How a sweep stands, as text: a row for each run, columns for training and evaluations."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from gencls import locks
from gencls.sweep import TRAIN, Cell
from gencls.sweep_cells import (
  BLOCKED,
  FAILED,
  FINISHED,
  RUNNING,
  Sweep,
  ending,
  lock_path,
  log_path,
  status,
)

_UP, _CLEAR = "\x1b[{}A", "\x1b[J"  # moves the cursor up; clears what is below


def table(sweep: Sweep) -> str:
  """The whole table, and how many cells are over."""
  cells = sweep.cells.values()
  states = {cell.name: status(sweep, cell) for cell in cells}
  columns = list(dict.fromkeys([TRAIN, *(cell.column for cell in cells)]))
  rows = [["run", *columns]]
  for run in dict.fromkeys(cell.run for cell in cells):
    own = {cell.column: _text(sweep, cell, states[cell.name]) for cell in cells if cell.run == run}
    rows.append([run, *(own.get(column, "-") for column in columns)])
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows]
  kinds = (FINISHED, RUNNING, FAILED, BLOCKED)
  counts = {kind: list(states.values()).count(kind) for kind in kinds}
  found = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n or kind == FINISHED)
  return "\n".join([*lines, f"{len(states)} cells: {found}"])


def _text(sweep: Sweep, cell: Cell, state: str) -> str:
  """For example "finished 1:02" or "running on node3"."""
  found = ending(sweep, cell)
  if found is not None:
    return f"{state} {tqdm.format_interval(found['seconds'])}"
  owner = locks.owner(lock_path(sweep, cell)) if state == RUNNING else None
  return state if owner is None else f"{state} on {owner.host}"


def failures(sweep: Sweep, cells: Sequence[Cell], num_lines: int = 15) -> str:
  """Every failed cell with the end of its log, and what could not run because of it; or ""."""
  parts = []
  for cell in cells:
    state = status(sweep, cell)
    if state == FAILED:
      found, log = ending(sweep, cell), log_path(sweep, cell)
      assert found is not None
      lines = "\n".join(f"    {line}" for line in last_lines(log, num_lines))
      head = f"{cell.name} failed {found['attempts']} time(s), {found['reason']}: {log}"
      parts.append(f"{head}\n{lines}")
    elif state == BLOCKED:
      parts.append(f"{cell.name} was not run: {', '.join(cell.needs)} did not finish")
  return "\n".join(parts)


def last_lines(path: Path, count: int) -> list[str]:
  """The last lines of a log that are not empty; of a progress bar each state is one."""
  try:
    with path.open("rb") as file:
      file.seek(max(0, path.stat().st_size - 20_000))
      text = file.read().decode(errors="replace")
  except FileNotFoundError:
    return []
  return [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()][-count:]


class Display:
  """Shows the table: drawn anew in place on a terminal, elsewhere only what happens."""

  def __init__(self, sweep: Sweep, stream: TextIO, width: int):
    """Shows a sweep on `stream`, in lines of at most `width` characters."""
    self._sweep, self._stream, self._width = sweep, stream, width
    self._height = 0  # of what is drawn now

  def tick(self) -> None:
    """Draws the table anew, with the last words of what runs here."""
    if not self._stream.isatty():
      return
    lines = table(self._sweep).split("\n")
    for cell in self._sweep.cells.values():
      if status(self._sweep, cell) == RUNNING:
        lines += [f"{cell.name}: {text}" for text in last_lines(log_path(self._sweep, cell), 1)]
    self._erase()
    self._stream.write("".join(f"{line[: self._width - 1]}\n" for line in lines))
    self._stream.flush()
    self._height = len(lines)

  def say(self, text: str) -> None:
    """Writes a line above the table."""
    self._erase()
    self._stream.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    self._stream.flush()
    self.tick()

  def _erase(self) -> None:
    if self._height:
      self._stream.write(_UP.format(self._height) + _CLEAR)
      self._height = 0
