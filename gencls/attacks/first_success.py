"""The search that the attacks by enumeration share: numbered images until one succeeds.

An attack proposes image number i of an example; the search evaluates them in order, a block in one
model call, and an example is done at its first success. Which image that is does not depend on the
size of the blocks, as long as the model is deterministic. Under fresh randomness the images of one
block share their draws; there a search that keeps the image of the largest loss tries them all,
since one lucky draw says little.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks.broadcast import choose, pick
from gencls.attacks.objective import candidates, forward_info, stops_early
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

# Images per example and model call. CPUs lose speed beyond about a hundred images per call, which
# the batch alone provides; accelerators want more of them.
CPU_BLOCK_SIZE = 1
ACCELERATOR_BLOCK_SIZE = 16


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  best: Array  # [B, H, W, D] the first success, before it the image of the largest loss or x
  best_loss: Array  # [B] the loss of `best`, −inf for x
  goal: Goal
  tried: Array  # [B] int32, images evaluated


class Block(NamedTuple):
  """What a model call on the candidates of every example says."""

  loss: Array  # [B, M]
  score: Array  # [B, M] the loss, −inf where it is not finite or the candidate does not count
  success: Array  # [B, M] bool, of candidates that count and have a finite loss


def search(
  objective: Objective,
  propose: Partial,
  *,
  num_images: int,
  block_size: int | None,
  keep_best: bool,
) -> Attack:
  """An attack that tries the images 0, 1, … and stops at the first success.

  Args:
    objective: see `objective.build`.
    propose: (keys [B], x, numbers [B, M] int32) -> [B, M, H, W, D], inside the box.
    num_images: how many there are.
    block_size: images per example and model call, or None for `default_block_size`.
    keep_best: whether an example without a success gets the image of the largest loss, or x. Under
      fresh randomness every example gets it, success or not.

  Returns:
    An `Attack`.

  Raises:
    ValueError: if `block_size` < 1.
  """
  size = min(check_block_size(block_size), num_images)
  return Attack(
    init=Partial(_init),
    step=Partial(
      _step,
      objective=objective,
      propose=propose,
      num_images=jnp.int32(num_images),
      offsets=jnp.arange(size, dtype=jnp.int32),
      keep_best=jnp.bool_(keep_best),
      stop=jnp.bool_(stops_early(objective, None) or not keep_best),
    ),
    result=Partial(_result),
    num_steps=-(-num_images // size),
  )


def check_block_size(block_size: int | None) -> int:
  """The size of a block; None is the backend's default.

  Args:
    block_size: >= 1, or None.

  Returns:
    An int >= 1.

  Raises:
    ValueError: if it is smaller than 1.
  """
  if block_size is None:
    on_cpu = jax.default_backend() == "cpu"
    return CPU_BLOCK_SIZE if on_cpu else ACCELERATOR_BLOCK_SIZE
  if block_size < 1:
    raise ValueError(f"block_size must be >= 1 images per model call or None, got {block_size}")
  return block_size


def evaluate(
  objective: Objective, keys: Keys, step: Array, images: Array, counts: Array, goal: Goal
) -> Block:
  """One model call on [B, M, H, W, D] images, of which those with `counts` [B, M] count."""
  loss, success = candidates(objective, keys, step, images, goal)
  usable = jnp.isfinite(loss) & counts
  return Block(loss, jnp.where(usable, loss, -jnp.inf), success & usable)


def block_info(block: Block, done: Array) -> Info:
  """What a step reports that evaluated one block and took no gradient."""
  told = forward_info(block.loss, block.success, done)
  return told._replace(loss=jnp.max(block.score, axis=1))


def _init(keys: Keys, x: Array, goal: Goal) -> State:
  del keys
  batch = x.shape[:1]
  return State(
    x=x,
    best=x,
    best_loss=jnp.full(batch, -jnp.inf, x.dtype),
    goal=goal._replace(start=None),
    tried=jnp.zeros(batch, jnp.int32),
  )


def _step(
  keys: Keys,
  state: State,
  *,
  objective: Objective,
  propose: Partial,
  num_images: Array,
  offsets: Array,
  keep_best: Array,
  stop: Array,
) -> tuple[State, Info]:
  numbers = state.tried[:, None] + offsets[None, :]
  counts = numbers < num_images
  images = propose(keys, state.x, jnp.minimum(numbers, num_images - 1))
  block = evaluate(objective, keys, state.tried, images, counts, state.goal)

  found = jnp.any(block.success, axis=1) & stop
  which = jnp.where(found, jnp.argmax(block.success, axis=1), jnp.argmax(block.score, axis=1))
  loss = jnp.take_along_axis(block.score, which[:, None], axis=1)[:, 0]
  better = found | (keep_best & (loss > state.best_loss))
  tried = state.tried + len(offsets)
  new = state._replace(
    best=choose(better, pick(images, which), state.best),
    best_loss=jnp.where(better, loss, state.best_loss),
    tried=tried,
  )
  return new, block_info(block, found | (tried >= num_images))


def _result(state: State) -> Array:
  return state.best
