"""What a run tells: metrics.jsonl, TensorBoard events, a progress bar. Process 0 alone writes."""

import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import absl.logging
import jax
import numpy as np
import tensorboardX
import tqdm

from gencls import json_files
from gencls.workdir import atomic_write

ROBUST_ACCURACY = "robust_accuracy"  # a loss term: where there is one, it decides on the best step
UNITS = ("_nats", "_bpd", "_error", "_norm", "_share", "_std", "_accuracy")


class _AboveBar(logging.Handler):
  """Writes log lines above the progress bar."""

  def emit(self, record: logging.LogRecord) -> None:
    tqdm.tqdm.write(self.format(record), file=sys.stderr)


def show_log() -> None:
  """Shows what gencls logs, and not what its dependencies do, on stderr. For commands."""
  absl.logging.set_verbosity(absl.logging.WARNING)
  handler = _AboveBar()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("gencls")
  logger.handlers = [handler]
  logger.setLevel(logging.INFO if jax.process_index() == 0 else logging.WARNING)
  logger.propagate = False


def metric_name(group: str, term: str) -> str:
  """The key of a loss term: nats, unless the term's name says what it is."""
  return f"{group}/{term}" if term.endswith(UNITS) else f"{group}/{term}_nats"


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """The rows of a run's metrics.jsonl; a half-written last line is left out.

  Raises:
    ValueError: if a line before the last is no row.
  """
  path = Path(workdir) / "metrics.jsonl"
  if not path.is_file():
    return []
  lines = path.read_bytes().splitlines()
  rows = []
  for number, line in enumerate(lines, start=1):
    try:
      row = json_files.parse(line)
      if type(row.get("step")) is not int:
        raise ValueError(f"its step is {row.get('step')!r}, no integer")
      rows.append(row)
    except ValueError as error:
      if number < len(lines):
        raise ValueError(
          f"{path}, line {number} is damaged ({error}); delete that line, or the file: training "
          "needs neither"
        ) from error
  return rows


class Writer:
  """Appends rows to metrics.jsonl and to the TensorBoard events, and moves the progress bar."""

  def __init__(self, workdir: str | os.PathLike[str], *, step: int, total_steps: int):
    """Opens the logs of a run that stands at `step`; rows of later steps are dropped."""
    self._active = jax.process_index() == 0
    if not self._active:
      return
    path = Path(workdir) / "metrics.jsonl"
    rows = [row for row in read_metrics(workdir) if row["step"] <= step]
    atomic_write(path, "".join(json.dumps(row) + "\n" for row in rows))
    self._file = path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(Path(workdir) / "tensorboard"), purge_step=step + 1
    )
    self._bar = tqdm.tqdm(
      total=total_steps, initial=step, unit="step", disable=None, dynamic_ncols=True
    )

  def write(self, step: int, row: dict[str, float]) -> None:
    """Writes one row; the step comes first in it."""
    if not self._active:
      return
    self._file.write(json.dumps({"step": step, **row}, allow_nan=False) + "\n")
    self._file.flush()
    for name, value in row.items():
      self._events.add_scalar(name, value, step)
    self._bar.update(step - self._bar.n)
    if "train/images_per_s" in row:
      self._bar.set_postfix(
        {"loss": f"{row['train/loss_nats']:.2f}", "img/s": f"{row['train/images_per_s']:.0f}"},
        refresh=False,
      )

  def flush(self) -> None:
    """Everything written so far is in the files."""
    if self._active:
      self._events.flush()

  def close(self) -> None:
    """Closes the files and the bar."""
    if self._active:
      self._file.close()
      self._events.close()
      self._bar.close()


class Meter:
  """Turns device-side sums into rows: means since the last row, images per second, a check."""

  def __init__(self, names: tuple[str, ...], batch_size: int, step: int):
    """Starts counting at `step`; `names` are those of the summed metrics, in order."""
    self._names = names
    self._batch_size = batch_size
    self.restart(step)

  def restart(self, step: int) -> None:
    """Starts counting again at `step`, after something that is not training."""
    self._step = step
    self.restart_clock(step)

  def restart_clock(self, step: int) -> None:
    """Leaves the time up to `step` out of the rate, but not its metrics out of the means."""
    self._clock_step, self._clock = step, time.perf_counter()

  def row(self, step: int, sums: Any) -> dict[str, float]:
    """Means over the steps since the last row. Waits for the device.

    Args:
      step: the last step in `sums`.
      sums: `Sums`, device side.

    Returns:
      metric -> value; "train/images_per_s" besides the summed ones.

    Raises:
      FloatingPointError: if a metric was not finite at any of these steps.
    """
    total, first_bad = jax.device_get((sums.total, sums.first_bad))
    check_finite(self._names, first_bad, (self._step + 1, step))
    now = time.perf_counter()
    rate = (step - self._clock_step) * self._batch_size / max(now - self._clock, 1e-9)
    row = dict(zip(self._names, (total / (step - self._step)).tolist(), strict=True))
    self.restart(step)
    self._clock = now
    # No rate from the one step that was compiled.
    return row | ({"train/images_per_s": round(rate, 1)} if rate else {})


def check_finite(names: tuple[str, ...], first_bad: np.ndarray, interval: tuple[int, int]) -> None:
  """Stops at a metric that was not finite.

  Args:
    names: of the metrics, the terms before what is made of them.
    first_bad: per metric the step at which it first was not finite, 0 where it always was.
    interval: first and last step looked at.

  Raises:
    FloatingPointError: names the metric that broke first, its step and the interval.
  """
  if not np.any(first_bad):
    return
  step = int(first_bad[first_bad > 0].min())
  broken = [name for name, bad in zip(names, first_bad, strict=True) if bad == step]
  raise FloatingPointError(
    f"{broken[0]} is not finite at step {step} (steps {interval[0]} to {interval[1]}; not finite "
    f"at that step: {', '.join(broken)}). Training stops; the last checkpoint is from before. "
    "Lower train.learning_rate or set train.grad_clip"
  )


def check_finite_row(row: dict[str, float], step: int) -> None:
  """Stops at a validation metric that is not finite.

  Raises:
    FloatingPointError: names the metric and the step.
  """
  broken = [name for name, value in row.items() if not math.isfinite(value)]
  if broken:
    raise FloatingPointError(
      f"{', '.join(broken)} not finite at step {step}: this state is not saved and training "
      "stops; the last checkpoint is from before. Lower train.learning_rate or set train.grad_clip"
    )
