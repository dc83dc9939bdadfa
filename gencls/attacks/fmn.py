"""Fast minimum norm: projected ascent in a ball whose radius follows the boundary, in any ℓp.

With loss L (positive on success), cosine schedules of step_k and γ_k, and x* the nearest success,

  radius ← min(radius (1 − γ_k), ||x* − x||_p)   on success,
           radius (1 + γ_k)                      elsewhere, once there is an x*,
           max(radius, guess) (1 + γ_k)          before; guess = ||x_k − x||_p + |L| / ||∇L||_dual,
  x_{k+1} = clip(project(x_k + step_k ∇L/||∇L||_2, radius)).

In ℓ0 the radius is a whole number that grows and shrinks by at least one.

References:
  Pintor et al. 2021, arXiv:2102.12827. Foolbox 3.3.4, L2FMNAttack and others (its ℓ2 projection
  is the identity and its ℓ0 projection keeps one entry too many; here both are the paper's).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks import norms
from gencls.attacks.broadcast import choose, expand
from gencls.attacks.geometry import Geometry
from gencls.attacks.nearest import Nearest, keep, none_yet
from gencls.attacks.objective import Query, info, query, signed
from gencls.attacks.order import kth_largest
from gencls.attacks.schedules import cosine
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

LAST_GAMMA = 0.001  # by the paper
LAST_STEP = 0.01  # the default final step, as a share of the first


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the iterate to evaluate next
  radius: Array  # [B] of the ball
  limit: Array  # [B] the distance of the farthest image of the box
  near: Array  # [B] on the way from a start to the boundary, the largest radius known to fail
  nearest: Nearest
  goal: Goal
  step: Array  # [B] int32, iterates evaluated


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  step_size: Array
  final_step_size: Array
  gamma: Array
  binary_search_steps: Array


class Norm(NamedTuple):
  """A norm and its balls; the functions work per example and have no leaves."""

  size: Partial  # (delta [B, ...]) -> [B]
  dual: Partial | None  # the dual norm's size; None for ℓ0, which has none
  project: Partial  # (x_adv, x, radius [B]) -> in ball and box


def _project(x_adv: Array, x: Array, radius: Array, *, ball: Partial) -> Array:
  return ball(radius).project(x_adv, x)


def _project_l0(x_adv: Array, x: Array, radius: Array) -> Array:
  """Keeps the ⌊radius⌋ largest differences (the first ones of equals), then clips to the box."""
  size = jnp.reshape(jnp.abs(x_adv - x), (len(x), -1))
  count = jnp.clip(jnp.floor(radius), 0, size.shape[1]).astype(jnp.int32)
  least = kth_largest(size, count)[:, None]
  above, equal = size > least, size == least
  room = count - jnp.sum(above, axis=1)
  kept = above | (equal & (jnp.cumsum(equal, axis=1) <= room[:, None]))
  return jnp.clip(jnp.where(jnp.reshape(kept, x.shape), x_adv, x), 0.0, 1.0)


def _norm(
  size: Callable[[Array], Array], dual: Callable[[Array], Array], ball: Callable[..., Geometry]
) -> Norm:
  return Norm(Partial(size), Partial(dual), Partial(_project, ball=Partial(ball)))


NORMS: dict[str, Norm] = {
  "l0": Norm(Partial(norms.l0), None, Partial(_project_l0)),
  "l1": _norm(norms.l1, norms.linf, geometries.l1),
  "l2": _norm(norms.plain_l2, norms.plain_l2, geometries.l2),
  "linf": _norm(norms.linf, norms.l1, geometries.linf),
}


def fmn(
  objective: Objective,
  *,
  norm: str = "l2",
  num_steps: int = 100,
  step_size: float = 1.0,
  final_step_size: float | None = None,
  gamma: float = 0.05,
  binary_search_steps: int = 10,
) -> Attack:
  """Fast minimum norm.

  Args:
    objective: what to maximise, see `objective.build`; its loss must be positive on success and
      negative elsewhere, as "margin" is and "dlr" is made (see `objective.signed`).
    norm: "l2", "linf", "l1" or "l0".
    num_steps: iterates, >= 1.
    step_size: ℓ2 length of the first move, whatever the norm.
    final_step_size: length of the last one; default a hundredth of the first.
    gamma: share by which the radius changes at first, in (0, 1); at the end it is 0.001.
    binary_search_steps: with a `Goal.start`, evaluations that bisect the way from x to it before
      the iterates begin, after one of x itself; unused without.

  Returns:
    An `Attack` of at most num_steps + binary_search_steps + 1 steps.

  Raises:
    ValueError: if the norm is unknown, the loss has no sign or a number is out of its range.
  """
  if norm not in NORMS:
    raise ValueError(unknown_name("norm", norm, NORMS))
  objective = signed(objective, "fmn")
  if num_steps < 1 or binary_search_steps < 0:
    raise ValueError(
      "num_steps must be >= 1 and binary_search_steps >= 0, got "
      f"{num_steps} and {binary_search_steps}"
    )
  final_step_size = LAST_STEP * step_size if final_step_size is None else final_step_size
  for name, value in (("step_size", step_size), ("final_step_size", final_step_size)):
    if not (math.isfinite(value) and value > 0):
      raise ValueError(f"{name} must be a finite number > 0, got {value}")
  if not 0 < gamma < 1:
    raise ValueError(f"gamma must be in (0, 1), got {gamma}")
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    step_size=jnp.float32(step_size),
    final_step_size=jnp.float32(final_step_size),
    gamma=jnp.float32(gamma),
    binary_search_steps=jnp.int32(binary_search_steps),
  )
  return Attack(
    init=Partial(_init, norm=NORMS[norm], plan=plan),
    step=Partial(_step, objective=objective, norm=NORMS[norm], plan=plan),
    result=Partial(_result),
    num_steps=num_steps + binary_search_steps + 1,
  )


def _init(keys: Keys, x: Array, goal: Goal, *, norm: Norm, plan: Plan) -> State:
  del keys
  batch = x.shape[:1]
  zeros = jnp.zeros(batch)
  if goal.start is None:
    x_adv, radius = x, jnp.full(batch, 0.0 if norm.dual else 1.0, x.dtype)
  else:
    radius = norm.size(goal.start - x)
    x_adv = _between(zeros, radius, plan.binary_search_steps == 0, x, goal, norm)
  return State(
    x=x,
    x_adv=x_adv,
    radius=radius,
    limit=norm.size(jnp.maximum(x, 1.0 - x)),
    near=zeros,
    nearest=none_yet(x),
    goal=goal,
    step=jnp.zeros(batch, jnp.int32),
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, norm: Norm, plan: Plan
) -> tuple[State, Info]:
  """Evaluates the iterate, then moves it; at first on the way from a given start."""
  goal = state.goal._replace(start=None)
  x_adv, searches = state.x_adv, jnp.int32(0)
  if state.goal.start is not None:
    x_adv = choose(state.step == 0, state.x, x_adv)
    searches = plan.binary_search_steps + 1  # and x itself
  at = query(objective, keys, state.step, x_adv, goal)
  distance = norm.size(x_adv - state.x)
  hit = at.success & jnp.isfinite(at.loss)
  nearest = keep(state.nearest, hit, x_adv, distance)

  share = cosine((state.step - searches).astype(jnp.float32) / plan.num_steps)
  gamma = LAST_GAMMA + (plan.gamma - LAST_GAMMA) * share
  size = plan.final_step_size + (plan.step_size - plan.final_step_size) * share
  next_radius = _next_radius if norm.dual else _next_count
  radius = next_radius(state.radius, gamma, hit, at, distance, nearest.distance, norm)
  # Where the loss is not finite: back towards x.
  radius = jnp.where(at.nonfinite, (1.0 - gamma) * jnp.minimum(state.radius, distance), radius)
  radius = jnp.minimum(radius, state.limit)
  length = expand(jnp.where(at.nonfinite, 0.0, size), state.x)
  ascent = state.x_adv + length * geometries.l2(radius).steepest(at.gradient)
  new = state._replace(
    x_adv=norm.project(ascent, state.x, radius),
    radius=radius,
    nearest=nearest,
    step=state.step + 1,
  )
  if state.goal.start is not None:
    new = choose(state.step < searches, _search(state, new, hit, plan, norm), new)
    looked = state._replace(nearest=nearest, step=state.step + 1)
    new = choose(state.step == 0, looked, new)
  done = (new.step >= searches + plan.num_steps) | (nearest.distance == 0)
  return new, info(at, done)


def _next_radius(
  radius: Array, gamma: Array, hit: Array, at: Query, distance: Array, best: Array, norm: Norm
) -> Array:
  assert norm.dual is not None
  boundary = distance + jnp.abs(at.loss) / jnp.maximum(norm.dual(at.gradient), 1e-12)
  # Differs from the paper: before the first success the radius grows in any case. The guess alone
  # ends on the boundary itself where the model is linear, and to and fro between two rivals.
  guess = jnp.maximum(radius, boundary)
  outward = jnp.where(jnp.isfinite(best), radius, guess) * (1.0 + gamma)
  return jnp.where(hit, jnp.minimum(radius * (1.0 - gamma), best), outward)


def _next_count(
  radius: Array, gamma: Array, hit: Array, at: Query, distance: Array, best: Array, norm: Norm
) -> Array:
  del at, distance, norm
  fewer = jnp.minimum(jnp.minimum(radius - 1.0, jnp.floor(radius * (1.0 - gamma))), best)
  more = jnp.maximum(radius + 1.0, jnp.floor(radius * (1.0 + gamma)))
  return jnp.maximum(jnp.where(hit, fewer, more), 1.0)


def _search(state: State, new: State, hit: Array, plan: Plan, norm: Norm) -> State:
  """`new` with another halving of the way from the start: `near` fails, `radius` succeeds."""
  middle = 0.5 * (state.near + state.radius)
  near = jnp.where(hit, state.near, middle)
  far = jnp.where(hit, middle, state.radius)
  last = state.step == plan.binary_search_steps  # x was looked at before
  x_adv = _between(near, far, last, state.x, state.goal, norm)
  return new._replace(x_adv=x_adv, radius=far, near=near)


def _between(near: Array, far: Array, last: Array, x: Array, goal: Goal, norm: Norm) -> Array:
  """The point of the way from x to the start that is evaluated next."""
  assert goal.start is not None
  return norm.project(goal.start, x, jnp.where(last, far, 0.5 * (near + far)))


def _result(state: State) -> Array:
  return state.nearest.x_adv
