"""The fast adaptive boundary attack: the nearest adversarial image, near the decision boundary.

At the iterate x_t the nearest boundary is linearised. x_t and the clean image x are both projected
onto it within the box, and the next iterate lies between the two overshot projections,

  x_{t+1} = clip((1 − α)(x_t + η δ_t) + α (x + η δ)),   α = min(||δ_t|| / (||δ_t|| + ||δ||), α_max).

After a success x_t is first drawn back, to x + β (x_t − x), and the nearest success is kept.
Untargeted FAB looks at the boundaries of all classes; FAB-T (num_targets > 0) makes one run per
rival, in the order of the clean logits, at one backward pass per step instead of C − 1.

References:
  Croce and Hein 2020, arXiv:1907.02044; FAB-T: Croce and Hein 2020, arXiv:2003.01690.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks.boundary_planes import Plane, largest_others, plane
from gencls.attacks.broadcast import choose, expand, pixels
from gencls.attacks.hyperplane import PROJECTIONS
from gencls.attacks.norms import DUAL_NORMS, NORMS
from gencls.attacks.objective import info
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective

# Twice the radius of a random start where nothing nearer is found; the authors' defaults.
EPS = {"linf": 0.3, "l2": 1.0, "l1": 5.0}


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the iterate to evaluate next
  best: Array  # [B, H, W, D] the nearest success; x where there is none
  best_norm: Array  # [B] its distance, inf where there is none
  classes: Array  # [B, num_targets] int32, the rivals by their clean logits
  goal: Goal
  step: Array  # [B] int32, iterates evaluated over all runs


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  alpha_max: Array
  eta: Array
  beta: Array
  eps: Array
  num_steps: Array
  num_restarts: Array
  stop_at_eps: Array


class Metric(NamedTuple):
  """What a norm means to the attack: [B, ...] -> [B], but `project` (see `hyperplane`)."""

  norm: Partial
  dual_norm: Partial
  project: Partial
  noise: Partial  # (key, shape) -> the direction of a random start


def fab(
  objective: Objective,
  *,
  norm: str = "linf",
  num_steps: int = 100,
  num_restarts: int = 1,
  num_targets: int = 0,
  alpha_max: float = 0.1,
  eta: float = 1.05,
  beta: float = 0.9,
  eps: float | None = None,
  stop_at_eps: bool = False,
) -> Attack:
  """FAB and FAB-T, minimum-norm attacks.

  Args:
    objective: made by `objective.build`; its loss is not used.
    norm: "linf", "l2" or "l1".
    num_steps: moves per run, >= 1. A `Goal.start` is where the runs of the first restart start
      instead of x.
    num_restarts: >= 1; beyond the first from random points around x.
    num_targets: 0 for the nearest boundary of all classes; n for one run and restart per rival, the
      n with the largest clean logits (of which there are C - 1 at most). Targeted examples have one
      rival to reach and make one run per restart.
    alpha_max: largest weight of the clean image's projection, in [0, 1].
    eta: overshoot of the projections, >= 1.
    beta: share of the perturbation that is left after a success, in (0, 1).
    eps: random starts are at half of this distance, or of the best one found if that is smaller;
      it bounds nothing else. Default 0.3 (ℓ∞), 1 (ℓ2) or 5 (ℓ1).
    stop_at_eps: whether an example is done as soon as it has a success within eps, instead of being
      brought nearer: for ensembles, in which only the ball counts.

  Returns:
    An `Attack` of num_restarts · max(1, num_targets) · (num_steps + 1) steps.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  if norm not in PROJECTIONS:
    raise ValueError(unknown_name("norm", norm, PROJECTIONS))
  eps = EPS[norm] if eps is None else eps
  _check(num_steps, num_restarts, num_targets, alpha_max, eta, beta, eps)
  plan = Plan(
    alpha_max=jnp.float32(alpha_max),
    eta=jnp.float32(eta),
    beta=jnp.float32(beta),
    eps=jnp.float32(eps),
    num_steps=jnp.int32(num_steps),
    num_restarts=jnp.int32(num_restarts),
    stop_at_eps=jnp.bool_(stop_at_eps),
  )
  metric = Metric(
    norm=Partial(NORMS[norm]),
    dual_norm=Partial(DUAL_NORMS[norm]),
    project=Partial(PROJECTIONS[norm]),
    noise=Partial(_uniform if norm == "linf" else jax.random.normal),
  )
  return Attack(
    init=Partial(_init, classes=jnp.zeros(num_targets, jnp.int32)),
    step=Partial(_step, objective=objective, metric=metric, plan=plan),
    result=Partial(_result),
    num_steps=num_restarts * max(1, num_targets) * (num_steps + 1),
  )


def _check(
  num_steps: int,
  num_restarts: int,
  num_targets: int,
  alpha_max: float,
  eta: float,
  beta: float,
  eps: float,
) -> None:
  if num_steps < 1 or num_restarts < 1:
    raise ValueError(
      f"num_steps and num_restarts must be >= 1, got {num_steps} and {num_restarts} "
      "(num_restarts=1 is a single run)"
    )
  if num_targets < 0:
    raise ValueError(f"num_targets must be >= 0 (0 is untargeted FAB), got {num_targets}")
  if not (0 <= alpha_max <= 1 and 1 <= eta < math.inf and 0 < beta < 1):
    raise ValueError(
      "alpha_max must be in [0, 1], eta >= 1 and beta in (0, 1), got "
      f"{alpha_max}, {eta} and {beta} (0.1, 1.05 and 0.9 are usual)"
    )
  if not (math.isfinite(eps) and eps >= 0):
    raise ValueError(f"eps must be a finite number >= 0, or None for the default, got {eps}")


def _uniform(key: Key, shape: tuple[int, ...]) -> Array:
  return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _init(keys: Keys, x: Array, goal: Goal, *, classes: Array) -> State:
  del keys
  batch = x.shape[:1]
  return State(
    x=x,
    x_adv=x,
    best=x,
    best_norm=jnp.full(batch, jnp.inf, x.dtype),
    classes=jnp.broadcast_to(classes[None], batch + classes.shape),
    goal=goal,
    step=jnp.zeros(batch, jnp.int32),
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, metric: Metric, plan: Plan
) -> tuple[State, Info]:
  """Evaluates the iterate, keeps it if it is the nearest success, then moves or starts again."""
  goal = state.goal._replace(start=None)
  first, run_steps = state.step == 0, plan.num_steps + 1
  run, move = state.step // run_steps, state.step % run_steps
  num = state.classes.shape[1]

  def ranked(logits: Array) -> Array:
    return choose(first, largest_others(logits, goal, num), state.classes)

  def num_rivals(logits: Array) -> Array:
    """Runs per restart, [B]."""
    return jnp.where(goal.target >= 0, 1, max(1, min(num, logits.shape[1] - 1)))

  def rivals(logits: Array) -> Array:
    if not num:
      return largest_others(logits, goal, logits.shape[1] - 1)
    mine = jnp.take_along_axis(ranked(logits), (run % num_rivals(logits))[:, None], axis=1)
    return choose(goal.target >= 0, largest_others(logits, goal, 1), mine)

  # Differs from the authors' code: the boundary is the one linearised at x_t, not anew at the point
  # drawn back, which takes a forward pass more. Both are about as near to the boundary.
  back = state.x + plan.beta * (state.x_adv - state.x)
  seen = plane(
    objective,
    keys,
    state.step,
    state.x_adv,
    goal,
    rivals=rivals,
    dual_norm=metric.dual_norm,
    back=back,
  )
  norm = metric.norm(state.x_adv - state.x)
  better = seen.at.success & (norm < state.best_norm)
  best_norm = jnp.where(better, norm, state.best_norm)
  # A target behind several boundaries: the clean image's pull would hold the iterate before them.
  far = (goal.target >= 0) & jnp.isinf(best_norm)
  alpha_max = jnp.where(far, 0.0, plan.alpha_max)
  moved = choose(seen.at.usable, _between(seen, state.x, alpha_max, metric, plan), state.x_adv)
  if state.goal.start is not None:
    moved = choose(first, state.goal.start, moved)

  next_run = run + (move == plan.num_steps)
  next_restart = next_run // num_rivals(seen.logits)
  finished = next_restart >= plan.num_restarts
  again = (next_run > run) & ~finished
  begin = state.x if state.goal.start is None else state.goal.start
  radius = 0.5 * jnp.minimum(best_norm, plan.eps)

  def start_again() -> Array:
    noise = _noise(fold(keys, "start", next_run), state.x, radius, metric)
    return choose(next_restart == 0, begin, noise)

  # A random start costs about as much as all else here: only where some example needs one.
  fresh = jax.lax.cond(jnp.any(again), start_again, lambda: state.x)
  new = state._replace(
    x_adv=choose(again, fresh, moved),
    best=choose(better, state.x_adv, state.best),
    best_norm=best_norm,
    classes=ranked(seen.logits),
    step=state.step + 1,
  )
  near = (best_norm == 0) | (plan.stop_at_eps & (best_norm <= plan.eps))
  return new, info(seen.at, finished | near, backward=seen.backward)


def _between(seen: Plane, x: Array, alpha_max: Array, metric: Metric, plan: Plan) -> Array:
  """The next iterate, between the overshot projections of the plane's origin and of x."""
  w = seen.at.gradient
  gap_clean = -seen.value - jnp.sum(w * (x - seen.origin), axis=pixels(w))
  # One call for both: the rounds of its loop are what it costs.
  moves = metric.project(
    jnp.concatenate([seen.origin, x]),
    jnp.concatenate([w, w]),
    jnp.concatenate([-seen.value, gap_clean]),
  )
  delta, delta_clean = jnp.split(moves, 2)
  size, size_clean = jnp.split(jnp.maximum(metric.norm(moves), 1e-8), 2)
  alpha = expand(jnp.minimum(size / (size + size_clean), alpha_max), w)
  far, near = seen.origin + plan.eta * delta, x + plan.eta * delta_clean
  return jnp.clip((1.0 - alpha) * far + alpha * near, 0.0, 1.0)


def _noise(keys: Keys, x: Array, radius: Array, metric: Metric) -> Array:
  """A random point at distance `radius` of x, clipped to the box."""
  noise = jax.vmap(lambda key: metric.noise(key, x.shape[1:]))(keys)
  size = expand(radius / metric.norm(noise), x)
  return jnp.clip(x + size * noise, 0.0, 1.0)


def _result(state: State) -> Array:
  return state.best
