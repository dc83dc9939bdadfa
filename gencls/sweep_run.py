"""Runs the cells of a sweep, each as a process of its own: a crash of one leaves the others alone.

Any number of workers may run one sweep; `sharing.share` deals the cells out by locks.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gencls import sharing
from gencls.locks import Held
from gencls.sweep import Cell
from gencls.sweep_cells import (
  FAILED,
  FINISHED,
  Sweep,
  lock_path,
  log_path,
  over,
  product,
  ready,
  write_ending,
)

# In the log a progress bar is a line for each state.
_ENVIRONMENT = {"TQDM_MININTERVAL": "5", "PYTHONUNBUFFERED": "1"}


class Stopped(Exception):  # noqa: N818 - nothing is wrong
  """The worker was asked to stop, and has stopped what it was running."""


class Watch(NamedTuple):
  """What a worker looks at and tells while it runs."""

  requested: Sequence[int]  # not empty when it shall stop
  tick: Callable[[], None]  # called now and then
  say: Callable[[str], None]  # told what happens
  poll: float = sharing.POLL


def work(sweep: Sweep, mine: Sequence[Cell], watch: Watch) -> None:
  """Runs this worker's cells until all of them are over, those of other workers included.

  Args:
    sweep: the sweep.
    mine: the cells of this worker; others may have the same ones.
    watch: stop requests and progress.

  Raises:
    Stopped: if it was asked to; the same call goes on later.
  """

  def waiting(left: Sequence[Cell]) -> None:
    del left
    _check(watch)
    watch.tick()

  sharing.share(
    mine,
    lambda cell, held: _make(sweep, cell, held, watch),
    lock_path=lambda cell: lock_path(sweep, cell),
    done=lambda cell: over(sweep, cell),
    ready=lambda cell: ready(sweep, cell),
    waiting=waiting,
    poll=watch.poll,
  )


def _make(sweep: Sweep, cell: Cell, held: Held, watch: Watch) -> None:
  """Runs a cell, again where it fails, and notes how it ended."""
  start, attempts = time.time(), 1 + sweep.retries
  for attempt in range(1, attempts + 1):
    _check(watch)
    watch.say(f"{cell.name}: started, attempt {attempt} of {attempts}")
    code = _run(sweep, cell, held, watch)
    there = product(sweep, cell).exists()
    numbers = {"attempts": attempt, "seconds": round(time.time() - start, 1), "exit_code": code}
    if code == 0 and there:
      write_ending(sweep, cell, FINISHED, **numbers)
      watch.say(f"{cell.name}: finished in {numbers['seconds']:.0f} s")
      return
    _check(watch)
    if held.lost.is_set():
      watch.say(f"{cell.name}: left to the worker that has taken it over")
      return
    reason = f"exit code {code}" if code else f"no {cell.product} was left behind"
    watch.say(f"{cell.name}: attempt {attempt} of {attempts} failed ({reason})")
    if attempt == attempts:
      write_ending(sweep, cell, FAILED, **numbers, reason=reason)


def _run(sweep: Sweep, cell: Cell, held: Held, watch: Watch) -> int:
  """One attempt; returns the exit code."""
  command = sweep.command(cell)
  path = log_path(sweep, cell)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("ab") as log:
    log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command)}\n".encode())
    log.flush()
    # A session of its own: Ctrl-C asks this worker, who asks the cell and waits for it.
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=os.environ | _ENVIRONMENT,
      start_new_session=True,
    )
  try:
    asked = False
    while True:
      try:
        return process.wait(timeout=watch.poll)
      except subprocess.TimeoutExpired:
        watch.tick()
      if not asked and (watch.requested or held.lost.is_set()):
        watch.say(f"{cell.name}: asked to stop, and to save first")
        process.terminate()
        asked = True
  except BaseException:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    raise


def _check(watch: Watch) -> None:
  if watch.requested:
    raise Stopped
