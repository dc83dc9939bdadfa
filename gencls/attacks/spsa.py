"""SPSA: projected Adam ascent along gradients estimated by differences of the loss.

With random signs v_i, the estimate at x_t is the mean over i of

  (loss(x_t + delta · v_i) − loss(x_t − delta · v_i)) / (2 · delta) · v_i.

Each step evaluates the iterate and one block of points around it; when num_samples points have been
evaluated the iterate moves, x_{t+1} = project(x_t + step_size · adam(estimate)).

References:
  Uesato et al. 2018, arXiv:1802.05666; Spall 1992.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose
from gencls.attacks.geometry import Geometry
from gencls.attacks.objective import candidates, forward_info, is_fresh
from gencls.keys import fold
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the iterate
  best: Array  # [B, H, W, D] the success of the largest loss; x where there is none
  best_loss: Array  # [B] its loss, −inf where there is none
  total: Array  # [B, H, W, D] sum of the differences, each times its signs
  adam: Any  # optax's state, every leaf [B, ...]
  goal: Goal
  sample: Array  # [B] int32, points around the iterate evaluated
  move: Array  # [B] int32
  query: Array  # [B] int32, images evaluated


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  step_size: Array
  delta: Array
  num_samples: Array
  stop_loss: Array
  pairs: Array  # 0, …, block / 2 − 1


def spsa(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_steps: int = 100,
  step_size: float = 0.01,
  delta: float = 0.01,
  num_samples: int = 2000,
  block: int = 20,
  stop_loss: float | None = None,
) -> Attack:
  """SPSA, in a ball of given eps.

  Args:
    objective: what to maximise, see `objective.build`.
    norm: a name in `geometry.GEOMETRIES`.
    eps: radius of the ball.
    num_steps: moves, >= 1.
    step_size: Adam's, in the units of eps, >= 0.
    delta: how far the points are from the iterate in every pixel, > 0. They may leave the box.
    num_samples: points per gradient, in pairs; a multiple of `block`.
    block: points per model call and example, even: less memory, more calls.
    stop_loss: an example is done once the loss of a success reaches it; None: at its first success,
      under fresh randomness never (see `objective.stops_early`).

  Returns:
    An `Attack` of num_steps · num_samples / block + 1 steps, each of block + 1 queries.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  ball = geometries.build(norm, eps)
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  if block < 2 or block % 2 or num_samples < block or num_samples % block:
    raise ValueError(
      "block must be even and num_samples a positive multiple of it, got "
      f"block={block} and num_samples={num_samples}"
    )
  if not (math.isfinite(step_size) and step_size >= 0):
    raise ValueError(f"step_size must be a finite number >= 0, got {step_size}")
  if not (math.isfinite(delta) and delta > 0):
    raise ValueError(f"delta must be a finite number > 0, got {delta}")
  if stop_loss is None:
    stop_loss = math.inf if is_fresh(objective) else -math.inf
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    step_size=jnp.float32(step_size),
    delta=jnp.float32(delta),
    num_samples=jnp.int32(num_samples),
    stop_loss=jnp.float32(stop_loss),
    pairs=jnp.arange(block // 2),
  )
  return Attack(
    init=Partial(_init, ball=ball),
    step=Partial(_step, objective=objective, ball=ball, plan=plan),
    result=Partial(_result),
    num_steps=num_steps * (num_samples // block) + 1,
  )


def _init(keys: Keys, x: Array, goal: Goal, *, ball: Geometry) -> State:
  del keys
  zero = jnp.zeros(len(x), jnp.int32)
  return State(
    x=x,
    x_adv=x if goal.start is None else ball.project(goal.start, x),
    best=x,
    best_loss=jnp.full(len(x), -jnp.inf, x.dtype),
    total=jnp.zeros_like(x),
    adam=jax.vmap(optax.scale_by_adam().init)(x),
    goal=goal._replace(start=None),
    sample=zero,
    move=zero,
    query=zero,
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, ball: Geometry, plan: Plan
) -> tuple[State, Info]:
  """Evaluates the iterate and a block of pairs around it, and moves after the last block."""
  num = len(plan.pairs)
  index = state.query[:, None] + plan.pairs[None, :]
  signs = _signs(fold(jnp.repeat(keys, num), "spsa", index.ravel()), index.shape, state.x)
  iterate = state.x_adv[:, None]
  images = [iterate, iterate + plan.delta * signs, iterate - plan.delta * signs]
  loss, success = candidates(
    objective, keys, state.query, jnp.concatenate(images, axis=1), state.goal
  )
  at, won = loss[:, 0], success[:, 0]
  difference = loss[:, 1 : num + 1] - loss[:, num + 1 :]
  difference = jnp.where(jnp.isfinite(difference), difference, 0.0)

  total = state.total + jnp.sum(difference[..., None, None, None] * signs, axis=1)
  sample = state.sample + 2 * num
  moving = sample >= plan.num_samples
  gradient = total / (plan.delta * plan.num_samples)

  def adam_update(gradient: Array, adam: Any) -> Any:
    return optax.scale_by_adam().update(gradient, adam)

  updates, adam = jax.vmap(adam_update)(gradient, state.adam)
  moved = ball.project(state.x_adv + plan.step_size * updates, state.x)

  better = won & (at > state.best_loss)
  best_loss = jnp.where(better, at, state.best_loss)
  new = state._replace(
    x_adv=choose(moving, moved, state.x_adv),
    best=choose(better, state.x_adv, state.best),
    best_loss=best_loss,
    total=choose(moving, jnp.zeros_like(total), total),
    adam=choose(moving, adam, state.adam),
    sample=jnp.where(moving, 0, sample),
    move=state.move + moving,
    query=state.query + 2 * num + 1,
  )
  # The last iterate is evaluated too, with the first block of a move that is not made.
  reached = (best_loss > -jnp.inf) & (best_loss >= plan.stop_loss)
  done = reached | (state.move >= plan.num_steps)
  return new, forward_info(loss, success, done)._replace(success=won)


def _signs(keys: Keys, shape: tuple[int, ...], x: Array) -> Array:
  """[B, pairs, H, W, D] of ±1; `keys` holds one key per pair."""
  size = math.prod(x.shape[1:])

  def draw(key: Key) -> Array:
    # Every bit is a sign: a word of 32 bits for each would take 40 times as long.
    words = jax.random.bits(key, (-(-size // 32), 1), jnp.uint32)
    bits = (words >> jnp.arange(32, dtype=jnp.uint32)[None, :]) & 1
    return 1.0 - 2.0 * bits.ravel()[:size].astype(x.dtype)

  return jnp.reshape(jax.vmap(draw)(keys), (*shape, *x.shape[1:]))


def _result(state: State) -> Array:
  return choose(state.best_loss > -jnp.inf, state.best, state.x_adv)
