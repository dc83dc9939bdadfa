"""A worker of a sweep of small shell commands: python sweep_worker.py FOLDER [SECONDS] [NAME:CODE].

Every cell writes a line to FOLDER/lines and leaves its product; NAME:CODE lets a cell fail. "go" in
the place of SECONDS: they wait until FOLDER/go is there.
"""

import sys
from pathlib import Path

from gencls import interrupts, sweep, sweep_cells, sweep_run

RUNS, EVALUATIONS = 3, ("one", "two")


def cells():
  """Three runs, each trained and evaluated twice."""
  found = []
  for run in [f"run{i}" for i in range(RUNS)]:
    for column in (sweep.TRAIN, *EVALUATIONS):
      needs = () if column == sweep.TRAIN else (f"{run}-train",)
      found.append(sweep.Cell(f"{run}-{column}", run, column, "", (), needs, column))
  return found


def shell(cell, folder, seconds, failing):
  """Tells that it runs, works, and leaves what later cells need."""
  product = sweep.run_folder(folder, cell.run) / cell.product
  name, _, code = failing.partition(":")
  ending = f"echo broken; exit {code}" if name == cell.name else f"echo {cell.name} > {product}"
  needs = [f"test -f {product.parent}/train && "] * len(cell.needs)
  line = f"{''.join(needs)}echo {cell.name} $$ >> {folder}/lines"
  work = f"sleep {seconds}" if seconds != "go" else f"until [ -e {folder}/go ]; do sleep 0.02; done"
  return ["sh", "-c", f"mkdir -p {product.parent}; {line}; {work}; {ending}"]


def main(folder, seconds="0.05", failing="", retries=1):
  """Runs the sweep; exits as launch/sweep.py does."""
  folder = Path(folder)
  whole = sweep_cells.open_sweep(
    folder, cells(), lambda cell: shell(cell, folder, seconds, failing), retries
  )
  with interrupts.caught_signals() as requested:
    watch = sweep_run.Watch(requested, lambda: None, lambda text: print(text, flush=True), 0.05)
    try:
      sweep_run.work(whole, list(whole.cells.values()), watch)
    except sweep_run.Stopped:
      return interrupts.INTERRUPTED
  states = [sweep_cells.status(whole, cell) for cell in whole.cells.values()]
  return int(sweep_cells.FAILED in states)


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
