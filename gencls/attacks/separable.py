"""The exact ℓ∞ worst case of models whose logits are sums over pixels.

Where logit_c = Σ_d f_cd(x_d), as of naive Bayes and linear models, the best move of one pixel does
not depend on the others, and within ℓ∞ and the box every pixel has an interval of its own. So each
pixel is moved alone, to both ends of its interval and the middle, for every class c at once:

  m_cd(t) = [f_cd(t) − f_cd(x_d)] − [f_yd(t) − f_yd(x_d)],

and the image that moves all pixels to their best for class c is the best image for class c. Between
the three points m is taken for a parabola, whose vertex is the maximum where it opens downwards:
exact for normal densities (quadratic), linear logits, and thresholds (constant on each side). The
C images are evaluated as they are, and so success is never more than what the model says; that no
success means that there is none holds for such models alone, up to float32's rounding of the sum:
what one pixel does is lost where another's term is 2²⁴ times as large.

References:
  The argument is that of the linear case, Goodfellow et al. 2015, arXiv:1412.6572, pixel by pixel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, pick, repeated
from gencls.attacks.geometry import Geometry
from gencls.attacks.losses import margin
from gencls.attacks.objective import class_scores, forward_info
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

NORMS = ("linf",)


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  low: Array  # [B, H, W, D] the ends of each pixel's interval
  high: Array  # [B, H, W, D]
  logits: Array  # [B, C] of x
  toward: Array  # [B, C, H, W, D] the best image for each class, of the pixels seen so far
  best: Array  # [B, H, W, D] the first success of them, before it the one of the largest margin
  goal: Goal
  step: Array  # [B] int32


def separable(
  objective: Objective, *, norm: str = "linf", eps: float, num_steps: int = 49
) -> Attack:
  """Moves every pixel to where it does most, as if the others were not there.

  Args:
    objective: whose model is attacked; its loss is not used.
    norm: "linf".
    eps: radius of the ball.
    num_steps: the H·W·D values are moved in so many steps, of 3 images for each value; more steps
      need less memory. One more evaluates what was found.

  Returns:
    An `Attack` of about 3 · H·W·D queries, all of them without gradients. A targeted example
    pursues its target against its label, which is not exact where a third class is in the way.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  if norm not in NORMS:
    raise ValueError(unknown_name("norm", norm, NORMS))
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  ball = geometries.build(norm, eps)
  parts = jnp.arange(num_steps)  # their number is a shape, which decides how many values are one's
  return Attack(
    init=Partial(_init, objective=objective, ball=ball),
    step=Partial(_step, objective=objective, parts=parts),
    result=Partial(_result),
    num_steps=num_steps + 1,
  )


def _init(keys: Keys, x: Array, goal: Goal, *, objective: Objective, ball: Geometry) -> State:
  step = jnp.zeros(len(x), jnp.int32)
  goal = goal._replace(start=None)
  logits, _ = class_scores(objective, keys, step, x, goal)
  return State(
    x=x,
    low=ball.project(jnp.full_like(x, -2.0), x),
    high=ball.project(jnp.full_like(x, 2.0), x),
    logits=logits,
    toward=jnp.repeat(x[:, None], logits.shape[1], axis=1),
    best=x,
    goal=goal,
    step=step,
  )


def _step(keys: Keys, state: State, *, objective: Objective, parts: Array) -> tuple[State, Info]:
  """Moves some pixels alone; once all were moved, evaluates the best image for every class."""
  batch, size = len(state.x), state.x[0].size
  many = -(-size // len(parts))
  places = state.step[:, None] * many + jnp.arange(many)[None, :]  # [B, M]
  last = state.step >= len(parts)
  which = jnp.arange(size)[None, None, :] == places[..., None]  # [B, M, HWD]
  moved = _moved(state, which)
  num = max(moved.shape[1], state.toward.shape[1])  # of images, so that either fits
  images = choose(last, _padded(state.toward, num), _padded(moved, num))
  rows = jnp.reshape(images, (batch * num, *images.shape[2:]))
  all_keys, steps, goals = repeated(num, keys, state.step, state.goal)
  logits, success = class_scores(objective, all_keys, steps, rows, goals)
  losses = jnp.reshape(margin(logits, goals), (batch, num))
  counts = jnp.arange(num)[None, :] < state.toward.shape[1]
  success = jnp.reshape(success, (batch, num)) & last[:, None] & counts & jnp.isfinite(losses)
  logits = jnp.reshape(logits, (batch, num, -1))[:, : moved.shape[1]]
  new = state._replace(
    toward=choose(last, state.toward, _improved(state, places, logits)),
    best=choose(last, _best(state, images, losses, success, counts), state.best),
    step=state.step + 1,
  )
  report = forward_info(losses, success, last)
  return new, report._replace(forward=report.forward + (state.step == 0))  # the clean logits


def _moved(state: State, which: Array) -> Array:
  """x with each value of `which` [B, M, HWD] at low, in the middle and at high, [B, 3 M, …]."""
  flat, low, high = (jnp.reshape(v, (len(v), 1, -1)) for v in (state.x, state.low, state.high))
  each = [jnp.where(which, v, flat) for v in (low, low + (high - low) / 2, high)]
  moved = jnp.concatenate(each, axis=1)
  return jnp.reshape(moved, (*moved.shape[:2], *state.x.shape[1:]))


def _improved(state: State, places: Array, logits: Array) -> Array:
  """`toward` with the values at `places` at their best, from the logits [B, 3 M, C] of `_moved`."""
  gains = logits - state.logits[:, None]
  own = jnp.take_along_axis(gains, state.goal.label[:, None, None], axis=2)
  at_low, middle, at_high = jnp.split(gains - own, 3, axis=1)  # [B, M, C]
  # m(t) = middle + slope t + curvature t², t in [−1, 1]
  slope, curvature = (at_high - at_low) / 2, (at_high + at_low) / 2 - middle
  opens_downwards = curvature < 0
  vertex = jnp.clip(-slope / jnp.where(opens_downwards, 2 * curvature, -1.0), -1.0, 1.0)
  top = jnp.where(opens_downwards, middle + slope * vertex + curvature * vertex**2, -jnp.inf)
  x, low, high = (_values(v, places) for v in (state.x, state.low, state.high))  # [B, M, 1]
  to_vertex = jnp.clip(low + (high - low) * (vertex + 1) / 2, low, high)
  value, gain = x, jnp.zeros_like(middle)  # a pixel that gains nothing stays
  for there, reached in ((low, at_low), (high, at_high), (to_vertex, top)):
    better = reached > gain
    value = jnp.where(better, there, value)
    gain = jnp.where(better, reached, gain)
  flat = jnp.reshape(state.toward, (*state.toward.shape[:2], -1))
  put = jax.vmap(lambda image, at, new: image.at[:, at].set(new.T, mode="drop"))
  return jnp.reshape(put(flat, places, value), state.toward.shape)


def _values(image: Array, places: Array) -> Array:
  """The values at `places` [B, M], [B, M, 1]; of places behind the last the last."""
  flat = jnp.reshape(image, (len(image), -1))
  return jnp.take_along_axis(flat, jnp.minimum(places, flat.shape[1] - 1), axis=1)[..., None]


def _best(state: State, images: Array, losses: Array, success: Array, counts: Array) -> Array:
  scores = jnp.where(counts & jnp.isfinite(losses), losses, -jnp.inf)
  pursued = state.goal.target >= 0
  places = jnp.arange(images.shape[1])[None, :]
  scores = jnp.where(pursued[:, None] & (places != state.goal.target[:, None]), -jnp.inf, scores)
  found = jnp.any(success, axis=1)
  index = jnp.where(found, jnp.argmax(success, axis=1), jnp.argmax(scores, axis=1))
  return pick(images, index)


def _padded(images: Array, num: int) -> Array:
  """[B, M, …] -> [B, num, …], with zeros behind."""
  return jnp.pad(images, [(0, 0), (0, num - images.shape[1])] + [(0, 0)] * (images.ndim - 2))


def _result(state: State) -> Array:
  return state.best
