"""Projected gradient descent in a ball, with restarts inside the state machine.

One restart evaluates num_steps + 1 iterates and moves between them,

  x_{t+1} = project(x_t + step_size · schedule(t / num_steps) · steepest(rule(∇ loss(x_t)))),

then the example starts again from another random point. Every example has its own counter, so that
examples of one batch may be at different steps. An iterate that succeeds is kept (the one of the
largest loss), so on a deterministic function the attack is at least as strong as without tracking;
without a success the result is the final iterate, or where the steps are cut short, the evaluated
iterate of the largest loss. Where single draws are random, the kept iterate is the luckiest one:
average over more draws, or take the last iterate (keep_best=False).

References:
  Madry et al. 2018, arXiv:1706.06083. Momentum: Dong et al. 2018, arXiv:1710.06081.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, expand
from gencls.attacks.geometry import Geometry
from gencls.attacks.objective import info, query, stops_early
from gencls.attacks.schedules import SCHEDULES
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

# Transforms of the ascent direction, per example, before the steepest step of the ball.
RULES: dict[str, optax.GradientTransformation] = {
  "sgd": optax.identity(),
  "momentum": optax.trace(decay=0.9),
  "adam": optax.scale_by_adam(),
}


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the iterate to evaluate next
  best: Array  # [B, H, W, D] the success of the largest loss, before it any iterate's; else x
  best_loss: Array  # [B] its loss, −inf where there is none
  found: Array  # [B] bool, some iterate has succeeded
  goal: Goal
  rule: Any  # the rule's state, every leaf [B, ...]
  step: Array  # [B] int32, iterates evaluated over all restarts


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  step_size: Array
  num_steps: Array
  num_restarts: Array
  random_start: Array
  early_stop: Array
  keep_best: Array


def pgd(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_steps: int = 40,
  step_size: float | None = None,
  rel_step_size: float | None = None,
  random_start: bool = True,
  num_restarts: int = 1,
  early_stop: bool | None = None,
  keep_best: bool = True,
  rule: str | optax.GradientTransformation = "sgd",
  schedule: str = "constant",
) -> Attack:
  """Projected gradient descent.

  Args:
    objective: what to maximise, see `objective.build`.
    norm: a name in `geometry.GEOMETRIES`.
    eps: radius of the ball.
    num_steps: moves per restart, >= 1.
    step_size: length of a move in the units of eps; default 2.5 · eps / num_steps.
    rel_step_size: the same as a multiple of eps; at most one of the two.
    random_start: whether restarts begin at a random point of the ball instead of x. A `Goal.start`
      takes the place of the first restart's start.
    num_restarts: runs from different starts, 1 is a single run.
    early_stop: whether an example is done at its first success. If not, the success of the largest
      loss is kept. None: under fixed randomness only, see `objective.stops_early`.
    keep_best: whether the result is the kept success, where there is one (and the best iterate
      where the steps are cut short), or always the last iterate of the last restart; the latter
      needs early_stop=False.
    rule: a name in `RULES`, or an optax transform that takes and gives an ascent direction (one
      without learning rate: `optax.sgd` would turn the sign). One made anew compiles anew.
    schedule: a name in `schedules.SCHEDULES`.

  Returns:
    An `Attack` of num_restarts · (num_steps + 1) steps.

  Raises:
    ValueError: if a name is unknown or a number is out of its range.
  """
  ball = geometries.build(norm, eps)
  if num_steps < 1 or num_restarts < 1:
    raise ValueError(
      f"num_steps and num_restarts must be >= 1, got {num_steps} and {num_restarts} "
      "(num_restarts=1 is a single run)"
    )
  if num_restarts > 1 and not random_start:
    raise ValueError(
      f"num_restarts={num_restarts} without a random start repeats one run; "
      "set random_start=True or num_restarts=1"
    )
  early_stop = stops_early(objective, early_stop)
  if early_stop and not keep_best:
    raise ValueError("keep_best=False wants the last iterate, early_stop=True ends before it; "
                     "set early_stop=False")  # fmt: skip
  plan = Plan(
    step_size=jnp.float32(_absolute_step(eps, num_steps, step_size, rel_step_size)),
    num_steps=jnp.int32(num_steps),
    num_restarts=jnp.int32(num_restarts),
    random_start=jnp.bool_(random_start),
    early_stop=jnp.bool_(early_stop),
    keep_best=jnp.bool_(keep_best),
  )
  if schedule not in SCHEDULES:
    raise ValueError(unknown_name("schedule", schedule, SCHEDULES))
  transform = _transform(rule)
  return Attack(
    init=Partial(_init, ball=ball, plan=plan, rule=transform),
    step=Partial(
      _step,
      objective=objective,
      ball=ball,
      plan=plan,
      rule=transform,
      schedule=Partial(SCHEDULES[schedule]),
    ),
    result=Partial(_result, plan=plan),
    num_steps=num_restarts * (num_steps + 1),
  )


def _absolute_step(
  eps: float, num_steps: int, step_size: float | None, rel_step_size: float | None
) -> float:
  if step_size is not None and rel_step_size is not None:
    raise ValueError(
      f"give step_size or rel_step_size, not both (got {step_size} and {rel_step_size})"
    )
  if step_size is None:
    step_size = eps * (2.5 / num_steps if rel_step_size is None else rel_step_size)
  if not (math.isfinite(step_size) and step_size >= 0):
    raise ValueError(f"the step size must be a finite number >= 0, got {step_size}")
  return step_size


def _transform(rule: str | optax.GradientTransformation) -> optax.GradientTransformation:
  """The rule with its functions as pytrees without leaves."""
  if isinstance(rule, str):
    if rule not in RULES:
      raise ValueError(unknown_name("rule", rule, RULES))
    rule = RULES[rule]
  if not isinstance(rule, optax.GradientTransformation):
    raise ValueError(f"rule must be one of {', '.join(RULES)} or an optax transform, got {rule!r}")
  return optax.GradientTransformation(_partial(rule.init), _partial(rule.update))


def _partial(function: Callable[..., Any]) -> Partial:
  # A rule may come with numbers of its own as leaves.
  return function if isinstance(function, Partial) else Partial(function)


def _init(
  keys: Keys,
  x: Array,
  goal: Goal,
  *,
  ball: Geometry,
  plan: Plan,
  rule: optax.GradientTransformation,
) -> State:
  if goal.start is None:
    random = ball.random(fold(keys, "start", 0), x)
    x_adv = jnp.where(plan.random_start, random, x)
  else:
    x_adv = ball.project(goal.start, x)
  batch = x.shape[:1]
  return State(
    x=x,
    x_adv=x_adv,
    best=x,
    best_loss=jnp.full(batch, -jnp.inf, x.dtype),
    found=jnp.zeros(batch, bool),
    goal=goal._replace(start=None),
    rule=jax.vmap(rule.init)(x),
    step=jnp.zeros(batch, jnp.int32),
  )


def _step(
  keys: Keys,
  state: State,
  *,
  objective: Objective,
  ball: Geometry,
  plan: Plan,
  rule: optax.GradientTransformation,
  schedule: Partial,
) -> tuple[State, Info]:
  """Evaluates the iterate, keeps it if it is the best, then moves or restarts."""
  at = query(objective, keys, state.step, state.x_adv, state.goal)
  loss = jnp.where(jnp.isfinite(at.loss), at.loss, -jnp.inf)
  larger = (at.success == state.found) & (loss > state.best_loss)
  better = larger | (at.success & ~state.found)
  restart, move = state.step // (plan.num_steps + 1), state.step % (plan.num_steps + 1)

  updates, rule_state = jax.vmap(lambda g, s: rule.update(g, s))(at.gradient, state.rule)
  progress = move.astype(jnp.float32) / plan.num_steps
  size = jnp.where(at.usable, plan.step_size * schedule(progress), 0.0)
  moved = ball.project(
    state.x_adv + expand(size, state.x) * ball.steepest(updates, state.x_adv), state.x
  )

  last = move == plan.num_steps  # of its restart
  again = last & (restart + 1 < plan.num_restarts)

  def start_again() -> Array:
    return ball.random(fold(keys, "start", restart + 1), state.x)

  # A random start costs about as much as all else here: only where some example needs one.
  fresh = jax.lax.cond(jnp.any(again), start_again, lambda: state.x)
  x_adv = choose(again, fresh, choose(last, state.x_adv, moved))
  rule_state = choose(at.usable, rule_state, state.rule)
  step = state.step + 1
  found = state.found | at.success
  new = state._replace(
    x_adv=x_adv,
    best=choose(better, state.x_adv, state.best),
    best_loss=jnp.where(better, loss, state.best_loss),
    found=found,
    rule=choose(again, jax.vmap(rule.init)(state.x), rule_state),
    step=step,
  )
  return new, info(at, _finished(step, plan) | (found & plan.early_stop))


def _finished(step: Array, plan: Plan) -> Array:
  return step >= plan.num_restarts * (plan.num_steps + 1)


def _result(state: State, *, plan: Plan) -> Array:
  # Cut short, `x_adv` was never evaluated.
  kept = state.found | ~_finished(state.step, plan)
  return choose(kept & plan.keep_best, state.best, state.x_adv)
