"""Batches side by side: each worker is a thread, on a device of its own where there are several."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax

from gencls import runtime

Device = Any  # a jax.Device; None: where the arrays are
LEAST_PER_CORE = 25  # examples: of smaller batches calls cost the most


class Crew(NamedTuple):
  """The workers of one run."""

  devices: tuple[Device, ...]  # of each worker
  stop: threading.Event  # set when one fails: the others return, and nothing new begins


def crew(num_workers: int | None, devices: Sequence[Device] | None) -> Crew:
  """Workers that take the devices in turn; None: one for each device.

  Raises:
    ValueError: if there is no worker, an empty list of devices, or a device without a worker.
  """
  turns = [None] if devices is None else list(devices)
  if not turns:
    raise ValueError("devices must name at least one device, or be None (where the inputs are)")
  num_workers = len(turns) if num_workers is None else num_workers
  if num_workers < len(turns):
    raise ValueError(
      f"num_workers must be >= {len(turns)}, one for each device (1 runs one batch at a time), got "
      f"{num_workers}"
    )
  chosen = tuple(turns[worker % len(turns)] for worker in range(num_workers))
  return Crew(chosen, threading.Event())


def local(num: int) -> tuple[int, Sequence[Device] | None]:
  """(num_workers, devices) that make use of this host for so many examples.

  All of its devices; or of a CPU as many cores as have 25 examples each, and no more than the
  process is bound to (`taskset`).
  """
  devices = jax.local_devices()
  if devices[0].platform != "cpu" or len(devices) > 1:
    return len(devices), devices if len(devices) > 1 else None
  return max(1, min(runtime.cores(), num // LEAST_PER_CORE)), None


def place(tree: Any, device: Device) -> Any:
  """The same with its JAX arrays on the device."""
  if device is None:
    return tree

  def put(leaf: Any) -> Any:
    return jax.device_put(leaf, device) if isinstance(leaf, jax.Array) else leaf

  return jax.tree.map(put, tree)


def run_all(
  team: Crew, attack_batch: Callable[[Device, Any], None], batches: Sequence[Any]
) -> None:
  """Calls attack_batch(device, batch) of every batch, as many at a time as there are workers.

  The first error is raised, when those that run have returned.
  """
  if len(team.devices) == 1 or len(batches) == 1:
    for batch in batches:
      attack_batch(team.devices[0], batch)
    return
  free: queue.SimpleQueue[Device] = queue.SimpleQueue()
  for device in team.devices:
    free.put(device)

  def take_turn(batch: Any) -> None:
    device = free.get()
    try:
      with _stops_the_others(team):
        attack_batch(device, batch)
    finally:
      free.put(device)

  with ThreadPoolExecutor(len(team.devices)) as pool, _stops_the_others(team):  # an interrupt too
    for done in as_completed([pool.submit(take_turn, batch) for batch in batches]):
      done.result()


@contextmanager
def _stops_the_others(team: Crew) -> Iterator[None]:
  try:
    yield
  except BaseException:
    team.stop.set()
    raise
