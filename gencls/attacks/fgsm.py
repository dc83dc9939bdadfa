"""The fast gradient method: one step of length eps along the ball's steepest direction.

`fgsm` is the ℓ∞ form (the sign of the gradient), `fgm` the ℓ2 form; they differ in their default.

References:
  Goodfellow et al. 2015, arXiv:1412.6572; Miyato et al. 2017, arXiv:1605.07725 (ℓ2).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import expand
from gencls.attacks.geometry import Geometry
from gencls.attacks.objective import Query, info, query
from gencls.types import Array, Attack, Goal, Info, Keys, Objective


class State(NamedTuple):
  """Before the one step, the start; after it, the result."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D]
  goal: Goal


def fgsm(
  objective: Objective, *, norm: str = "linf", eps: float, check_result: bool = True
) -> Attack:
  """One gradient step of length eps, by default in the ℓ∞ ball.

  Every example moves, the ones that are wrong already too: under fresh randomness one unlucky draw
  must not leave an image as it is.

  Args:
    objective: what to maximise, see `objective.build`.
    norm: a name in `geometry.GEOMETRIES`.
    eps: radius of the ball.
    check_result: whether the result is evaluated too, for the record: one more forward pass, a
      third of the time. If not, the record has the loss of the start and no success.

  Returns:
    An `Attack` of one step.

  Raises:
    ValueError: if the norm is unknown or eps is out of its range.
  """
  ball = geometries.build(norm, eps)
  return Attack(
    init=Partial(_init, ball=ball),
    step=Partial(_checked_step if check_result else _step, objective=objective, ball=ball),
    result=Partial(_result),
    num_steps=1,
  )


def fgm(objective: Objective, *, norm: str = "l2", eps: float, check_result: bool = True) -> Attack:
  """`fgsm` with the ℓ2 ball as its default; the arguments are the same."""
  return fgsm(objective, norm=norm, eps=eps, check_result=check_result)


def _init(keys: Keys, x: Array, goal: Goal, *, ball: Geometry) -> State:
  del keys
  start = x if goal.start is None else ball.project(goal.start, x)
  return State(x=x, x_adv=start, goal=goal._replace(start=None))


def _step(keys: Keys, state: State, *, objective: Objective, ball: Geometry) -> tuple[State, Info]:
  at, moved = _move(keys, state, objective, ball)
  # Nothing is known of the result.
  unknown = at._replace(success=jnp.zeros_like(at.success))
  return state._replace(x_adv=moved), info(unknown, jnp.ones_like(at.success))


def _checked_step(
  keys: Keys, state: State, *, objective: Objective, ball: Geometry
) -> tuple[State, Info]:
  at, moved = _move(keys, state, objective, ball)
  second = jnp.ones(state.x.shape[:1], jnp.int32)
  loss, success = objective(keys, second, moved, state.goal)
  nonfinite = at.nonfinite | ~jnp.isfinite(loss)
  seen = at._replace(loss=loss, success=success, nonfinite=nonfinite)
  return state._replace(x_adv=moved), info(seen, jnp.ones_like(success), forward=2)


def _move(keys: Keys, state: State, objective: Objective, ball: Geometry) -> tuple[Query, Array]:
  first = jnp.zeros(state.x.shape[:1], jnp.int32)
  at = query(objective, keys, first, state.x_adv, state.goal)
  size = expand(jnp.where(at.usable, ball.eps, 0.0), state.x)
  return at, ball.project(state.x_adv + size * ball.steepest(at.gradient, state.x_adv), state.x)


def _result(state: State) -> Array:
  return state.x_adv
