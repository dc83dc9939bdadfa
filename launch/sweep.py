"""Trains and evaluates everything that a sweep lists; finished cells are never done again.

  python launch/sweep.py --config=configs/sweeps/digits.py --workdir=runs/digits
  python launch/sweep.py --config=... --workdir=... --task_index=2 --num_tasks=8
  python launch/sweep.py --config=... --workdir=... --list=all

Cells are launch/train.py and launch/evaluate.py, run one after the other, each with a log in
<workdir>/cells/. The same command continues after whatever stopped it, and tries failed cells
again. Started several times at once, on one host or on hosts that share the folder, the workers
share the cells. As a task of an array job (templates in launch/batch/) it runs its share; index and
number are also read from SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_COUNT and JOB_COMPLETION_INDEX.

Exits with 0 when all its cells are finished, 1 if some failed, 143 when it was asked to stop
(SIGTERM, Ctrl-C): what runs is then asked to save, and waited for.
"""

import functools
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import app, flags
from ml_collections import config_flags

from gencls import interrupts, sweep, sweep_cells, sweep_run, sweep_table, workdir
from gencls.names import unknown_name

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/sweeps/<name>.py[:variant]")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the sweep.", required=True)
TASK_INDEX = flags.DEFINE_integer("task_index", None, "Number of this task, from 0.")
NUM_TASKS = flags.DEFINE_integer("num_tasks", None, "Tasks that share the sweep.")
LIST = flags.DEFINE_string(
  "list", None, "Print the commands of these cells and run nothing: all, train or an evaluation."
)


def root() -> Path:
  """Where launch/ and configs/ lie, as seen from here if we are there."""
  found = Path(__file__).resolve().parent.parent
  return Path("") if found == Path.cwd() else found


def listed(cells: list[sweep.Cell], column: str, folder: Path) -> str:
  """The commands of the cells of a column, or of all, one a line.

  Raises:
    ValueError: if there is no such column.
  """
  valid = ["all", *dict.fromkeys(cell.column for cell in cells)]
  if column not in valid:
    raise ValueError(unknown_name("column of the sweep", column, valid))
  chosen = [cell for cell in cells if column in ("all", cell.column)]
  return "\n".join(shlex.join(sweep.command(cell, folder, root())) for cell in chosen)


def run(config: dict[str, Any], folder: Path, index: int, count: int) -> int:
  """Runs a share of a sweep; returns the exit code."""
  cells = sweep.cells(config)
  mine = sweep.share(cells, index, count)
  command = functools.partial(sweep.command, folder=folder, root=root())
  whole = sweep_cells.open_sweep(folder, cells, command, config["retries"])
  record = {
    "config": config,
    "cells": [cell._asdict() for cell in cells],
    "versions": workdir.versions(),
    "git": workdir.git_revision(),
    "command": shlex.join(sys.argv),
  }
  workdir.atomic_write(folder / sweep.LIST, workdir.to_json(record))
  display = sweep_table.Display(whole, sys.stderr, shutil.get_terminal_size().columns)
  with interrupts.caught_signals() as requested:
    try:
      sweep_run.work(whole, mine, sweep_run.Watch(requested, display.tick, display.say))
    except sweep_run.Stopped:
      print(f"Stopped on request; run the same command to continue {folder}.", file=sys.stderr)
      return interrupts.INTERRUPTED
  display.tick()
  if not sys.stderr.isatty():
    print(sweep_table.table(whole))
  failed = sweep_table.failures(whole, mine)
  if failed:
    print(f"\n{failed}\nRun the same command to try them again.")
  return 1 if failed else 0


def main(argv: list[str]) -> None:
  """Reads the flags and runs, or lists, the sweep's cells."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  config, folder = CONFIG.value.to_dict(), Path(WORKDIR.value or "")
  if LIST.value is not None:
    print(listed(sweep.cells(config), LIST.value, folder))
    return
  index, count = sweep.task_of(os.environ, TASK_INDEX.value, NUM_TASKS.value)
  sys.exit(run(config, folder, index, count))


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
