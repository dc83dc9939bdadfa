"""DeepFool: from one linearised class boundary to the next, until the other side is reached.

Each step moves, the shortest way, onto the nearest boundary f = 0 as linearised at the iterate,
f(x_t + δ) ≈ f + w·δ. The moves add up, and the iterate overshoots their sum:

  r_{t+1} = r_t + (|f| / ||w||_dual) · steepest(w),   x_{t+1} = clip(x + (1 + overshoot) r_{t+1}).

An example is done at its first success. Only the classes whose clean logits are largest are
candidates. Targeted examples move onto the farthest of the boundaries between the target and the
classes that are ahead of it.

In ℓp, with 1/p + 1/q = 1, the dual norm is ℓq and steepest(w) = |w|^(q−1) sign(w) / ||w||_q^(q−1).

References:
  Moosavi-Dezfooli et al. 2016, arXiv:1511.04599 (section 3: ℓp). The sum of the moves is overshot
  at every step and the iterate clipped, as in Foolbox; the paper overshoots the final sum only.
  The paper has no box; what it does to steps in ℓp is said at `_move_lp`.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks import norms
from gencls.attacks.boundary_planes import largest_others, plane
from gencls.attacks.broadcast import choose, expand, pixels
from gencls.attacks.objective import info
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

MARGIN = 1e-4  # added to every move's length, as in Foolbox: the last step must not fall short
LONGEST = 1e6  # of a move: far outside of the box, and finite however flat the boundary
LEAST_SHARE = 0.5  # of the way to the boundary that a step in ℓp goes; see `_move_lp`


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  moves: Array  # [B, H, W, D] r, the sum of the moves
  x_adv: Array  # [B, H, W, D] the iterate to evaluate next, or the success
  found: Array  # [B] bool
  classes: Array  # [B, candidates - 1] int32, the rivals; [B, 0] where all classes are
  goal: Goal
  step: Array  # [B] int32, iterates evaluated


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  overshoot: Array
  num_steps: Array


def deepfool(
  objective: Objective,
  *,
  norm: str = "l2",
  num_steps: int = 50,
  overshoot: float = 0.02,
  num_candidates: int | None = 10,
) -> Attack:
  """DeepFool, a minimum-norm attack.

  Args:
    objective: made by `objective.build`; its loss is not used.
    norm: "l2", "linf", "l1", or any other ℓp with p >= 1, as "l1.5" or "l3". In ℓ1 a step moves the
      one pixel (the largest slope) that still has room in that direction, so images far from a
      boundary take a step for every pixel; p near 1 comes close to that.
    num_steps: moves, >= 1. A `Goal.start` takes the place of the first.
    overshoot: share by which the sum of the moves is exceeded, >= 0.
    num_candidates: classes with the largest clean logits, the label's among them, whose boundaries
      are looked at, >= 2; each but one costs a backward pass. None for all.

  Returns:
    An `Attack` of num_steps + 1 steps, done at the first success.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  move, dual_norm = _in_norm(norm)
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  if not (math.isfinite(overshoot) and overshoot >= 0):
    raise ValueError(f"overshoot must be a finite number >= 0 (0.02 is usual), got {overshoot}")
  if num_candidates is not None and num_candidates < 2:
    raise ValueError(
      f"num_candidates must be >= 2 (the label's class and its rivals), got {num_candidates}; "
      "None takes all classes"
    )
  plan = Plan(overshoot=jnp.float32(overshoot), num_steps=jnp.int32(num_steps))
  return Attack(
    init=Partial(_init, classes=jnp.zeros((num_candidates or 1) - 1, jnp.int32)),
    step=Partial(
      _step,
      objective=objective,
      move=move,
      dual_norm=dual_norm,
      plan=plan,
    ),
    result=Partial(_result),
    num_steps=num_steps + 1,
  )


def _in_norm(norm: str) -> tuple[Partial, Partial]:
  """((w, x_adv) -> the direction of a move and what it gains per length, the dual norm)."""
  p = norms.order(norm)
  if p < 1:
    raise ValueError(
      "the norm of deepfool must be 'linf', or 'l' and a number p >= 1 ('l1', 'l1.5', 'l2'), got "
      f"{norm!r}: take norm='l1', or fmn for the fewest pixels"
    )
  if norm in norms.DUAL_NORMS:
    steepest = geometries.build(norm, 0.0).steepest
    return Partial(_move, steepest), Partial(norms.DUAL_NORMS[norm])
  q = jnp.float32(p / (p - 1.0))
  return Partial(_move_lp, jnp.float32(p), q, jnp.float32(1.0 / (p - 1.0))), Partial(norms.lp, q)


def _move(steepest: Partial, w: Array, x_adv: Array) -> tuple[Array, Array]:
  """The gain is the dual norm, in ℓ1 over the pixels with room."""
  direction = steepest(w, x_adv)
  return direction, jnp.sum(w * direction, axis=pixels(w))


def _move_lp(p: Array, q: Array, power: Array, w: Array, x_adv: Array) -> tuple[Array, Array]:
  """The steepest direction of the pixels with room; power is q − 1, exact for large p.

  The paper's move, of all pixels, wastes what falls to those at the wall. Clipped, it goes the
  share Σ_room |w|^q / Σ |w|^q of the way to the boundary, which for p near 1 may be nothing. The
  same share of the pixels with room, but at least `LEAST_SHARE`: all of it at once would need half
  the steps, but crosses curved boundaries too far out (by 5 to 7% on a CNN, for p from 1.5 on).
  """
  room = jnp.where(w > 0, x_adv < 1.0, x_adv > 0.0)
  slope, _ = norms.scale(jnp.where(room, w, 0.0))
  direction = jnp.sign(slope) * jnp.abs(slope) ** power
  # Its norm is at least 1, the entry of the largest slope, or 0.
  direction = direction / expand(jnp.maximum(norms.lp(p, direction), 1.0), w)
  gain, whole = jnp.sum(w * direction, axis=pixels(w)), norms.lp(q, w)
  share = (gain / jnp.where(whole > 0, whole, 1.0)) ** q
  return direction, gain / jnp.clip(share, LEAST_SHARE, 1.0)


def _init(keys: Keys, x: Array, goal: Goal, *, classes: Array) -> State:
  del keys
  batch = x.shape[:1]
  return State(
    x=x,
    moves=jnp.zeros_like(x),
    x_adv=x,
    found=jnp.zeros(batch, bool),
    classes=jnp.broadcast_to(classes[None], batch + classes.shape),
    goal=goal,
    step=jnp.zeros(batch, jnp.int32),
  )


def _step(
  keys: Keys,
  state: State,
  *,
  objective: Objective,
  move: Partial,
  dual_norm: Partial,
  plan: Plan,
) -> tuple[State, Info]:
  """Evaluates the iterate and, where it is no success, moves it onto the boundary."""
  first = state.step == 0
  num = state.classes.shape[1]

  def rivals(logits: Array) -> Array:
    now = largest_others(logits, state.goal, logits.shape[1] - 1)
    if not num:
      return now
    now, clean = now[:, :num], state.classes[:, : logits.shape[1] - 1]
    return choose(first | (state.goal.target >= 0), now, clean)

  goal = state.goal._replace(start=None)
  seen = plane(objective, keys, state.step, state.x_adv, goal, rivals=rivals, dual_norm=dual_norm)
  w = seen.at.gradient
  direction, size = move(w, state.x_adv)
  distance = jnp.minimum(jnp.abs(seen.value) / jnp.where(size > 0, size, 1.0) + MARGIN, LONGEST)
  moves = state.moves + expand(distance, w) * direction
  if state.goal.start is not None:
    moves = choose(first, (state.goal.start - state.x) / (1.0 + plan.overshoot), moves)
  moved = jnp.clip(state.x + (1.0 + plan.overshoot) * moves, 0.0, 1.0)

  found = state.found | seen.at.success
  new = state._replace(
    moves=choose(found, state.moves, moves),
    x_adv=choose(found, state.x_adv, moved),
    found=found,
    classes=choose(first, largest_others(seen.logits, goal, num), state.classes),
    step=state.step + 1,
  )
  done = found | (state.step >= plan.num_steps)
  return new, info(seen.at, done, backward=seen.backward)


def _result(state: State) -> Array:
  return choose(state.found, state.x_adv, state.x)
