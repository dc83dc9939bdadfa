"""Starts of the attacks that walk along the boundary: an image that already succeeds.

A hunt is a small state machine inside an attack's own, so that its queries are counted and spent in
the attack's batches. It evaluates x (an image that is wrong already is its own nearest success),
then the given start, then uniform noise until something succeeds; then it blends that image with x
and takes the first of `blend_steps` interpolations, seen from x, that succeeds. An example whose
hunt fails is done and unbroken: it does not stop its batch.

References:
  Brendel et al. 2018, arXiv:1712.04248; the schedule is that of Foolbox's
  LinearSearchBlendedUniformNoiseAttack.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks.broadcast import choose, pick
from gencls.keys import fold
from gencls.types import Array, Goal, Key, Keys

# Stages of a hunt; from BLEND on there is a success.
SEEK, FAILED, BLEND, FOUND = range(4)
ROWS = 256  # of the distance matrix of `nearest_places` at a time
NO_PLACE = -1


class Hunt(NamedTuple):
  """Where each example's hunt stands; the image itself is the attack's iterate."""

  stage: Array  # [B] int32, one of the stages
  spent: Array  # [B] int32, images of the stage evaluated so far


class HuntPlan(NamedTuple):
  """The numbers of a hunt: leaves."""

  directions: Array  # [] int32, noise images to try
  blend_steps: Array  # [] int32
  blend_given: Array  # [] bool, whether a given start is blended too


def plan(directions: int, blend_steps: int, blend_given: bool = True) -> HuntPlan:
  """The numbers of a hunt.

  Args:
    directions: noise images to try, >= 0 (0: only x and the given start).
    blend_steps: interpolations between x and the image found, >= 1.
    blend_given: whether a given start is blended with x, or taken as it is.

  Returns:
    A `HuntPlan`.

  Raises:
    ValueError: if a number is out of its range.
  """
  if directions < 0 or blend_steps < 1:
    raise ValueError(
      f"directions must be >= 0 and blend_steps >= 1, got {directions} and {blend_steps}"
    )
  return HuntPlan(jnp.int32(directions), jnp.int32(blend_steps), jnp.bool_(blend_given))


def most_steps(directions: int, blend_steps: int, block: int) -> int:
  """The steps that no hunt exceeds which evaluates `block` images in each."""
  return -(-(directions + 2) // block) + -(-(blend_steps - 1) // block)


def hunt(x: Array) -> Hunt:
  """The beginning of a hunt."""
  zero = jnp.zeros(len(x), jnp.int32)
  return Hunt(stage=jnp.full_like(zero, SEEK), spent=zero)


def hunting(state: Hunt) -> Array:
  """Whether the hunt goes on, [B] bool."""
  return (state.stage == SEEK) | (state.stage == BLEND)


def propose(
  keys: Keys, state: Hunt, x_adv: Array, x: Array, goal: Goal, numbers: HuntPlan, slots: Array
) -> Array:
  """The next images of the hunt.

  Args:
    keys: [B] typed keys.
    state: the hunt.
    x_adv: [B, H, W, D], while blending the image that succeeds.
    x: [B, H, W, D], the clean image.
    goal: its `start` is the given one.
    numbers: see `plan`.
    slots: 0, …, M − 1.

  Returns:
    [B, M, H, W, D] in the box.
  """
  index = state.spent[:, None] + slots[None, :]
  share = jnp.minimum((index + 1) / numbers.blend_steps, 1.0)[..., None, None, None]
  wide = x[:, None]
  blends = jnp.clip(wide + share * (x_adv - x)[:, None], 0.0, 1.0)

  def seek() -> Array:
    return _images_to_try(keys, index, x, goal, _num_tries(numbers, goal))

  seeking = state.stage == SEEK
  images = jax.lax.cond(jnp.any(seeking), seek, lambda: jnp.zeros_like(blends))
  return choose(seeking, images, blends)


def _num_tries(numbers: HuntPlan, goal: Goal) -> Array:
  return numbers.directions + (1 if goal.start is None else 2)


def _images_to_try(keys: Keys, index: Array, x: Array, goal: Goal, num: Array) -> Array:
  """x, the given start if there is one, then noise; x again from `num` on. By [B, M] index."""

  def noise(key: Key) -> Array:
    return jax.random.uniform(key, x.shape[1:])

  each = fold(jnp.repeat(keys, index.shape[1]), "noise start", index.ravel())
  images = jnp.reshape(jax.vmap(noise)(each), (*index.shape, *x.shape[1:]))
  which = index[..., None, None, None]
  if goal.start is not None:
    images = jnp.where(which == 1, goal.start[:, None], images)
  return jnp.where((which == 0) | (which >= num), x[:, None], images)


def advance(
  state: Hunt, images: Array, success: Array, x_adv: Array, goal: Goal, numbers: HuntPlan
) -> tuple[Hunt, Array]:
  """The hunt after its images were evaluated.

  Args:
    state: the hunt; one that is over stays as it is.
    images: [B, M, H, W, D], what `propose` gave.
    success: [B, M] bool.
    x_adv: [B, H, W, D], as in `propose`.
    goal: as in `propose`.
    numbers: as in `propose`.

  Returns:
    (hunt, x_adv): from stage BLEND on, x_adv succeeds.
  """
  hit, first = first_success(success)
  index, count = state.spent + first, state.spent + success.shape[1]
  seeking, blending = state.stage == SEEK, state.stage == BLEND
  given = (index == 1) & (goal.start is not None)
  as_it_is = (index == 0) | (given & ~numbers.blend_given) | (numbers.blend_steps == 1)

  caught = jnp.where(as_it_is, FOUND, BLEND)
  over = count >= _num_tries(numbers, goal)
  sought = jnp.where(hit, caught, jnp.where(over, FAILED, SEEK))
  blended = jnp.where(hit | (count >= numbers.blend_steps - 1), FOUND, BLEND)
  stage = jnp.where(seeking, sought, jnp.where(blending, blended, state.stage))
  taken = hit & (seeking | blending)
  count = jnp.where(seeking & (stage != SEEK), 0, jnp.where(hunting(state), count, state.spent))
  return Hunt(stage.astype(jnp.int32), count), choose(taken, pick(images, first), x_adv)


def first_success(success: Array) -> tuple[Array, Array]:
  """(whether any of [B, M] succeeds, the first that does)."""
  return jnp.any(success, axis=1), jnp.argmax(success, axis=1).astype(jnp.int32)


@jax.jit
def _squared_distances(pool: Array, pool_squares: Array, x: Array) -> Array:
  return pool_squares[None, :] - 2.0 * jnp.matmul(x, pool.T, precision="highest")


def class_starts(
  images: Array, labels: Array, x: Array, y: Array, target: Array | None = None
) -> Array:
  """The nearest image (ℓ2) of the target class, or of any other class than y where untargeted.

  Real images start where noise cannot: in targeted attacks, and where the model rejects noise.

  Args:
    images: [N, H, W, D] float32 in [0, 1], the pool.
    labels: [N] integers: what the model *predicts* for the pool, so that the starts succeed.
    x: [B, H, W, D] float32, the images to be attacked.
    y: [B] integers, their labels.
    target: [B] integers, -1 where untargeted; None for none.

  Returns:
    [B, H, W, D] float32, for `run(…, start=…)`.

  Raises:
    ValueError: if the shapes do not fit, or the pool has no image for some example.
  """
  place = nearest_places(images, labels, x, y, target)[:, 0]
  if np.any(place == NO_PLACE):
    missing = int(np.argmax(place == NO_PLACE))
    aim = -1 if target is None else np.asarray(target)[missing]
    raise ValueError(
      f"the pool has no image to start example {missing} from (label {np.asarray(y)[missing]}, "
      f"target {aim}); give a larger pool"
    )
  return jnp.asarray(images)[place] if len(place) else jnp.asarray(x)


def nearest_places(
  images: Array, labels: Array, x: Array, y: Array, target: Array | None = None, num: int = 1
) -> np.ndarray:
  """The places of the nearest images of a pool that `class_starts` may take, the nearest first.

  Args:
    images: as the others, see `class_starts`. The pool may be empty.
    num: how many, >= 1.

  Returns:
    [B, num] integers, `NO_PLACE` where the pool has no more.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if len(images) != len(labels) or images.shape[1:] != x.shape[1:]:
    raise ValueError(
      "images and labels must be equally many, of the shape of x, got shapes "
      f"{images.shape}, {np.shape(labels)} and {x.shape}"
    )
  size = math.prod(x.shape[1:])
  pool, classes = jnp.reshape(images, (len(images), size)), np.asarray(labels)
  aim = np.full(len(x), -1) if target is None else np.asarray(target)
  squares = jnp.sum(jnp.square(pool), axis=1)
  found = np.full((len(x), num), NO_PLACE)
  for first in range(0, len(x), ROWS):
    some = slice(first, first + ROWS)
    distance = np.asarray(_squared_distances(pool, squares, jnp.reshape(x[some], (-1, size))))
    mine, aims = np.asarray(y)[some, None], aim[some, None]
    allowed = np.where(aims >= 0, classes[None] == aims, classes[None] != mine)
    distance = np.where(allowed, distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :num]
    there = np.isfinite(np.take_along_axis(distance, order, axis=1))
    found[some, : order.shape[1]] = np.where(there, order, NO_PLACE)
  return found
