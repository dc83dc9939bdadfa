"""The attack of Carlini and Wagner: the nearest success in ℓ2, by Adam in tanh space.

For a constant c it minimises over w, from x(0) = x,

  ||x(w) − x||² + c · f(x(w)),   f = max(confidence − loss, 0),   x(w) = x + (tanh w − tanh w₀)/2,

where the loss is positive where the attack succeeds. The constant grows tenfold until a search
succeeds, then is bisected; every search starts at w₀ again. The state holds each example's own
search: one whose objective has stopped falling goes on to its next constant at once.

References:
  Carlini and Wagner 2017, arXiv:1608.04644. Foolbox 3.3.4, L2CarliniWagnerAttack.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gencls.attacks.broadcast import choose, expand, pixels
from gencls.attacks.nearest import Nearest, keep, none_yet
from gencls.attacks.objective import info, query, signed
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

ADAM = optax.scale_by_adam()
INSIDE = 0.999999  # keeps w finite at pixels 0 and 1
CHECKS = 10  # of progress, in one search
PROGRESS = 0.9999  # share of the lowest objective at the last check that counts as progress
PATIENCE = 2  # checks without progress that end a search
MAX_CONST = 1e10
FAILED = ("clean", "black")
REPEAT_FROM = 10  # with that many searches the last one repeats the best constant


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  w: Array  # [B, H, W, D] the iterate to evaluate next, in tanh space
  adam: Any  # Adam's state, every leaf [B, ...]
  nearest: Nearest
  goal: Goal  # with its start: every search begins there
  const: Array  # [B] c of this search
  lower: Array  # [B] the largest c that is known to fail, 0 where there is none
  upper: Array  # [B] the smallest c that is known to succeed, +inf where there is none
  found: Array  # [B] bool, this search has succeeded
  lowest: Array  # [B] the lowest objective of this search
  checked: Array  # [B] what it was at the last check of progress
  stale: Array  # [B] int32, checks in a row that saw no progress
  search: Array  # [B] int32, searches finished
  move: Array  # [B] int32, iterates of this search evaluated
  step: Array  # [B] int32, iterates evaluated over all searches


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  binary_search_steps: Array
  num_steps: Array
  step_size: Array
  confidence: Array
  initial_const: Array
  abort_early: Array
  check_every: Array


def carlini_wagner(
  objective: Objective,
  *,
  binary_search_steps: int = 9,
  num_steps: int = 10000,
  step_size: float = 0.01,
  confidence: float = 0.0,
  initial_const: float = 1e-3,
  abort_early: bool = True,
  failed: str = "clean",
) -> Attack:
  """The ℓ2 attack of Carlini and Wagner; minimum norm.

  The protocol of Deep Bayes (Li et al. 2019, arXiv:1802.06552) is one attack per constant c with
  initial_const=c, binary_search_steps=1, num_steps=1000 and abort_early=False.

  Args:
    objective: what to maximise, see `objective.build`; its loss must be positive on success and
      negative elsewhere, as "margin" is and "dlr" is made (see `objective.signed`).
    binary_search_steps: constants to try, >= 1. From 10 on, the last one is the best once more.
    num_steps: iterates per constant, >= 1.
    step_size: Adam's learning rate.
    confidence: a success counts where its loss is at least this, in the units of the loss; 0 counts
      every success.
    initial_const: the first constant, > 0.
    abort_early: whether a search ends where its lowest objective has not fallen by a ten-thousandth
      over two of the checks that it makes every num_steps / 10 iterates.
    failed: what an example without a success gives: "clean", x itself; "black", all zeros, which is
      what Foolbox gives: published numbers that clip results to a ball and predict them again have
      counted those images as attacks.

  Returns:
    An `Attack` of at most binary_search_steps · num_steps steps, and one more for x itself where a
    `Goal.start` is where the searches begin.

  Raises:
    ValueError: if the loss has no sign or a number is out of its range.
  """
  objective = signed(objective, "carlini_wagner")
  if binary_search_steps < 1 or num_steps < 1:
    raise ValueError(
      f"binary_search_steps and num_steps must be >= 1, got {binary_search_steps} and {num_steps} "
      "(binary_search_steps=1 tries initial_const alone)"
    )
  for name, value in (("step_size", step_size), ("initial_const", initial_const)):
    if not (math.isfinite(value) and value > 0):
      raise ValueError(f"{name} must be a finite number > 0, got {value}")
  if not (math.isfinite(confidence) and confidence >= 0):
    raise ValueError(
      f"confidence must be a finite number >= 0 (0 counts every success), got {confidence}"
    )
  if failed not in FAILED:
    raise ValueError(unknown_name("failed", failed, FAILED))
  plan = Plan(
    binary_search_steps=jnp.int32(binary_search_steps),
    num_steps=jnp.int32(num_steps),
    step_size=jnp.float32(step_size),
    confidence=jnp.float32(confidence),
    initial_const=jnp.float32(initial_const),
    abort_early=jnp.bool_(abort_early),
    check_every=jnp.int32(math.ceil(num_steps / CHECKS)),
  )
  return Attack(
    init=Partial(_init, plan=plan),
    step=Partial(_step, objective=objective, plan=plan),
    result=Partial(_result, black=jnp.bool_(failed == "black")),
    num_steps=binary_search_steps * num_steps + 1,
  )


def _origin(x: Array, goal: Goal) -> Array:
  """Where every search begins."""
  return x if goal.start is None else goal.start


def _squeeze(x: Array) -> Array:
  """tanh w of an image."""
  return INSIDE * (2.0 * x - 1.0)


def _init(keys: Keys, x: Array, goal: Goal, *, plan: Plan) -> State:
  del keys
  batch = x.shape[:1]
  zeros = jnp.zeros(batch, jnp.int32)
  return State(
    x=x,
    w=jnp.arctanh(_squeeze(_origin(x, goal))),
    adam=jax.vmap(ADAM.init)(x),
    nearest=none_yet(x),
    goal=goal,
    const=jnp.broadcast_to(plan.initial_const, batch),
    lower=jnp.zeros(batch),
    upper=jnp.full(batch, jnp.inf, x.dtype),
    found=jnp.zeros(batch, bool),
    lowest=jnp.full(batch, jnp.inf, x.dtype),
    checked=jnp.full(batch, jnp.inf, x.dtype),
    stale=zeros,
    search=zeros,
    move=zeros,
    step=zeros,
  )


def _step(keys: Keys, state: State, *, objective: Objective, plan: Plan) -> tuple[State, Info]:
  """Evaluates the iterate, then moves it, or begins the search with the next constant."""
  tanh = jnp.tanh(state.w)
  image = jnp.clip(state.x + 0.5 * (tanh - _squeeze(state.x)), 0.0, 1.0)
  # Exactly the image it begins at, so that a clean error is found at distance 0.
  image = choose(state.move == 0, _origin(state.x, state.goal), image)
  if state.goal.start is not None:
    image = choose(state.step == 0, state.x, image)
  at = query(objective, keys, state.step, image, state.goal._replace(start=None))
  delta = image - state.x
  squared = jnp.sum(jnp.square(delta), axis=pixels(delta))
  sure = (plan.confidence == 0) | (at.loss >= plan.confidence)
  hit = at.success & jnp.isfinite(at.loss) & sure
  nearest = keep(state.nearest, hit, image, jnp.sqrt(squared))

  # d/dw of ||x(w) − x||² + c f; where the loss is not finite only the pull towards x is left.
  # Not its sign alone: the mean loss of several draws or samples may be positive without success.
  push = jnp.where(hit | ~jnp.isfinite(at.loss), 0.0, state.const)
  slope = (2.0 * delta - expand(push, delta) * at.gradient) * 0.5 * (1.0 - tanh) * (1.0 + tanh)
  direction, adam = jax.vmap(_adam)(slope, state.adam)

  total = squared + push * jnp.maximum(plan.confidence - at.loss, 0.0)
  moved = _check_progress(state, total, plan)._replace(
    w=state.w - plan.step_size * direction,
    adam=adam,
    nearest=nearest,
    found=state.found | hit,
    move=state.move + 1,
    step=state.step + 1,
  )
  stalled = plan.abort_early & (moved.stale >= PATIENCE)
  over = stalled | (moved.move >= plan.num_steps)
  # Rare, and arctanh costs as much as all else here.
  new = jax.lax.cond(
    jnp.any(over), lambda s: choose(over, _next_search(s, plan), s), lambda s: s, moved
  )
  if state.goal.start is not None:
    looked = state._replace(nearest=nearest, step=state.step + 1)
    new = choose(state.step == 0, looked, new)
  done = (new.search >= plan.binary_search_steps) | (nearest.distance == 0)
  return new, info(at, done)


def _adam(slope: Array, state: Any) -> tuple[Any, Any]:
  return ADAM.update(slope, state)


def _check_progress(state: State, total: Array, plan: Plan) -> State:
  """The state with this iterate's objective taken note of, and at times compared."""
  # Differs from Foolbox, which compares the objective itself, summed over the batch, with that at
  # the last check: a single example overshoots for longer and would be given up on its way down.
  lowest = jnp.fmin(state.lowest, total)
  check = state.move % plan.check_every == 0
  fell = lowest < PROGRESS * state.checked
  return state._replace(
    lowest=lowest,
    checked=jnp.where(check, lowest, state.checked),
    stale=jnp.where(check, jnp.where(fell, 0, state.stale + 1), state.stale),
  )


def _next_search(state: State, plan: Plan) -> State:
  """The state with the next constant, at the start of its search."""
  upper = jnp.where(state.found, state.const, state.upper)
  lower = jnp.where(state.found, state.lower, state.const)
  const = jnp.where(jnp.isinf(upper), 10.0 * state.const, 0.5 * (lower + upper))
  search = state.search + 1
  last = (search + 1 == plan.binary_search_steps) & (plan.binary_search_steps >= REPEAT_FROM)
  const = jnp.minimum(jnp.where(last, upper, const), MAX_CONST)
  return state._replace(
    w=jnp.arctanh(_squeeze(_origin(state.x, state.goal))),
    adam=jax.tree.map(jnp.zeros_like, state.adam),
    const=const,
    lower=lower,
    upper=upper,
    found=jnp.zeros_like(state.found),
    lowest=jnp.full_like(state.lowest, jnp.inf),
    checked=jnp.full_like(state.checked, jnp.inf),
    stale=jnp.zeros_like(state.stale),
    search=search,
    move=jnp.zeros_like(state.move),
  )


def _result(state: State, *, black: Array) -> Array:
  nearest = state.nearest
  return choose(black & jnp.isinf(nearest.distance), jnp.zeros_like(nearest.x_adv), nearest.x_adv)
