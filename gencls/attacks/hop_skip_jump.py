"""HopSkipJump: estimates the boundary's normal from decisions, and walks along it.

With d pixels, x_t a success on the boundary and δ_t = ‖x_t − x‖ / d, iteration t

1. estimates the direction v from N_t = min(N_0 √t, N_max) decisions φ_b = ±1 at x_t + δ_t u_b,
   v = mean_b (φ_b − mean φ) u_b, made steepest for the norm;
2. moves to x_t + ξ v with ξ = ‖x_t − x‖ / √t, halved until that succeeds;
3. goes back towards x until the boundary is bracketed within a share θ (d^(−3/2) in ℓ2, d^(−2) in
   ℓ∞) of the way.

Each step of the state machine evaluates one block of images per example, whichever of the three it
is at: a block of noise, of halvings, or of points that cut the bracket into block + 1 parts.

References:
  Chen et al. 2020, arXiv:1904.02144.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry, starts
from gencls.attacks.broadcast import choose, expand, pick
from gencls.attacks.geometry import Geometry
from gencls.attacks.norms import plain_l2
from gencls.attacks.objective import candidates, forward_info
from gencls.attacks.starts import Hunt, HuntPlan, first_success
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective

SEARCH, ESTIMATE, MOVE = range(3)  # stages of an iteration, after the hunt for a start
HALVINGS = 24  # of ξ before an iteration is given up, and of the bracket: what float32 resolves
FIRST_DELTA = 0.1  # δ of the first iteration


def _toward_l2(far: Array, x: Array, share: Array) -> Array:
  """x + share · (far − x)."""
  return x + share[..., None, None, None] * (far - x)


def _toward_linf(far: Array, x: Array, share: Array) -> Array:
  """`far` clipped to the ℓ∞ ball around x of radius share · ‖far − x‖."""
  radius = share[..., None, None, None] * jnp.max(jnp.abs(far - x), axis=(2, 3, 4), keepdims=True)
  return jnp.clip(far, x - radius, x + radius)


class Space(NamedTuple):
  """What the norm decides."""

  toward: Partial  # (far [B, 1, …], x [B, 1, …], share [B, M]) -> on the way from x to far
  noise: Partial  # (key, shape=…) -> the noise that is scaled to length 1
  exponent: float  # of θ in the number of pixels


SPACES = {
  "l2": Space(Partial(_toward_l2), Partial(jax.random.normal), -1.5),
  "linf": Space(Partial(_toward_linf), Partial(jax.random.uniform, minval=-1.0, maxval=1.0), -2.0),
}


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] a success, once there is one
  best: Array  # [B, H, W, D] the nearest success so far; x where there is none
  best_distance: Array  # [B]
  goal: Goal
  hunt: Hunt  # for the first success
  stage: Array  # [B] int32
  spent: Array  # [B] int32, images of the stage evaluated so far
  low: Array  # [B], SEARCH: share of the way to x_adv at which the attack fails
  push: Array  # [B, H, W, D], ESTIMATE: Σ φ u; MOVE: the direction v
  drift: Array  # [B, H, W, D], ESTIMATE: Σ u
  votes: Array  # [B], ESTIMATE: Σ φ
  iteration: Array  # [B] int32, t − 1
  query: Array  # [B] int32, images evaluated


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  initial_num_evals: Array
  max_num_evals: Array
  exponent: Array  # of θ in the number of pixels
  gamma: Array
  slots: Array  # 0, …, block − 1
  hunt: HuntPlan


def hop_skip_jump(
  objective: Objective,
  *,
  norm: str = "l2",
  num_steps: int = 64,
  initial_num_evals: int = 100,
  max_num_evals: int = 10000,
  gamma: float = 1.0,
  block: int = 4,
  directions: int = 1000,
  blend_steps: int = 50,
) -> Attack:
  """HopSkipJump: minimum norm, from decisions alone.

  Args:
    objective: only its success is used, see `objective.build`.
    norm: "l2" or "linf".
    num_steps: iterations, >= 1.
    initial_num_evals: N_0, decisions of the first estimate, >= 1; rounded up to whole blocks.
    max_num_evals: N_max, >= 1.
    gamma: factor of δ and of the bracket, > 0; more for models that are not smooth.
    block: images per example and step, >= 1. More is faster where the batch is small, and wastes
      more queries (about a block each, twice per iteration).
    directions: noise images tried for a start, >= 0. A `Goal.start` is tried before them; targeted
      attacks need one (see `starts.class_starts`).
    blend_steps: interpolations between x and the start tried, >= 1.

  Returns:
    An `Attack` of minimum norm. Examples without a start are done at once, with x as the result.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  if norm not in SPACES:
    raise ValueError(unknown_name("norm", norm, SPACES))
  least = min(num_steps, initial_num_evals, max_num_evals, block)
  if least < 1:
    raise ValueError(
      f"num_steps, initial_num_evals, max_num_evals and block must be >= 1, got {num_steps}, "
      f"{initial_num_evals}, {max_num_evals} and {block}"
    )
  if not (math.isfinite(gamma) and gamma > 0):
    raise ValueError(f"gamma must be finite and > 0, got {gamma}")
  space = SPACES[norm]
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    initial_num_evals=jnp.float32(initial_num_evals),
    max_num_evals=jnp.float32(max_num_evals),
    exponent=jnp.float32(space.exponent),
    gamma=jnp.float32(gamma),
    slots=jnp.arange(block),
    hunt=starts.plan(directions, blend_steps),
  )
  parts = {"objective": objective, "space": space, "ball": geometry.build(norm, 0.0), "plan": plan}
  return Attack(
    init=Partial(_init),
    step=Partial(_step, **parts),
    result=Partial(_result),
    num_steps=_most_steps(num_steps, initial_num_evals, max_num_evals, block)
    + starts.most_steps(directions, blend_steps, block),
  )


def _most_steps(num_steps: int, first: int, most: int, block: int) -> int:
  """The steps that no run of the three stages exceeds."""
  estimates = (min(first * math.sqrt(t + 1), most) for t in range(num_steps))
  search = math.ceil(HALVINGS / math.log2(block + 1)) + 1
  per_iteration = search + math.ceil(HALVINGS / block)
  return sum(math.ceil(n / block) for n in estimates) + num_steps * per_iteration + search


def _init(keys: Keys, x: Array, goal: Goal) -> State:
  del keys
  none, zero = jnp.zeros(len(x), jnp.int32), jnp.zeros(len(x), x.dtype)
  return State(
    x=x,
    x_adv=x,
    best=x,
    best_distance=zero + jnp.inf,
    goal=goal,
    hunt=starts.hunt(x),
    stage=none + SEARCH,
    spent=none,
    low=zero,
    push=jnp.zeros_like(x),
    drift=jnp.zeros_like(x),
    votes=zero,
    iteration=none,
    query=none,
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, space: Space, ball: Geometry, plan: Plan
) -> tuple[State, Info]:
  """Evaluates one block of images, of the hunt or of the stage that the example is at."""
  hunting, distance = starts.hunting(state.hunt), ball.norm(state.x_adv - state.x)
  tried = starts.propose(keys, state.hunt, state.x_adv, state.x, state.goal, plan.hunt, plan.slots)
  images, share = _images(keys, state, distance, space, plan)
  images = choose(hunting, tried, images)
  loss, success = candidates(objective, keys, state.query, images, state.goal)

  hunt, found = starts.advance(state.hunt, images, success, state.x_adv, state.goal, plan.hunt)
  state = state._replace(query=state.query + len(plan.slots))
  after = (
    _after_search(state, images, success, share, plan),
    _after_estimate(state, images, success, distance, ball, plan),
    _after_move(state, images, success, plan),
  )
  new = after[0]
  for stage in (ESTIMATE, MOVE):
    new = choose(state.stage == stage, after[stage], new)
  new = choose(hunting, state._replace(hunt=hunt, x_adv=found), new)
  return _keep_best(new, loss, success, ball, plan)


def _images(
  keys: Keys, state: State, distance: Array, space: Space, plan: Plan
) -> tuple[Array, Array]:
  """(the block of each example's stage [B, M, …], the shares at which SEARCH cuts [B, M])."""
  num = len(plan.slots)
  parts = (plan.slots + 1)[None, :] / (num + 1)
  share = state.low[:, None] + (1.0 - state.low)[:, None] * parts
  x, x_adv = state.x[:, None], state.x_adv[:, None]

  def noise(key: Key) -> Array:
    return space.noise(key, shape=state.x.shape[1:])

  def estimate() -> Array:
    index = state.query[:, None] + plan.slots[None, :]
    each = fold(jnp.repeat(keys, num), "estimate", index.ravel())
    drawn = jax.vmap(noise)(each)
    units = jnp.reshape(drawn / expand(plain_l2(drawn), drawn), (len(keys), num, *x.shape[2:]))
    return jnp.clip(x_adv + expand(_delta(state, distance, plan), units) * units, 0.0, 1.0)

  cuts = jnp.clip(space.toward(x_adv, x, share), 0.0, 1.0)
  sizes = (distance / jnp.sqrt(1.0 + state.iteration))[:, None] * 0.5 ** (
    state.spent[:, None] + plan.slots[None, :]
  ).astype(x.dtype)
  moves = jnp.clip(x_adv + sizes[..., None, None, None] * state.push[:, None], 0.0, 1.0)
  estimating = state.stage == ESTIMATE
  nearby = jax.lax.cond(jnp.any(estimating), estimate, lambda: jnp.zeros_like(moves))
  return choose(estimating, nearby, choose(state.stage == SEARCH, cuts, moves)), share


def _delta(state: State, distance: Array, plan: Plan) -> Array:
  """The radius of the noise, δ."""
  size = math.prod(state.x.shape[1:])
  # d · θ · ‖x_t − x‖ in ℓ∞, √d · θ · ‖x_t − x‖ in ℓ2: both are 1 / d of the distance.
  return jnp.where(state.iteration == 0, FIRST_DELTA, plan.gamma * distance / size)


def _after_search(state: State, images: Array, success: Array, share: Array, plan: Plan) -> State:
  """Takes the nearest success as the new far end; ESTIMATE once the bracket is narrow."""
  size, num = math.prod(state.x.shape[1:]), len(plan.slots)
  hit, first = first_success(success)
  failing = jnp.concatenate([state.low[:, None], share], axis=1)
  below = jnp.take_along_axis(failing, first[:, None], axis=1)[:, 0]
  reached = jnp.take_along_axis(share, first[:, None], axis=1)[:, 0]
  count = state.spent + num
  theta = jnp.maximum(plan.gamma * size**plan.exponent, 2.0**-HALVINGS)
  narrow = (num + 1.0) ** -(count / num) <= theta
  return _begin_estimate(
    state._replace(
      x_adv=choose(hit, pick(images, first), state.x_adv),
      low=jnp.where(hit, below / reached, share[:, -1]),
      spent=count,
    ),
    narrow,
  )


def _begin_estimate(state: State, when: Array) -> State:
  return state._replace(
    stage=jnp.where(when, ESTIMATE, state.stage),
    spent=jnp.where(when, 0, state.spent),
    push=choose(when, jnp.zeros_like(state.push), state.push),
    drift=choose(when, jnp.zeros_like(state.drift), state.drift),
    votes=jnp.where(when, 0.0, state.votes),
  )


def _after_estimate(
  state: State, images: Array, success: Array, distance: Array, ball: Geometry, plan: Plan
) -> State:
  """Adds the decisions; MOVE along the estimated direction once there are enough."""
  delta = jnp.maximum(_delta(state, distance, plan), jnp.finfo(images.dtype).tiny)
  phi = jnp.where(success, 1.0, -1.0)
  units = (images - state.x_adv[:, None]) / expand(delta, images)  # as the box has left them
  push = state.push + jnp.sum(phi[..., None, None, None] * units, axis=1)
  drift = state.drift + jnp.sum(units, axis=1)
  votes, count = state.votes + jnp.sum(phi, axis=1), state.spent + len(plan.slots)

  wanted = jnp.sqrt(1.0 + state.iteration) * plan.initial_num_evals
  enough = count >= jnp.minimum(wanted, plan.max_num_evals)
  mean = votes / count
  # Decisions that all agree would leave nothing of themselves less their mean.
  baseline = jnp.where(jnp.abs(mean) == 1, 0.0, mean)
  direction = ball.steepest(push - expand(baseline, drift) * drift)
  return state._replace(
    stage=jnp.where(enough, MOVE, state.stage),
    spent=jnp.where(enough, 0, count),
    push=choose(enough, direction, push),
    drift=drift,
    votes=votes,
  )


def _after_move(state: State, images: Array, success: Array, plan: Plan) -> State:
  """SEARCH from the longest move that succeeds; without one the next iteration's estimate."""
  hit, first = first_success(success)
  count = state.spent + len(plan.slots)
  hopeless = ~hit & (count >= HALVINGS)
  new = _begin_estimate(state._replace(spent=count), hopeless)
  return new._replace(
    x_adv=choose(hit, pick(images, first), state.x_adv),
    stage=jnp.where(hit, SEARCH, new.stage),
    spent=jnp.where(hit, 0, new.spent),
    low=jnp.where(hit, 0.0, state.low),
    iteration=state.iteration + (hit | hopeless),
  )


def _keep_best(
  state: State, loss: Array, success: Array, ball: Geometry, plan: Plan
) -> tuple[State, Info]:
  distance = ball.norm(state.x_adv - state.x)
  better = (state.hunt.stage >= starts.BLEND) & (distance < state.best_distance)
  state = state._replace(
    best=choose(better, state.x_adv, state.best),
    best_distance=jnp.where(better, distance, state.best_distance),
  )
  finished = (state.iteration >= plan.num_steps) & (state.stage == ESTIMATE)
  at_x = (state.hunt.stage == starts.FOUND) & (distance == 0)
  done = finished | at_x | (state.hunt.stage == starts.FAILED)
  return state, forward_info(loss, success, done)


def _result(state: State) -> Array:
  return state.best
