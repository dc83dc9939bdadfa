"""Auto-PGD: momentum, and a step size that falls by itself from 2 · eps.

A run evaluates num_steps + 1 iterates. With P the projection onto ball and box,

  z       = P(x_t + size · steepest(∇ loss(x_t))),
  x_{t+1} = P(x_t + 0.75 (z − x_t) + 0.25 (x_t − x_{t−1}))      (x_1 = z).

At checkpoints an example halves its size, and goes back to its best iterate and that gradient, if
(1) the loss rose in at most a share `rho` of the steps since the last checkpoint, or (2) the size
was not halved there and the best loss has not risen since. The first window is 22% of the steps,
each one is 3% shorter than the one before, down to 6%. Runs follow from random starts, and, with
`num_targets`, towards one class after the other. Every example has its own counters.

References:
  Croce and Hein 2020, arXiv:2003.01690.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks import rivals
from gencls.attacks.broadcast import choose, expand
from gencls.attacks.geometry import Geometry
from gencls.attacks.objective import Query, info, query, stops_early
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

NORMS = ("linf", "l2")
MOST_RUNS = 2**16  # of one attack: those of another start_seed begin elsewhere


class Schedule(NamedTuple):
  """The step size of each example, and what its next checkpoint will look at."""

  size: Array  # [B] float32
  window: Array  # [B] int32, steps from the last checkpoint to the next
  since: Array  # [B] int32, steps since the last checkpoint
  rises: Array  # [B] int32, those in which the loss rose
  loss: Array  # [B] float32, of the iterate before
  halved: Array  # [B] bool, at the last checkpoint
  checked: Array  # [B] float32, the best loss at the last checkpoint


class State(NamedTuple):
  """Where each example stands; best, schedule and before belong to its present run."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the iterate to evaluate next
  before: Array  # [B, H, W, D] the iterate that it was made from
  best: Array  # [B, H, W, D] the iterate of the largest loss
  best_loss: Array  # [B]
  best_gradient: Array  # [B, H, W, D]
  adversarial: Array  # [B, H, W, D] the last iterate that succeeded
  found: Array  # [B] bool, some iterate has succeeded
  schedule: Schedule
  goal: Goal
  targets: Array  # [B, C - 1] int32, classes by clean logit, the likeliest first; else [B, 0]
  step: Array  # [B] int32, iterates evaluated over all runs


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  num_restarts: Array
  num_targets: Array
  first_window: Array
  shorter: Array
  least_window: Array
  rho: Array
  early_stop: Array
  first_start: Array  # number of the first run's start


def apgd(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_steps: int = 100,
  num_restarts: int = 1,
  num_targets: int = 0,
  rho: float = 0.75,
  early_stop: bool | None = None,
  start_seed: int = 0,
) -> Attack:
  """Auto-PGD (APGD), and with `num_targets` its multi-targeted form (APGD-T).

  Args:
    objective: what to maximise, see `objective.build`; the authors take cross_entropy and dlr.
    norm: "linf" or "l2". The authors' ℓ1 form has another schedule and is not built: for ℓ1 there
      is `pgd`.
    eps: radius of the ball.
    num_steps: moves per run, >= 1.
    num_restarts: runs from different starts (random, at distance eps), per target. A `Goal.start`
      takes the place of the first run's start.
    num_targets: 0 pursues the goal alone. n > 0 pursues the n classes that the clean logits rank
      highest besides the label, one after the other and at most all; any misclassification counts.
      A targeted goal keeps its target in every run.
    rho: share of rising steps up to which a checkpoint halves the step size, in [0, 1].
    early_stop: whether an example is done at its first success. If not, the run of the first
      success is finished and its last success returned, as the authors do. None: under fixed
      randomness only, see `objective.stops_early`.
    start_seed: another number draws other starts, 0 <= start_seed < 2**15.

  Returns:
    An `Attack` of num_restarts · max(num_targets, 1) · (num_steps + 1) steps. Without a success its
    result is the last run's iterate of the largest loss.

  Raises:
    ValueError: if the norm is not one of the two or a number is out of its range; while tracing, if
      `num_targets` does not fit the number of classes or the loss.
  """
  if norm not in NORMS:
    hint = "; for l1 there is pgd" if norm == "l1" else ""
    raise ValueError(unknown_name("norm of apgd", norm, NORMS) + hint)
  if num_steps < 1 or num_restarts < 1 or num_targets < 0:
    raise ValueError(
      "num_steps and num_restarts must be >= 1 and num_targets >= 0, got "
      f"{num_steps}, {num_restarts} and {num_targets}"
    )
  if not 0 <= start_seed < 2**15:
    raise ValueError(f"start_seed must be in 0 .. {2**15 - 1}, got {start_seed}")
  if not 0 <= rho <= 1:
    raise ValueError(f"rho must be a share in [0, 1], got {rho}")
  ball = geometries.build(norm, eps)
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    num_restarts=jnp.int32(num_restarts),
    num_targets=jnp.int32(num_targets),
    first_window=jnp.int32(max(int(0.22 * num_steps), 1)),
    shorter=jnp.int32(max(int(0.03 * num_steps), 1)),
    least_window=jnp.int32(max(int(0.06 * num_steps), 1)),
    rho=jnp.float32(rho),
    early_stop=jnp.bool_(stops_early(objective, early_stop)),
    first_start=jnp.int32(start_seed * MOST_RUNS),
  )
  ranked_by = objective if num_targets else None
  return Attack(
    init=Partial(_init, ranked_by=ranked_by, ball=ball, plan=plan),
    step=Partial(_step, objective=objective, ball=ball, plan=plan),
    result=Partial(_result),
    num_steps=num_restarts * max(num_targets, 1) * (num_steps + 1),
  )


def _init(
  keys: Keys, x: Array, goal: Goal, *, ranked_by: Objective | None, ball: Geometry, plan: Plan
) -> State:
  batch = x.shape[:1]
  if goal.start is None:
    start = ball.sphere(fold(keys, "start", plan.first_start), x)
  else:
    start = ball.project(goal.start, x)
  zero, low = jnp.zeros(batch, jnp.int32), jnp.full(batch, -jnp.inf, x.dtype)
  return State(
    x=x,
    x_adv=start,
    before=start,
    best=start,
    best_loss=low,
    best_gradient=jnp.zeros_like(x),
    adversarial=x,
    found=jnp.zeros(batch, bool),
    schedule=_first_schedule(low, ball, plan),
    goal=goal._replace(start=None),
    targets=jnp.zeros((*batch, 0), jnp.int32)
    if ranked_by is None
    else rivals.ranked(ranked_by, keys, x, goal),
    step=zero,
  )


def _first_schedule(loss: Array, ball: Geometry, plan: Plan) -> Schedule:
  def fill(value: Array) -> Array:
    return jnp.broadcast_to(value, loss.shape)

  return Schedule(
    size=fill(2.0 * ball.eps),
    window=fill(plan.first_window),
    since=jnp.zeros(loss.shape, jnp.int32),
    rises=jnp.zeros(loss.shape, jnp.int32),
    loss=loss,
    halved=jnp.ones(loss.shape, bool),  # so that the first checkpoint does not ask condition (2)
    checked=loss,
  )


def _check(schedule: Schedule, loss: Array, best_loss: Array, plan: Plan) -> tuple[Schedule, Array]:
  """Counts the step; at a checkpoint decides whether to halve. Returns whether it did, [B]."""
  # The authors' code compares the first loss of a run with 0, and elsewhere with the iterate that
  # was evaluated before, even where the example has gone back to its best since. Differs from it:
  # the first loss is compared with that of the start, as in the paper.
  since, rises = schedule.since + 1, schedule.rises + (loss > schedule.loss)
  check = since == schedule.window
  # The paper has <, the authors' code <=.
  oscillates = rises.astype(jnp.float32) <= plan.rho * schedule.window
  stalls = ~schedule.halved & (schedule.checked >= best_loss)
  halve = check & (oscillates | stalls)
  shorter = jnp.maximum(schedule.window - plan.shorter, plan.least_window)
  return Schedule(
    size=jnp.where(halve, 0.5 * schedule.size, schedule.size),
    window=jnp.where(check, shorter, schedule.window),
    since=jnp.where(check, 0, since),
    rises=jnp.where(check, 0, rises),
    loss=loss,
    halved=jnp.where(check, halve, schedule.halved),
    checked=jnp.where(check, best_loss, schedule.checked),
  ), halve


def _step(
  keys: Keys, state: State, *, objective: Objective, ball: Geometry, plan: Plan
) -> tuple[State, Info]:
  """Evaluates the iterate, adapts the step size, then moves or starts the next run."""
  run, move = state.step // (plan.num_steps + 1), state.step % (plan.num_steps + 1)
  first, last = move == 0, move == plan.num_steps
  at = query(objective, keys, state.step, state.x_adv, state.goal, _pursued(state, run, plan))
  loss = jnp.where(at.nonfinite, -jnp.inf, at.loss)
  better = first | (loss > state.best_loss)
  best = choose(better, state.x_adv, state.best)
  best_gradient = choose(better, at.gradient, state.best_gradient)
  best_loss = jnp.where(better, loss, state.best_loss)

  checked, halve = _check(state.schedule, loss, best_loss, plan)
  schedule = choose(first, _first_schedule(loss, ball, plan), checked)
  back = halve & ~first
  here = choose(back, best, state.x_adv)
  gradient = choose(back, best_gradient, at.gradient)
  ascent = ball.project(here + expand(schedule.size, here) * ball.steepest(gradient, here), state.x)
  inertia = ball.project(here + 0.75 * (ascent - here) + 0.25 * (here - state.before), state.x)

  runs = plan.num_restarts * _num_targets(state, plan)
  again = last & (run + 1 < runs)
  # A random start costs about as much as all else here: only where some example needs one.
  fresh = lambda: ball.sphere(fold(keys, "start", plan.first_start + run + 1), state.x)  # noqa: E731
  start = jax.lax.cond(jnp.any(again), fresh, lambda: state.x)
  x_adv = choose(again, start, choose(last, here, choose(first, ascent, inertia)))
  found = state.found | at.success
  new = State(
    x=state.x,
    x_adv=x_adv,
    before=choose(again, start, here),
    best=best,
    best_loss=best_loss,
    best_gradient=best_gradient,
    adversarial=choose(at.success, state.x_adv, state.adversarial),
    found=found,
    schedule=schedule,
    goal=state.goal,
    targets=state.targets,
    step=state.step + 1,
  )
  done = (last & (~again | found)) | (found & plan.early_stop)
  return new, _info(at, done, ranked=(state.step == 0) & (state.targets.shape[1] > 0))


def _num_targets(state: State, plan: Plan) -> Array:
  return jnp.clip(plan.num_targets, 1, max(state.targets.shape[1], 1))


def _pursued(state: State, run: Array, plan: Plan) -> Array | None:
  """[B] the class that the loss pursues in this run; None where that is the goal's own."""
  if not state.targets.shape[1]:
    return None
  rank = jnp.minimum(run // plan.num_restarts, state.targets.shape[1] - 1)
  ranked = jnp.take_along_axis(state.targets, rank[:, None], axis=1)[:, 0]
  return jnp.where(state.goal.target >= 0, state.goal.target, ranked)


def _info(at: Query, done: Array, ranked: Array) -> Info:
  """With the pass of the clean logits that ranked the targets."""
  report = info(at, done)
  return report._replace(forward=report.forward + ranked.astype(jnp.int32))


def _result(state: State) -> Array:
  return choose(state.found, state.adversarial, state.best)
