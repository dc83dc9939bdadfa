"""Decoupled direction and norm: an ℓ2 sphere around x that shrinks and grows at the boundary.

  δ ← δ + step_k · g/||g||,   radius ← radius · (1 − γ on success, else 1 + γ),
  x_{k+1} = clip(x + radius · δ/||δ||),

with a cosine schedule of the steps from 1 to 0.01. The result is the nearest success.

References:
  Rony et al. 2019, arXiv:1811.09600. Foolbox 3.3.4, DDNAttack.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, expand
from gencls.attacks.nearest import Nearest, keep, none_yet
from gencls.attacks.norms import plain_l2
from gencls.attacks.objective import info, query
from gencls.attacks.schedules import cosine
from gencls.keys import fold
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective

FIRST_STEP, LAST_STEP = 1.0, 0.01  # lengths of the moves, by the paper


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the iterate to evaluate next
  radius: Array  # [B] of the sphere
  limit: Array  # [B] the distance of the farthest image of the box
  nearest: Nearest
  goal: Goal
  step: Array  # [B] int32, iterates evaluated


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  init_eps: Array
  gamma: Array
  top_level: Array  # levels − 1, 0 without rounding


def ddn(
  objective: Objective,
  *,
  num_steps: int = 100,
  init_eps: float = 1.0,
  gamma: float = 0.05,
  levels: int | None = None,
) -> Attack:
  """Decoupled direction and norm; ℓ2, minimum norm.

  Args:
    objective: what to maximise, see `objective.build`; only the gradient's direction counts.
    num_steps: iterates, >= 1.
    init_eps: the first radius, > 0. With a `Goal.start` the first radius is the start's distance.
    gamma: share by which the radius changes at every step, in (0, 1).
    levels: rounds every iterate to this many grey values (256 for 8-bit images, whose pixels are
      such values), None for none.

  Returns:
    An `Attack` of num_steps steps, and one more for x itself where there is a `Goal.start`.

  Raises:
    ValueError: if a number is out of its range.
  """
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  if not (math.isfinite(init_eps) and init_eps > 0):
    raise ValueError(f"init_eps must be a finite number > 0, got {init_eps}")
  if not 0 < gamma < 1:
    raise ValueError(f"gamma must be in (0, 1), got {gamma}")
  if levels is not None and levels < 2:
    raise ValueError(f"levels must be >= 2 or None (no rounding), got {levels}")
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    init_eps=jnp.float32(init_eps),
    gamma=jnp.float32(gamma),
    top_level=jnp.float32(0 if levels is None else levels - 1),
  )
  return Attack(
    init=Partial(_init, plan=plan),
    step=Partial(_step, objective=objective, plan=plan),
    result=Partial(_result),
    num_steps=num_steps + 1,
  )


def _init(keys: Keys, x: Array, goal: Goal, *, plan: Plan) -> State:
  del keys
  batch = x.shape[:1]
  radius = jnp.broadcast_to(plan.init_eps, batch)
  if goal.start is not None:
    distance = plain_l2(goal.start - x)
    radius = jnp.where(distance > 0, distance, radius)
  return State(
    x=x,
    x_adv=x if goal.start is None else goal.start,
    radius=radius,
    limit=plain_l2(jnp.maximum(x, 1.0 - x)),
    nearest=none_yet(x),
    goal=goal,
    step=jnp.zeros(batch, jnp.int32),
  )


def _step(keys: Keys, state: State, *, objective: Objective, plan: Plan) -> tuple[State, Info]:
  """Evaluates the iterate, then moves it onto the next sphere."""
  given = state.goal.start is not None  # then x is looked at first
  x_adv = choose(state.step == 0, state.x, state.x_adv) if given else state.x_adv
  at = query(objective, keys, state.step, x_adv, state.goal._replace(start=None))
  delta = x_adv - state.x
  distance = plain_l2(delta)
  hit = at.success & jnp.isfinite(at.loss)
  nearest = keep(state.nearest, hit, x_adv, distance)

  growth = jnp.where(hit, 1.0 - plan.gamma, 1.0 + plan.gamma)
  # Where the loss is not finite: back towards x.
  lost = jnp.minimum(state.radius, distance) * (1.0 - plan.gamma)
  radius = jnp.where(at.nonfinite, lost, jnp.minimum(state.radius * growth, state.limit))

  share = cosine((state.step - given).astype(jnp.float32) / plan.num_steps)
  size = jnp.where(at.nonfinite, 0.0, LAST_STEP + (FIRST_STEP - LAST_STEP) * share)
  gradient = _or_random(keys, state.step, at.gradient, at.zero_gradient)
  moved = delta + expand(size, delta) * geometries.l2(radius).steepest(gradient)
  length = plain_l2(moved)
  scale = jnp.where(length > 0, radius / jnp.where(length > 0, length, 1.0), 0.0)
  x_adv = jnp.clip(state.x + expand(scale, delta) * moved, 0.0, 1.0)
  top = jnp.maximum(plan.top_level, 1.0)
  x_adv = jnp.where(plan.top_level > 0, jnp.round(x_adv * top) / top, x_adv)
  step = state.step + 1
  new = state._replace(x_adv=x_adv, radius=radius, nearest=nearest, step=step)
  if given:
    new = choose(state.step == 0, state._replace(nearest=nearest, step=step), new)
  return new, info(at, (step - given >= plan.num_steps) | (nearest.distance == 0))


def _or_random(keys: Keys, step: Array, gradient: Array, zero: Array) -> Array:
  """The gradient, or a random direction where it is zero."""

  def noise(key: Key) -> Array:
    return jax.random.normal(key, gradient.shape[1:])

  def drawn() -> Array:
    return choose(zero, jax.vmap(noise)(fold(keys, "direction", step)), gradient)

  return jax.lax.cond(jnp.any(zero), drawn, lambda: gradient)


def _result(state: State) -> Array:
  return state.nearest.x_adv
