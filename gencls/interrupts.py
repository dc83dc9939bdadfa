"""Asked to stop: SIGTERM and Ctrl-C become a question that a loop asks when it can save."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 143  # 128 + SIGTERM, what a shell reports for a process that the signal ended


def exit_on_sigterm() -> None:
  """Lets SIGTERM end the process as an error would, so that it gives its locks back."""
  signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(INTERRUPTED))


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
  """Catches SIGTERM and SIGINT while the block runs; a second signal acts as usual.

  With several processes JAX's own preemption service listens instead, and all processes agree on
  one step at which to stop.

  Yields:
    step -> whether to save and stop after this step.
  """
  if jax.process_count() > 1:
    yield multihost_utils.reached_preemption_sync_point
    return
  with caught_signals() as requested:
    yield lambda step: bool(requested)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
  """The same for a process that does not compute itself: touches no device.

  Yields:
    The signal that has come, or nothing yet.
  """
  requested: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield requested  # only the main thread receives signals
    return
  usual = {number: signal.getsignal(number) for number in SIGNALS}

  def restore() -> None:
    for number, handler in usual.items():
      signal.signal(number, handler)

  def on_signal(number: int, frame: object) -> None:
    requested.append(number)
    restore()

  for number in SIGNALS:
    signal.signal(number, on_signal)
  try:
    yield requested
  finally:
    restore()
