"""Asked to stop: SIGTERM and Ctrl-C become a question that the training loop asks each step."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False  # only the main thread receives signals
    return
  requested: list[int] = []
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
    yield lambda step: bool(requested)
  finally:
    restore()
