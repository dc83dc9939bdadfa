"""The loop over steps: rows, validations, checkpoints, and every reason to stop."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gencls import sharding
from gencls.interrupts import stop_requests
from gencls.logs import ROBUST_ACCURACY, Meter, Writer, check_finite_row, metric_name
from gencls.training import rungs
from gencls.training.step import DeviceData, StepFn, Sums, TrainState

_LOG = logging.getLogger(__name__)

FINISHED, STOPPED_EARLY, INTERRUPTED = "finished", "stopped early", "interrupted"


class Outcome(NamedTuple):
  """How a training ended."""

  state: TrainState
  reason: str  # FINISHED, STOPPED_EARLY or INTERRUPTED


class Progress(NamedTuple):
  """What the loop remembers besides the state; saved with it."""

  best_accuracy: float = -1.0
  best_step: int = 0
  stale: int = 0  # validations since the best one
  stopped: bool = False

  def after(self, step: int, accuracy: float, patience: int | None) -> "Progress":
    """The progress after a validation; of equal accuracies the later is the best."""
    if accuracy >= self.best_accuracy:
      # An equal accuracy renews the best step, but not the patience.
      stale = 0 if accuracy > self.best_accuracy else self.stale + 1
      best = Progress(accuracy, step, stale)
    else:
      best = Progress(self.best_accuracy, self.best_step, self.stale + 1)
    return best._replace(stopped=patience is not None and best.stale >= patience)


class Loop(NamedTuple):
  """What the loop works with."""

  step: StepFn  # jitted
  batches: Iterator[np.ndarray]
  data: DeviceData
  mesh: Mesh
  validate: Callable[[TrainState], dict[str, float]]
  save: Callable[..., None]
  writer: Writer
  meter: Meter
  zeros: Sums
  total_steps: int
  log_every: int
  validate_every: int
  patience: int | None
  stuck_after: int | None
  ladder: rungs.Ladder | None


def run(loop: Loop, state: TrainState, start: int, progress: Progress) -> Outcome:
  """The steps from `start` to the end, or to the first reason to stop.

  Args:
    loop: what to work with.
    state: at `start`.
    start: steps done.
    progress: at `start`.

  Returns:
    `Outcome`.

  Raises:
    FloatingPointError: if a metric is not finite.
    rungs.StuckError: if the decoder has not left a plateau.
  """
  sums, pending = loop.zeros, None
  place = sharding.split(loop.mesh)
  if progress.stopped or start >= loop.total_steps:
    return Outcome(state, STOPPED_EARLY if progress.stopped else FINISHED)
  began = time.perf_counter()
  with stop_requests() as stop:
    for step in range(start + 1, loop.total_steps + 1):
      state, sums = loop.step(state, sums, loop.data, sharding.put(next(loop.batches), place))
      if step == start + 1:
        jax.block_until_ready(sums)
        _LOG.info("compiled, first step done in %.1f s", time.perf_counter() - began)
        loop.meter.restart_clock(step)  # rates leave out compiling
      if pending is not None:  # the row of the step before, fetched while this one runs
        loop.writer.write(step - 1, loop.meter.row(step - 1, pending))
        pending = None
      interrupted = stop(step)
      if interrupted or step % loop.validate_every == 0 or step == loop.total_steps:
        row = loop.meter.row(step, sums)
        sums = loop.zeros
        if step % loop.validate_every == 0 or step == loop.total_steps:
          progress = _validate_and_save(loop, state, step, row, progress)
        else:
          loop.writer.write(step, row)
          loop.writer.flush()
          loop.save(step, state, progress=progress._asdict())
        if interrupted:
          _LOG.warning("asked to stop: saved step %d of %d", step, loop.total_steps)
          return Outcome(state, INTERRUPTED)
        if progress.stopped:
          _LOG.info("stopped early: best accuracy was at step %d", progress.best_step)
          return Outcome(state, STOPPED_EARLY)
        loop.meter.restart(step)
      elif step % loop.log_every == 0:
        pending, sums = sums, loop.zeros
  return Outcome(state, FINISHED)


def _validate_and_save(
  loop: Loop, state: TrainState, step: int, row: dict[str, float], progress: Progress
) -> Progress:
  evaluated = loop.validate(state)
  check_finite_row(evaluated, step)
  accuracy = evaluated.get(metric_name("eval", ROBUST_ACCURACY), evaluated["eval/accuracy"])
  progress = progress.after(step, accuracy, loop.patience)
  loop.writer.write(step, row | evaluated)
  loop.writer.flush()
  loop.save(step, state, progress=progress._asdict(), accuracy=accuracy)
  _LOG.info(
    "step %d of %d: train loss %.3f, validation loss %.3f nats, accuracy %.4f",
    step,
    loop.total_steps,
    row["train/loss_nats"],
    evaluated["eval/loss_nats"],
    accuracy,
  )
  if loop.ladder is not None and loop.stuck_after is not None and step >= loop.stuck_after:
    error = evaluated[metric_name("eval", loop.ladder.error)]
    rungs.check_left_plateau(error, loop.ladder, step)
  return progress
