"""Contrast reduction: the nearest failure on the straight way to a uniform grey image.

  x(t) = x + t · (level − x),  0 <= t <= 1.

The linear search tries every t of a grid, the binary search halves an interval and finds the first
failure only if there is but one change of class on the way. Along the way every norm grows with t,
so the nearest is the nearest in all of them.

References:
  Rauber et al. 2017, arXiv:1707.04131 (Foolbox's contrast reduction attacks).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls.attacks import first_success
from gencls.attacks.broadcast import choose, expand
from gencls.types import Array, Attack, Goal, Info, Keys, Objective


def linear_search_contrast(
  objective: Objective,
  *,
  num_steps: int = 1000,
  level: float = 0.5,
  block_size: int | None = None,
) -> Attack:
  """The first failure among t = 0, 1/num_steps, …, 1.

  Args:
    objective: what to attack, see `objective.build`.
    num_steps: parts that the way is divided into, >= 1. Foolbox leaves the grey image itself (t =
      1) untried and returns it where all else fails; here it is tried last.
    level: the grey level at the end of the way, in [0, 1].
    block_size: images per example and model call; None chooses by backend.

  Returns:
    A minimum-norm `Attack`.

  Raises:
    ValueError: if a number is out of its range.
  """
  _check_level(level)
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  # Added up as Foolbox does, so that both find the same t to the last bit.
  shares = np.append(0.0, np.cumsum(np.full(num_steps, 1.0 / num_steps)))
  shares[-1] = 1.0
  return first_success.search(
    objective,
    Partial(_on_grid, jnp.asarray(shares, jnp.float32), jnp.float32(level)),
    num_images=num_steps + 1,
    block_size=block_size,
    keep_best=False,
  )


def _on_grid(shares: Array, level: Array, keys: Keys, x: Array, numbers: Array) -> Array:
  del keys
  return _towards(x[:, None], level, jnp.expand_dims(shares[numbers], (2, 3, 4)))


def _towards(x: Array, level: Array, share: Array) -> Array:
  return jnp.clip(x + share * (level - x), 0.0, 1.0)


class State(NamedTuple):
  """Where the binary search stands for each example."""

  x: Array  # [B, H, W, D] the clean image
  low: Array  # [B] the largest t that failed to fool the model, 0 before any
  high: Array  # [B] the smallest t that fooled it, 1 before any
  share: Array  # [B] the t to evaluate next
  found: Array  # [B] bool
  goal: Goal
  step: Array  # [B] int32


def binary_search_contrast(
  objective: Objective, *, binary_search_steps: int = 15, level: float = 0.5
) -> Attack:
  """Halves the interval between x and the grey image.

  Args:
    objective: what to attack, see `objective.build`.
    binary_search_steps: evaluations, >= 1, of which the first is x itself, as in Foolbox. Where
      none of them fools the model, the grey image itself is tried as well (Foolbox returns it
      untried).
    level: the grey level at the end of the way, in [0, 1].

  Returns:
    A minimum-norm `Attack` of binary_search_steps + 1 steps.

  Raises:
    ValueError: if a number is out of its range.
  """
  _check_level(level)
  if binary_search_steps < 1:
    raise ValueError(f"binary_search_steps must be >= 1, got {binary_search_steps}")
  return Attack(
    init=Partial(_init),
    step=Partial(
      _step,
      objective=objective,
      level=jnp.float32(level),
      num_steps=jnp.int32(binary_search_steps),
    ),
    result=Partial(_result, level=jnp.float32(level)),
    num_steps=binary_search_steps + 1,
  )


def _check_level(level: float) -> None:
  if not 0 <= level <= 1:
    raise ValueError(f"level must be a grey level in [0, 1], got {level}")


def _init(keys: Keys, x: Array, goal: Goal) -> State:
  del keys
  zeros = jnp.zeros(x.shape[:1], x.dtype)
  return State(
    x=x,
    low=zeros,
    high=jnp.ones_like(zeros),
    share=zeros,
    found=zeros > 0,
    goal=goal._replace(start=None),
    step=jnp.zeros(zeros.shape, jnp.int32),
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, level: Array, num_steps: Array
) -> tuple[State, Info]:
  images = _towards(state.x, level, expand(state.share, state.x))[:, None]
  block = first_success.evaluate(
    objective, keys, state.step, images, jnp.ones((len(images), 1), bool), state.goal
  )
  success = block.success[:, 0]
  low = jnp.where(success, state.low, state.share)
  high = jnp.where(success, state.share, state.high)
  found, step = state.found | success, state.step + 1
  last_try = ~found & (step >= num_steps)
  new = state._replace(
    low=low,
    high=high,
    share=jnp.where(last_try, 1.0, 0.5 * (low + high)),
    found=found,
    step=step,
  )
  done = (found & ((step >= num_steps) | (high == 0))) | (step > num_steps)
  return new, first_success.block_info(block, done)


def _result(state: State, *, level: Array) -> Array:
  fooled = _towards(state.x, level, expand(state.high, state.x))
  return choose(state.found, fooled, state.x)
