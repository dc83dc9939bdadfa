"""Salt and pepper: pixels at random set to black or white, as few as fool the model.

A draw of strength p turns each pixel white with probability p/2 and black with p/2. The strength
grows step by step; each success that is nearer than the last sets it back to a half, and the
search goes on between there and a little above.

References:
  Rauber et al. 2017, arXiv:1707.04131 (Foolbox's SaltAndPepperNoiseAttack, whose schedule it is).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import first_success, norms
from gencls.attacks.broadcast import choose, pick
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective

SLACK = 1.2  # a draw of more strength can be nearer: the upper end lies so far above a success


def _changed_pixels(delta: Array) -> Array:
  return jnp.sum(jnp.any(delta != 0, axis=-1), axis=(1, 2)).astype(jnp.float32)


# Distances that "nearer" is measured in, (delta [B, H, W, D]) -> [B]; l0 counts pixels.
DISTANCES = {
  "l0": Partial(_changed_pixels),
  "l2": Partial(norms.l2),
  "linf": Partial(norms.linf),
}


class Strength(NamedTuple):
  """The schedule of the strength, every field [B]."""

  now: Array  # of the draw to come
  low: Array
  high: Array
  increment: Array
  made: Array  # int32, draws made; number 0 has strength 0 and is the clean image


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  best: Array  # [B, H, W, D] the nearest success, x where there is none
  distance: Array  # [B] its distance, +inf where there is none
  strength: Strength
  goal: Goal


def salt_and_pepper(
  objective: Objective,
  *,
  norm: str = "l2",
  num_steps: int = 1000,
  across_channels: bool = True,
  block_size: int | None = None,
) -> Attack:
  """Salt-and-pepper noise of the least strength that fools the model.

  Args:
    objective: what to attack, see `objective.build`.
    norm: what counts as nearer, a name in `DISTANCES`.
    num_steps: draws per example besides the clean image, >= 1.
    across_channels: whether a pixel changes in all its channels or each value for itself.
    block_size: draws per example and model call; None chooses by backend. On a deterministic model
      no result depends on it: the draws behind a success of their block are made again.

  Returns:
    A minimum-norm `Attack`; an example is done after `num_steps` draws, mostly long before the
    attack's number of steps, which is that of blocks with one draw.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  if norm not in DISTANCES:
    raise ValueError(unknown_name("norm", norm, DISTANCES))
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  size = first_success.check_block_size(block_size)
  return Attack(
    init=Partial(_init, num_steps=jnp.int32(num_steps)),
    step=Partial(
      _step,
      objective=objective,
      distance=DISTANCES[norm],
      draw=draw_of(across_channels),
      num_steps=jnp.int32(num_steps),
      offsets=jnp.arange(min(size, num_steps + 1), dtype=jnp.int32),
    ),
    result=Partial(_result),
    num_steps=num_steps + 1,
  )


def draw_of(across_channels: bool) -> Partial:
  """The noise as (keys [B], x, strength [B, M], numbers [B, M]) -> [B, M, H, W, D]."""
  return Partial(_draw_pixels if across_channels else _draw_values)


def _draw_pixels(keys: Keys, x: Array, strength: Array, numbers: Array) -> Array:
  return _draw(keys, x, strength, numbers, depth=1)


def _draw_values(keys: Keys, x: Array, strength: Array, numbers: Array) -> Array:
  return _draw(keys, x, strength, numbers, depth=x.shape[3])


def _draw(keys: Keys, x: Array, strength: Array, numbers: Array, depth: int) -> Array:
  def noisy(key: Key, image: Array, p: Array) -> Array:
    u = jax.random.uniform(key, (*x.shape[1:3], depth))
    salted = jnp.where(u >= 1.0 - p / 2, 1.0, image)
    return jnp.where(u < p / 2, 0.0, salted)

  def noisy_batch(p: Array, number: Array) -> Array:
    return jax.vmap(noisy)(fold(keys, "salt and pepper", number), x, p)

  return jax.vmap(noisy_batch, in_axes=1, out_axes=1)(strength, numbers)


def _init(keys: Keys, x: Array, goal: Goal, *, num_steps: Array) -> State:
  del keys
  zeros = jnp.zeros(x.shape[:1], x.dtype)
  strength = Strength(
    now=zeros,
    low=zeros,
    high=zeros + 1.0,
    increment=zeros + 1.0 / num_steps,
    made=jnp.zeros(zeros.shape, jnp.int32),
  )
  return State(x, x, zeros + jnp.inf, strength, goal._replace(start=None))


def _advance(strength: Strength, nearer: Array, num_steps: Array) -> Strength:
  """The schedule after one draw, which was a nearer success or not."""
  now, low, high, increment, made = strength
  remaining = jnp.maximum(num_steps - (made - 1), 1).astype(now.dtype)
  at_the_end = now == high
  low = jnp.where(nearer, 0.5 * now, low)
  high = jnp.where(nearer, jnp.minimum(SLACK * now, 1.0), high)
  increment = jnp.where(nearer, (high - low) / remaining, increment)
  base = jnp.where(nearer | at_the_end, low, now)
  return Strength(jnp.minimum(base + increment, high), low, high, increment, made + 1)


def _speculate(strength: Strength, num: int, num_steps: Array) -> Strength:
  """The schedule before each of the next `num` draws and after them, if none succeeds."""
  failed = jnp.zeros(strength.now.shape, bool)

  def next_draw(before: Strength, _: None) -> tuple[Strength, Strength]:
    return _advance(before, failed, num_steps), before

  last, before = jax.lax.scan(next_draw, strength, None, length=num)
  return jax.tree.map(
    lambda many, one: jnp.concatenate([many, one[None]]).swapaxes(0, 1), before, last
  )  # [B, num + 1]


def _step(
  keys: Keys,
  state: State,
  *,
  objective: Objective,
  distance: Partial,
  draw: Partial,
  num_steps: Array,
  offsets: Array,
) -> tuple[State, Info]:
  """Evaluates a block of draws as if none succeeded, and goes on behind the first that did."""
  num = len(offsets)
  ahead = _speculate(state.strength, num, num_steps)
  made = ahead.made[:, :num]
  images = draw(keys, state.x, ahead.now[:, :num], made)
  distances = jax.vmap(distance, in_axes=1, out_axes=1)(images - state.x[:, None])
  nearer = (distances < state.distance[:, None]) & (made <= num_steps)
  block = first_success.evaluate(objective, keys, state.strength.made, images, nearer, state.goal)

  found = jnp.any(block.success, axis=1)
  which = jnp.argmax(block.success, axis=1)
  before = jax.tree.map(lambda many: pick(many, jnp.where(found, which, num)), ahead)
  strength = choose(found, _advance(before, found, num_steps), before)
  new = state._replace(
    best=choose(found, pick(images, which), state.best),
    distance=jnp.where(found, pick(distances, which), state.distance),
    strength=strength,
  )
  done = (strength.made > num_steps) | (new.distance == 0)
  return new, first_success.block_info(block, done)


def _result(state: State) -> Array:
  return state.best
