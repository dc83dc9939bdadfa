"""The pointwise attack: from a noisy failure back to the image, one pixel at a time (ℓ0).

It starts from the first salt-and-pepper noise of growing strength that fools the model. Then, in
random order, each pixel that differs goes back to its clean value if the model stays fooled;
passes over the pixels that still differ repeat until one changes nothing. What is left is minimal:
no single pixel can go back.

References:
  Schott et al. 2019, arXiv:1805.09190.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import first_success, salt_and_pepper
from gencls.attacks.broadcast import choose, expand, pick
from gencls.attacks.first_success import Block
from gencls.keys import fold
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective


class State(NamedTuple):
  """Where each example stands; a unit is a pixel, or one value of a pixel."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] while resetting, the success that pixels are reset in
  best: Array  # [B, H, W, D] the success with the fewest changed units, x where there is none
  num_changed: Array  # [B] int32, the changed units of `best`; the number of all where none
  resetting: Array  # [B] bool, or else in search of a start
  order: Array  # [B, units] int32, the units of this pass first
  left: Array  # [B] int32, how many units this pass has
  position: Array  # [B] int32, units tried in this pass
  improved: Array  # [B] bool, whether a unit was reset in this pass
  drawn: Array  # [B] int32, draws of this restart; number 0 is x itself
  restart: Array  # [B] int32
  passes: Array  # [B] int32, begun over all restarts
  goal: Goal
  step: Array  # [B] int32, the number of model calls


class Plan(NamedTuple):
  """The numbers of the attack."""

  noise_steps: Array
  num_restarts: Array
  offsets: Array  # [M] int32, units per model call


class Trial(NamedTuple):
  """The units that the candidates of one model call reset."""

  together: Array  # [B, M, units] bool, the first of the block, the first two, …
  alone: Array  # [B, M, units] bool, each by itself
  counts: Array  # [B, M] bool, whether there is such a unit


def pointwise(
  objective: Objective,
  *,
  num_restarts: int = 4,
  noise_steps: int = 1000,
  num_steps: int = 20_000,
  across_channels: bool = True,
  block_size: int | None = None,
) -> Attack:
  """Minimises the number of changed pixels.

  Args:
    objective: what to attack, see `objective.build`.
    num_restarts: runs with other noise and another order, >= 1; the fewest changed pixels count.
      Foolbox makes one run from noise that 1000 draws have minimised, which costs more model calls
      than four runs from the first noise found. A `Goal.start` that fools the model takes the
      place of the first run's noise.
    noise_steps: draws of growing strength in search of a start, >= 1; the last has strength 1.
    num_steps: model calls after which an example ends with what it has; a run over MNIST needs
      some hundreds.
    across_channels: whether a unit is a pixel with all its channels (ℓ0 counts pixels) or one value
      (as in Foolbox).
    block_size: units per example and model call, M; None chooses by backend. The 2M − 1 candidates
      reset the next units one by one, and the first one, two, … together, so that the call decides
      a run of units that can go back, or a run of units that cannot. On a deterministic model no
      result depends on it.

  Returns:
    A minimum-norm `Attack`; examples end by themselves before its number of steps.

  Raises:
    ValueError: if a number is out of its range.
  """
  if num_restarts < 1 or noise_steps < 1 or num_steps < 1:
    raise ValueError(
      "num_restarts, noise_steps and num_steps must be >= 1, got "
      f"{num_restarts}, {noise_steps} and {num_steps}"
    )
  size = first_success.check_block_size(block_size)
  shape = Partial(_pixels if across_channels else _values)
  return Attack(
    init=Partial(_init, units=shape),
    step=Partial(
      _step,
      objective=objective,
      units=shape,
      draw=salt_and_pepper.draw_of(across_channels),
      plan=Plan(
        noise_steps=jnp.int32(noise_steps),
        num_restarts=jnp.int32(num_restarts),
        offsets=jnp.arange(size, dtype=jnp.int32),
      ),
    ),
    result=Partial(_result),
    num_steps=num_steps,
  )


def _pixels(x: Array) -> Array:
  """[B, H, W, D] -> [B, units, values of a unit]."""
  return jnp.reshape(x, (len(x), -1, x.shape[3]))


def _values(x: Array) -> Array:
  return jnp.reshape(x, (len(x), -1, 1))


def _init(keys: Keys, x: Array, goal: Goal, *, units: Partial) -> State:
  del keys
  batch, num = units(x).shape[:2]
  zeros = jnp.zeros(batch, jnp.int32)
  return State(
    x=x,
    x_adv=x,
    best=x,
    num_changed=zeros + num + 1,
    resetting=zeros > 0,
    order=jnp.zeros((batch, num), jnp.int32),
    left=zeros,
    position=zeros,
    improved=zeros > 0,
    drawn=zeros,
    restart=zeros,
    passes=zeros,
    goal=goal,
    step=zeros,
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, units: Partial, draw: Partial, plan: Plan
) -> tuple[State, Info]:
  """One model call: draws for the examples in search of a start, resets for the others."""
  trial = _trial(state, plan.offsets)
  numbers = state.drawn[:, None] + jnp.arange(2 * len(plan.offsets) - 1)[None, :]
  draws = jax.lax.cond(
    jnp.all(state.resetting),
    lambda: jnp.broadcast_to(state.x[:, None], (*numbers.shape, *state.x.shape[1:])),
    lambda: _draws(keys, state, draw, numbers, plan),
  )
  resets = _reset(state, jnp.concatenate([trial.together, trial.alone[:, 1:]], axis=1), units)
  images = choose(state.resetting, resets, draws)
  counts = choose(
    state.resetting,
    jnp.concatenate([trial.counts, trial.counts[:, 1:]], axis=1),
    numbers <= plan.noise_steps,
  )
  block = first_success.evaluate(
    objective, keys, state.step, images, counts, state.goal._replace(start=None)
  )
  searched, started, exhausted = _after_draws(state, block, images, plan)
  reset, ended, finished = _after_resets(state, block, trial, units, plan)
  new = choose(state.resetting, reset, searched)

  changed = jnp.sum(jnp.any(units(new.x_adv) != units(new.x), axis=2), axis=1)
  better = new.resetting & (changed < new.num_changed)
  over = choose(state.resetting, finished, exhausted)
  again = over & (state.restart + 1 < plan.num_restarts)
  num_changed = jnp.where(better, changed, new.num_changed)
  new = new._replace(
    best=choose(better, new.x_adv, new.best),
    num_changed=num_changed,
    resetting=new.resetting & ~over,
    drawn=jnp.where(again, 1, new.drawn),  # x was tried
    restart=new.restart + again,
    step=state.step + 1,
  )
  begins = choose(state.resetting, ended & ~over, started)
  new = _new_pass(keys, new, begins, units)
  # One unit is the least that is possible, x itself having failed.
  done = (over & ~again) | (num_changed <= 1)
  return new, first_success.block_info(block, done)


def _draws(keys: Keys, state: State, draw: Partial, numbers: Array, plan: Plan) -> Array:
  """Noise of growing strength; number 0 is x, in the first run number 1 the given start."""
  strength = jnp.minimum(numbers / plan.noise_steps, 1.0)
  images = draw(fold(keys, "restart", state.restart), state.x, strength, numbers)
  if state.goal.start is None:
    return images
  is_start = jnp.expand_dims((numbers == 1) & (state.restart == 0)[:, None], (2, 3, 4))
  return jnp.where(is_start, state.goal.start[:, None], images)


def _after_draws(
  state: State, block: Block, images: Array, plan: Plan
) -> tuple[State, Array, Array]:
  """(the state after a block of draws, whether it found a start, whether there are no more)."""
  found = jnp.any(block.success, axis=1)
  drawn = state.drawn + block.loss.shape[1]
  start = pick(images, jnp.argmax(block.success, axis=1))
  new = state._replace(x_adv=choose(found, start, state.x_adv), resetting=found, drawn=drawn)
  return new, found, ~found & (drawn > plan.noise_steps)


def _trial(state: State, offsets: Array) -> Trial:
  places = state.position[:, None] + offsets[None, :]
  counts = places < state.left[:, None]
  num = state.order.shape[1]
  which = jnp.take_along_axis(state.order, jnp.minimum(places, num - 1), axis=1)
  alone = (jnp.arange(num)[None, None, :] == which[..., None]) & counts[..., None]
  return Trial(jnp.cumsum(alone, axis=1) > 0, alone, counts)


def _reset(state: State, back: Array, units: Partial) -> Array:
  """[B, M, H, W, D], x_adv with the units `back` [B, M, units] as in x."""
  old, new = units(state.x_adv)[:, None], units(state.x)[:, None]
  images = jnp.where(back[..., None], new, old)
  return jnp.reshape(images, (*back.shape[:2], *state.x.shape[1:]))


def _after_resets(
  state: State, block: Block, trial: Trial, units: Partial, plan: Plan
) -> tuple[State, Array, Array]:
  """(the state after a block of resets, whether a pass ended, whether it changed nothing).

  With the first unit reset, the candidates that reset it and its followers together tell the fate
  of the run of units that can go back and of the one behind it; else the followers by themselves
  tell that of the run of units that cannot and of the first that can.
  """
  num = len(plan.offsets)
  together = block.success[:, :num]
  alone = jnp.concatenate([block.success[:, :1], block.success[:, num:]], axis=1)
  accepted = jnp.sum(jnp.cumprod(together, axis=1), axis=1)
  rejected = jnp.sum(jnp.cumprod(~alone, axis=1), axis=1)
  first = together[:, 0]
  some = first | jnp.any(alone, axis=1)
  run = pick(trial.together, jnp.maximum(accepted - 1, 0))
  single = pick(trial.alone, jnp.minimum(rejected, num - 1))
  back = choose(first, run, single) & expand(some, run)

  decided = jnp.minimum(jnp.where(first, accepted, rejected) + 1, jnp.sum(trial.counts, axis=1))
  position, improved = state.position + decided, state.improved | some
  ended = position >= state.left
  new = state._replace(
    x_adv=_reset(state, back[:, None], units)[:, 0], position=position, improved=improved
  )
  return new, ended & improved, ended & ~improved


def _new_pass(keys: Keys, state: State, needed: Array, units: Partial) -> State:
  """Begins a pass over the units that differ, in an order drawn from the example's key."""

  def begin() -> State:
    differs = jnp.any(units(state.x_adv) != units(state.x), axis=2)
    num = differs.shape[1]

    def shuffled(key: Key, differs: Array) -> Array:
      return jnp.argsort(jnp.where(differs, jax.random.uniform(key, (num,)), 2.0))

    order = jax.vmap(shuffled)(fold(keys, "order", state.passes), differs)
    zeros = jnp.zeros_like(state.position)
    fresh = state._replace(
      order=order.astype(jnp.int32),
      left=jnp.sum(differs, axis=1),
      position=zeros,
      improved=zeros > 0,
      passes=state.passes + 1,
    )
    return choose(needed, fresh, state)

  # Sorting costs as much as all else here: only where some example needs it.
  return jax.lax.cond(jnp.any(needed), begin, lambda: state)


def _result(state: State) -> Array:
  return state.best
