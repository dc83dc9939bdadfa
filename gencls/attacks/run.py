"""Runs any attack: batches, the loop, dropping finished examples, time and progress.

On CPUs the loop is Python (a convolution inside an XLA loop is 3-10 times slower there), on
accelerators one program makes many steps between two looks of the host. Finished examples are
dropped by gathering the others into smaller batches, of one of a few sizes.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks import cascade as cascades
from gencls.attacks import checks, programs, workers
from gencls.attacks.cascade import Cascade
from gencls.attacks.programs import Tally, no_tally
from gencls.attacks.shapes import shapes_of
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Keys

LOOPS = ("auto", "python", "device")
DEVICE_STEPS = 16  # between two looks of the host
# Bytes of attack state per batch: on CPUs batches that fit the cache (about 100 MNIST images).
STATE_BUDGET = {"cpu": 2**20}
ACCELERATOR_STATE_BUDGET = 2**25
HALVINGS = 3  # smaller batches that finished examples may shrink a batch to
NO_LIMIT = 2**31 - 1  # of an example's queries
# In steps of a full batch: what each smaller size must save to be worth its program, and what one
# more call in each step costs, with all that does not shrink with the batch.
MIN_SAVED_STEPS = 4.0
CALL_STEPS = 0.08


class AttackResult(NamedTuple):
  """What `run` returns. The attack does not grade itself: re-predict `x`."""

  x: Array  # [B, H, W, D] float32
  info: Tally
  history: Tally | None = None  # with record_every > 0: leaves [num_steps // record_every, B]
  # Of a cascade, [B] int32: −1 where the example stands, 0 where it was wrong before any attack, i
  # where the i-th member broke it.
  broken_by: Array | None = None


def run(
  attack: Attack | Cascade,
  keys: Keys,
  x: Array,
  y: Array,
  *,
  target: Array | None = None,
  start: Array | None = None,
  loop: str = "auto",
  batch_size: int | None = None,
  progress: Callable[[int, int], None] | None = None,
  record_every: int = 0,
  max_seconds: float | None = None,
  max_queries: int | None = None,
  compact: bool = True,
  num_workers: int | None = None,
  devices: Sequence[workers.Device] | None = None,
) -> AttackResult:
  """Attacks images.

  Args:
    attack: see `gencls.attacks.build`; the members of a `Cascade` run one after the other, each on
      the examples that still stand (under fresh randomness on all), and the counts of `info` are
      sums.
    keys: [B] typed keys, one per example.
    x: [B, H, W, D] float32 in [0, 1].
    y: [B] integers, the true labels.
    target: [B] integers, the wanted labels, -1 where untargeted; None for none.
    start: [B, H, W, D] float32 in [0, 1], where the attack shall start; None for its own start.
    loop: "python" (one program per step), "device" (one per 16 steps) or "auto" (by backend).
    batch_size: examples at a time; None sizes it by the attack's state. The last batch is padded,
      or goes on in smaller ones.
    progress: called as progress(steps so far, steps in all) summed over examples; those of
      finished examples count as made.
    record_every: keeps the tally of every n-th step in `history`; 0 keeps none.
    max_seconds: > 0; stops at the first look of the host after this time, with the best found so
      far; `info.done` tells which examples were finished.
    max_queries: stops each example after the step in which its forward and backward passes reach
      this number, with the best it has found; such an example counts as done.
    compact: whether finished examples are dropped; no result depends on it beyond float error.
    num_workers: batches that run side by side, each in a thread; takes the memory of as many.
      Pays on several devices, and on CPUs of many cores; on two cores little or nothing
      (docs/results/workers.md). Threads do not see JAX settings made by `with`, only those of
      `jax.config.update`. None: one for each device.
    devices: where the workers run, in turn, each with a copy of the parameters and programs
      compiled for it; all of the default backend. None: where the inputs are.

  Returns:
    An `AttackResult`; empty for an empty batch.

  Raises:
    ValueError: if an input breaks its rule, or the attack the contract of its state.
  """
  if loop not in LOOPS:
    raise ValueError(unknown_name("loop", loop, LOOPS))
  if record_every < 0 or (batch_size is not None and batch_size < 1):
    raise ValueError(
      f"record_every must be >= 0 and batch_size >= 1, got {record_every} and {batch_size}"
    )
  if max_queries is not None and max_queries < 1:
    raise ValueError(f"max_queries must be >= 1 or None, got {max_queries}")
  if max_seconds is not None and not max_seconds > 0:
    raise ValueError(f"max_seconds must be > 0 or None (no limit), got {max_seconds}")
  on_cpu = jax.default_backend() == "cpu"
  members = attack.attacks if isinstance(attack, Cascade) else (attack,)
  if record_every and isinstance(attack, Cascade):
    raise ValueError(f"a cascade keeps no history: record_every must be 0, got {record_every}")
  every = [checks.inputs(member, keys, x, y, target, start) for member in members]
  keys, x, goal = every[0]
  num = len(x)
  job = _Job(
    attack=members[0],
    device=None,
    on_device=loop == "device" or (loop == "auto" and not on_cpu),
    record_every=record_every,
    compact=compact,
    deadline=math.inf if max_seconds is None else time.monotonic() + max_seconds,
    max_queries=jnp.int32(NO_LIMIT if max_queries is None else min(max_queries, NO_LIMIT)),
    report=_reporter(progress, num * attack.num_steps),
    crew=workers.crew(num_workers, devices),
    x=np.array(x),
    tally=no_tally(num),
    history=_no_history(num, attack.num_steps // record_every) if record_every else None,
  )
  if isinstance(attack, Cascade):
    return _run_cascade(attack, job, keys, x, goal, batch_size, progress)
  _run_rows(job, keys, x, goal, np.arange(num), batch_size)
  return programs.to_device(AttackResult(job.x, job.tally, job.history))


class _Job(NamedTuple):
  """What all batches of a run share; the arrays are NumPy and filled in place."""

  attack: Attack
  device: workers.Device
  on_device: bool
  record_every: int
  compact: bool
  deadline: float
  max_queries: Array
  report: Callable[[np.ndarray, int], None]
  crew: workers.Crew
  x: Any
  tally: Any
  history: Any


def _run_cascade(
  cascade: Cascade,
  job: _Job,
  keys: Keys,
  x: Array,
  goal: Goal,
  batch_size: int | None,
  progress: Callable[[int, int], None] | None,
) -> AttackResult:
  num, total = len(x), len(x) * cascade.num_steps
  if not num:
    return AttackResult(x, jax.tree.map(jnp.asarray, job.tally), broken_by=goal.label)

  def attack_rows(place: int, rows: np.ndarray) -> np.ndarray:
    member = cascade.attacks[place]
    before = num * sum(attack.num_steps for attack in cascade.attacks[:place])
    before += (num - len(rows)) * member.num_steps
    job.tally.done[rows] = False
    mine = job._replace(attack=member, report=_reporter(progress, total, before))
    _run_rows(mine, keys, x, goal, rows, batch_size)
    return job.x

  crew = len(job.crew.devices)
  size = (batch_size or _auto_batch(cascade.attacks[0], keys, x, goal, crew)) * crew
  limit = int(job.max_queries)
  end = cascades.run(cascade, attack_rows, keys, x, goal, job.tally, size, limit)
  if progress is not None:
    progress(total, total)
  tally = jax.tree.map(jnp.asarray, job.tally)
  return AttackResult(jnp.asarray(end.x_adv), tally, broken_by=jnp.asarray(end.broken_by))


def _run_rows(
  job: _Job,
  keys: Keys,
  x: Array,
  goal: Goal,
  rows: np.ndarray,
  batch_size: int | None,
) -> None:
  """Attacks the examples `rows` in batches of one size, whatever their number."""
  if not len(rows):
    return
  crew, batches = len(job.crew.devices), []
  size = batch_size or _auto_batch(job.attack, keys, x, goal, crew)
  parts = [rows[first : first + size] for first in range(0, len(rows), size)]
  if crew > 1:  # as many and as full batches for every worker
    parts = np.array_split(rows, min(math.ceil(len(parts) / crew) * crew, len(rows)))
  for part in parts:
    batches.append(np.full(size, len(x)))
    batches[-1][: len(part)] = part
  on = {device: workers.place(job.attack, device) for device in set(job.crew.devices)}

  def attack_batch(device: workers.Device, batch: np.ndarray) -> None:
    _run_batch(job._replace(attack=on[device], device=device), keys, x, goal, batch)

  workers.run_all(job.crew, attack_batch, batches)


class _Part(NamedTuple):
  """Examples of a batch that go on together."""

  keys: Keys
  state: Any
  tally: Tally
  rows: np.ndarray  # beyond the last example: padding
  live: int  # not finished
  step: int


def _run_batch(job: _Job, keys: Keys, x: Array, goal: Goal, rows: np.ndarray) -> None:
  """Attacks the examples `rows`; rows beyond the last example are padding."""
  if job.crew.stop.is_set():
    return
  attack, mine = job.attack, rows[rows < len(x)]
  chosen = np.minimum(rows, len(x) - 1)
  if not np.array_equal(rows, np.arange(len(x))):
    keys, x, goal = programs.take((keys, x, goal), chosen)
  keys, x, goal = workers.place((keys, x, goal), job.device)
  tally = jax.tree.map(lambda field: field[chosen], job.tally)
  spent = tally.forward + tally.backward >= job.max_queries
  tally = tally._replace(done=spent | (rows >= len(job.x)))
  live = int(np.sum(~tally.done))
  state, tally = programs.start(attack.init, keys, x, goal, tally)
  sizes = [math.ceil(len(rows) / 2**halving) for halving in range(HALVINGS + 1)]
  waiting = [_Part(keys, state, tally, rows, live, 0)]
  while waiting:
    _run_part(job, waiting.pop(), waiting, sizes, mine)


def _run_part(
  job: _Job, part: _Part, waiting: list[_Part], sizes: list[int], mine: np.ndarray
) -> None:
  """Runs a part to its end, or until its examples go on in smaller ones, which then wait."""
  attack, (keys, state, tally, rows, live, step) = job.attack, part
  finished = np.asarray(tally.done)
  while step < attack.num_steps and live and not _late(job):
    pieces = _pieces(job, live, len(rows), sizes, attack.num_steps - step)
    if pieces:
      _write(job, rows, tally, programs.result(attack.result, state))
      order = np.argsort(finished, kind="stable")  # the last piece is filled up by finished ones
      for chosen in np.split(order[: sum(pieces)], np.cumsum(pieces)[:-1]):
        taken = programs.take((keys, state, tally), chosen)
        alive = int(np.sum(~finished[chosen]))
        waiting.append(_Part(*taken, rows=rows[chosen], live=alive, step=step))
      return
    state, tally, made = _advance(job, keys, state, tally, step)
    step += made
    finished = np.asarray(tally.done)
    live = int(np.sum(~finished))
    if job.record_every and step % job.record_every == 0:
      _write(job, rows, tally, None)
      _record(job, mine, step // job.record_every - 1)
    missing = live * (attack.num_steps - step)
    missing += sum(each.live * (attack.num_steps - each.step) for each in waiting)
    job.report(mine, len(mine) * attack.num_steps - missing)
  if step > part.step or step == 0:  # else what it has was written when the part was made
    _write(job, rows, tally, programs.result(attack.result, state))
  if job.record_every:
    _record(job, mine, slice(step // job.record_every, None))


def _pieces(job: _Job, live: int, size: int, sizes: Sequence[int], steps: int) -> list[int]:
  """The sizes of the batches in which examples best go on; none: as they are.

  They stay in one batch on accelerators, where small ones are no quicker; under a time limit, as
  all examples shall get as many steps; and with a history, whose rows are the same step of all.

  Args:
    job: whether batches may become smaller, and several.
    live: examples that are not finished, >= 1.
    size: of the batch that they are in.
    sizes: that a batch may have, falling.
    steps: that are left.

  Returns:
    Sizes that fall, with room for all; the last batch may have room for more.
  """
  if not job.compact:
    return []
  one = job.on_device or job.deadline < math.inf or job.record_every
  ways = [[min(other for other in sizes if other >= live)]]
  large: list[int] = []
  for other in [] if one else sizes:
    ways.append([other] * math.ceil(live / other))
    while live - sum(large) >= other:
      large = [*large, other]
    if rest := live - sum(large):
      ways.append([*large, min(each for each in sizes if each >= rest)])
  best, saved = [], 0.0
  for pieces in ways:
    passes = steps * (size - sum(pieces)) / sizes[0]
    calls = steps * CALL_STEPS * (len(pieces) - 1)
    gain = passes - calls - MIN_SAVED_STEPS * len(set(pieces))
    if gain >= 0 and (not best or gain > saved):
      best, saved = pieces, gain
  return best


def _late(job: _Job) -> bool:
  return time.monotonic() >= job.deadline or job.crew.stop.is_set()


def _advance(job: _Job, keys: Keys, state: Any, tally: Tally, step: int) -> tuple[Any, Tally, int]:
  if not job.on_device:
    return *programs.one_step(job.attack.step, keys, state, tally, job.max_queries), 1
  made = min(job.record_every or DEVICE_STEPS, job.attack.num_steps - step)
  state, tally = programs.many_steps(
    job.attack.step, keys, state, tally, job.max_queries, jnp.int32(made)
  )
  return state, tally, made


def _write(job: _Job, rows: np.ndarray, tally: Tally, x_adv: Array | None) -> None:
  real = rows < len(job.x)
  for field, values in zip(job.tally, tally, strict=True):
    field[rows[real]] = np.asarray(values)[real]
  if x_adv is not None:
    job.x[rows[real]] = np.asarray(x_adv)[real]


def _record(job: _Job, rows: np.ndarray, when: Any) -> None:
  for field, values in zip(job.history, job.tally, strict=True):
    field[when, rows] = values[rows]


def _no_history(num: int, records: int) -> Tally:
  return jax.tree.map(lambda field: np.tile(field, (records, 1)), no_tally(num))


def _reporter(
  progress: Callable[[int, int], None] | None, total: int, before: int = 0
) -> Callable[[np.ndarray, int], None]:
  """Takes a batch's rows and the steps it has made; calls `progress` with `before` and the sum."""
  if progress is None:
    return lambda rows, made: None
  batches: dict[int, int] = {}
  lock = threading.Lock()

  def report(rows: np.ndarray, made: int) -> None:
    with lock:  # so that the sums are reported in order
      batches[int(rows[0])] = made
      progress(before + sum(batches.values()), total)

  return report


def _auto_batch(attack: Attack, keys: Keys, x: Array, goal: Goal, num_workers: int) -> int:
  """The largest batches whose state fits the budget, of one size, as many for every worker."""
  state = shapes_of(attack.init, keys, x, goal)
  num_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  budget = STATE_BUDGET.get(jax.default_backend(), ACCELERATOR_STATE_BUDGET)
  num_batches = math.ceil(math.ceil(num_bytes / budget) / num_workers) * num_workers
  return math.ceil(len(x) / min(len(x), num_batches))
