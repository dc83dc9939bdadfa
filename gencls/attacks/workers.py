"""Batches side by side: each worker is a thread, on a device of its own where there are several."""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax

Device = Any  # a jax.Device; None: where the arrays are


class Crew(NamedTuple):
  """The workers of one run."""

  devices: tuple[Device, ...]  # of each worker
  stop: threading.Event  # set when one fails: the others return, and nothing new begins


def crew(num_workers: int, devices: Sequence[Device] | None) -> Crew:
  """Workers that take the devices in turn.

  Raises:
    ValueError: if there is no worker, or an empty list of devices.
  """
  if num_workers < 1:
    raise ValueError(f"num_workers must be >= 1 (1 runs one batch at a time), got {num_workers}")
  if devices is not None and not devices:
    raise ValueError("devices must name at least one device, or be None (where the inputs are)")
  turns = [None] if devices is None else list(devices)
  chosen = tuple(turns[worker % len(turns)] for worker in range(num_workers))
  return Crew(chosen, threading.Event())


def local() -> tuple[int, Sequence[Device] | None]:
  """(num_workers, devices) that make use of this host: its devices, or the cores of its CPU.

  A process that is bound to some cores (`taskset`) has no more workers than those.
  """
  devices = jax.local_devices()
  if devices[0].platform != "cpu" or len(devices) > 1:
    return len(devices), devices if len(devices) > 1 else None
  bound = getattr(os, "sched_getaffinity", None)
  return len(bound(0)) if bound else os.cpu_count() or 1, None


def place(tree: Any, device: Device) -> Any:
  """The same with its JAX arrays on the device."""
  if device is None:
    return tree

  def put(leaf: Any) -> Any:
    return jax.device_put(leaf, device) if isinstance(leaf, jax.Array) else leaf

  return jax.tree.map(put, tree)


def share(crew: Crew, attack_batch: Callable[[Device, Any], None], batches: Sequence[Any]) -> None:
  """Calls attack_batch(device, batch) of every batch, as many at a time as there are workers.

  The first error is raised, when those that run have returned.
  """
  if len(crew.devices) == 1 or len(batches) == 1:
    for batch in batches:
      attack_batch(crew.devices[0], batch)
    return
  free: queue.SimpleQueue[Device] = queue.SimpleQueue()
  for device in crew.devices:
    free.put(device)

  def take_turn(batch: Any) -> None:
    device = free.get()
    try:
      with _stops_the_others(crew):
        attack_batch(device, batch)
    finally:
      free.put(device)

  with ThreadPoolExecutor(len(crew.devices)) as pool, _stops_the_others(crew):  # an interrupt too
    for done in as_completed([pool.submit(take_turn, batch) for batch in batches]):
      done.result()


@contextmanager
def _stops_the_others(crew: Crew) -> Iterator[None]:
  try:
    yield
  except BaseException:
    crew.stop.set()
    raise
