"""The boundary attack: a random walk along the decision boundary, from the success's label alone.

From a successful x̃ at distance d of x it draws a Gaussian direction orthogonal to x̃ − x, goes
spherical_step · d along it and back to the sphere of radius d, then source_step · d towards x, and
moves there if that succeeds and is nearer. Both step sizes adapt so that about a half of the
spherical and a quarter of the full proposals succeed; an example is done when its source step has
become negligible. Every step is one query: every `check_every`-th proposal takes two, the
point on the sphere and the full proposal.

References:
  Brendel et al. 2018, arXiv:1712.04248. The adaptation is that of Foolbox 3.3.4.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import starts
from gencls.attacks.broadcast import choose, expand, pixels
from gencls.attacks.norms import plain_l2
from gencls.attacks.objective import forward_info
from gencls.attacks.starts import Hunt, HuntPlan
from gencls.keys import fold
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective

# Checks that a rate is taken over, and the rates outside which the steps change.
SPHERICAL_WINDOW, SPHERICAL_RATES = 100, (0.2, 0.5)
SOURCE_WINDOW, SOURCE_RATES = 30, (0.1, 0.25)


class Record(NamedTuple):
  """The last outcomes of a check."""

  hits: Array  # [B, N] bool, a ring
  noted: Array  # [B] int32, outcomes since the record was cleared


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the nearest success; x where there is none
  goal: Goal
  hunt: Hunt  # for the first success
  spherical_step: Array  # [B] as a share of the distance
  source_step: Array  # [B]
  spherical: Record  # successes on the sphere
  source: Record  # successes of the full proposals
  checked: Array  # [B] bool, the proposal's point on the sphere was evaluated
  on_sphere: Array  # [B] bool, and succeeded
  proposal: Array  # [B] int32, the number of the proposal, from 1
  query: Array  # [B] int32, images evaluated


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  spherical_step: Array
  source_step: Array
  step_adaptation: Array
  convergence: Array
  check_every: Array
  hunt: HuntPlan


def boundary(
  objective: Objective,
  *,
  num_steps: int = 25000,
  spherical_step: float = 0.01,
  source_step: float = 0.01,
  step_adaptation: float = 1.5,
  source_step_convergence: float = 1e-7,
  check_every: int = 10,
  directions: int = 1000,
  blend_steps: int = 50,
  blend_given: bool = True,
) -> Attack:
  """The boundary attack: minimum ℓ2 norm, from decisions alone.

  Args:
    objective: only its success is used, see `objective.build`.
    num_steps: proposals, >= 1.
    spherical_step: first step along the sphere, as a share of the distance, > 0.
    source_step: first step towards x, as a share of the distance, > 0.
    step_adaptation: factor by which the steps grow and shrink, > 1.
    source_step_convergence: an example is done when its source step is below.
    check_every: proposals between two updates of the rates, >= 1.
    directions: noise images tried for a start, >= 0. A `Goal.start` is tried before them; targeted
      attacks need one (see `starts.class_starts`).
    blend_steps: interpolations between x and the start tried, >= 1.
    blend_given: whether a given start is blended with x too.

  Returns:
    An `Attack` of minimum norm. Examples without a start are done at once, with x as the result.

  Raises:
    ValueError: if a number is out of its range.
  """
  steps = (spherical_step, source_step)
  if num_steps < 1 or check_every < 1:
    raise ValueError(f"num_steps and check_every must be >= 1, got {num_steps} and {check_every}")
  if not all(math.isfinite(step) and step > 0 for step in steps):
    raise ValueError(f"spherical_step and source_step must be finite and > 0, got {steps}")
  if not (math.isfinite(step_adaptation) and step_adaptation > 1):
    raise ValueError(f"step_adaptation must be finite and > 1, got {step_adaptation}")
  if not source_step_convergence >= 0:
    raise ValueError(f"source_step_convergence must be >= 0, got {source_step_convergence}")
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    spherical_step=jnp.float32(spherical_step),
    source_step=jnp.float32(source_step),
    step_adaptation=jnp.float32(step_adaptation),
    convergence=jnp.float32(source_step_convergence),
    check_every=jnp.int32(check_every),
    hunt=starts.plan(directions, blend_steps, blend_given),
  )
  return Attack(
    init=Partial(_init, plan=plan),
    step=Partial(_step, objective=objective, plan=plan),
    result=Partial(_result),
    num_steps=starts.most_steps(directions, blend_steps, 1) + num_steps + num_steps // check_every,
  )


def _init(keys: Keys, x: Array, goal: Goal, *, plan: Plan) -> State:
  del keys
  zero = jnp.zeros(len(x), jnp.int32)
  return State(
    x=x,
    x_adv=x,
    goal=goal,
    hunt=starts.hunt(x),
    spherical_step=jnp.full(len(x), plan.spherical_step),
    source_step=jnp.full(len(x), plan.source_step),
    spherical=Record(jnp.zeros((len(x), SPHERICAL_WINDOW), bool), zero),
    source=Record(jnp.zeros((len(x), SOURCE_WINDOW), bool), zero),
    checked=zero > 0,
    on_sphere=zero > 0,
    proposal=zero + 1,
    query=zero,
  )


def _step(keys: Keys, state: State, *, objective: Objective, plan: Plan) -> tuple[State, Info]:
  """Evaluates one image: of the hunt for a start, on the sphere, or the full proposal."""
  hunting = starts.hunting(state.hunt)
  tried = starts.propose(
    keys, state.hunt, state.x_adv, state.x, state.goal, plan.hunt, jnp.arange(1)
  )
  sphere, full = _proposals(fold(keys, "proposal", state.proposal), state)
  counts = state.proposal % plan.check_every == 0
  checking = counts & ~state.checked
  at = choose(hunting, tried[:, 0], choose(checking, sphere, full))
  loss, success = objective(keys, state.query, at, state.goal)

  hunt, x_adv = starts.advance(
    state.hunt, tried, success[:, None], state.x_adv, state.goal, plan.hunt
  )
  moving = ~hunting & ~checking
  # Rounding may take a proposal that is nearer by construction away again.
  nearer = plain_l2(at - state.x) < plain_l2(state.x_adv - state.x)
  new = state._replace(
    x_adv=choose(moving & success & nearer, at, x_adv),
    hunt=hunt,
    checked=~hunting & checking,
    on_sphere=success,
    proposal=state.proposal + moving,
    query=state.query + 1,
  )
  new = _adapt(new, moving & counts, state.on_sphere, success, plan)
  settled = (new.source_step < plan.convergence) | (new.proposal > plan.num_steps)
  at_x = (hunt.stage == starts.FOUND) & (plain_l2(new.x_adv - new.x) == 0)
  return new, forward_info(loss, success, settled | at_x | (hunt.stage == starts.FAILED))


def _proposals(keys: Keys, state: State) -> tuple[Array, Array]:
  """(the proposal on the sphere around x, the same moved towards x), both in the box."""
  x, x_adv = state.x, state.x_adv

  def noise(key: Key) -> Array:
    return jax.random.normal(key, x.shape[1:])

  def scale(numbers: Array, images: Array) -> Array:
    return expand(numbers, images) * images

  away = x_adv - x
  distance = jnp.maximum(plain_l2(away), jnp.finfo(x.dtype).tiny)
  outward = scale(1.0 / distance, away)
  eta = jax.vmap(noise)(keys)
  eta = eta - scale(jnp.sum(eta * outward, axis=pixels(x)), outward)
  # Of a single pixel nothing is left: the way outward is the only one.
  length = jnp.maximum(plain_l2(eta), jnp.finfo(x.dtype).tiny)
  eta = scale(state.spherical_step * distance / length, eta)
  # Pythagoras: x̃ + eta is further from x than x̃ by the factor sqrt(1 + spherical_step²).
  sphere = x + scale(1.0 / jnp.sqrt(1.0 + jnp.square(state.spherical_step)), away + eta)
  sphere = jnp.clip(sphere, 0.0, 1.0)
  # The box may have brought the point inside the sphere: that counts as progress towards x.
  radius = jnp.maximum(plain_l2(sphere - x), jnp.finfo(x.dtype).tiny)
  length = jnp.maximum(state.source_step * distance + radius - distance, 0.0)
  return sphere, jnp.clip(sphere + scale(length / radius, x - sphere), 0.0, 1.0)


def _adapt(state: State, when: Array, on_sphere: Array, success: Array, plan: Plan) -> State:
  """Updates both rates where `when`, and the steps where a full record's rate asks for it."""
  spherical, around = _record(state.spherical, when, on_sphere, SPHERICAL_RATES)
  source, inward = _record(state.source, when, success, SOURCE_RATES)
  return state._replace(
    spherical=spherical,
    source=source,
    spherical_step=state.spherical_step * plan.step_adaptation**around,
    source_step=state.source_step * plan.step_adaptation ** (around + inward),
  )


def _record(
  record: Record, when: Array, hit: Array, rates: tuple[float, float]
) -> tuple[Record, Array]:
  """Notes an outcome; (record, +1.0 where its steps shall grow, −1.0 shrink, 0.0 stay)."""
  size = record.hits.shape[1]
  here = (jnp.arange(size)[None, :] == (record.noted % size)[:, None]) & when[:, None]
  hits, count = jnp.where(here, hit[:, None], record.hits), record.noted + when
  rate, full = jnp.mean(hits.astype(jnp.float32), axis=1), when & (count >= size)
  change = jnp.where(full & (rate > rates[1]), 1.0, jnp.where(full & (rate < rates[0]), -1.0, 0.0))
  return Record(hits, jnp.where(change == 0, count, 0)), change


def _result(state: State) -> Array:
  return state.x_adv
