"""Flips of single pixels for models that binarise their input (ℓ∞).

A model that sees only whether x >= at changes its mind only where a pixel crosses the threshold.
Within eps that can be

  a pixel below at:    x + eps >= at, and the nearest value that flips it is at itself,
  a pixel at or above: x − eps < at,  and the nearest value that flips it is the next float below,

so the attack is a search over these reachable pixels, whatever the grey values are. The result has
these nearest values at the flipped pixels and x elsewhere. Being in the ball is decided in float32
as `geometry.linf` has it, with no tolerance: at = eps = 0.5 turns black pixels on, but no white
one off.

Greedy: the flips of the largest first-order gain through the straight-through estimator are tried
first; one that does not raise the loss is taken back and not tried again at this image. Where the
loss is linear in the binary image, the first-order gain is the gain. Exhaustive: every reachable
flip is evaluated and the best one made, for models without such a gradient.

References:
  Schott et al. 2019, arXiv:1805.09190 (binarised models); Athalye et al. 2018, arXiv:1802.00420
  (straight-through gradients).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import first_success
from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, expand, pick, pixels
from gencls.attacks.objective import info, query
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

METHODS = ("greedy", "exhaustive")


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  flipped: Array  # [B, H, W, D] the reachable values as they are after a flip
  reachable: Array  # [B, H, W, D] bool
  x_adv: Array  # [B, H, W, D] the best image so far
  loss: Array  # [B] its loss, −inf before it is evaluated
  trial: Array  # [B, H, W, D] greedy: the image to evaluate next; exhaustive: the best of the round
  trial_loss: Array  # [B] exhaustive: its loss
  gradient: Array  # [B, H, W, D] greedy: at `x_adv`
  banned: Array  # [B, H, W, D] bool, greedy: tried from `x_adv` without gain
  flips: Array  # [B] int32, greedy: flips of the next trial; exhaustive: values tried in the round
  goal: Goal
  step: Array  # [B] int32


def pixel_flips(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_steps: int = 1000,
  method: str = "greedy",
  flips_per_step: int = 1,
  at: float = 0.5,
  block_size: int | None = None,
) -> Attack:
  """Flips reachable pixels of a thresholded image until the model is fooled.

  Args:
    objective: what to maximise, of a model that thresholds its input; for "greedy" through
      `gencls.straight_through`.
    norm: "linf", the only norm that this is about.
    eps: radius of the ball.
    num_steps: model calls after which an example ends with the image of the largest loss; most end
      by themselves, with a success or where no flip is left to gain by.
    method: a name in `METHODS`.
    flips_per_step: greedy: how many flips to try at once, >= 1. A trial without gain is halved; 1
      finds fewer flips, more need fewer steps.
    at: the model's threshold, in (0, 1].
    block_size: exhaustive: values per example and model call; None chooses by backend.

  Returns:
    A fixed-budget `Attack`.

  Raises:
    ValueError: if a name is unknown or a number is out of its range.
  """
  if norm != "linf":
    raise ValueError(
      f"pixel_flips is an attack in the linf ball: norm must be 'linf', got {norm!r}"
    )
  if method not in METHODS:
    raise ValueError(unknown_name("method", method, METHODS))
  if num_steps < 1 or flips_per_step < 1:
    raise ValueError(
      f"num_steps and flips_per_step must be >= 1, got {num_steps} and {flips_per_step}"
    )
  if not 0 < at <= 1:
    raise ValueError(f"at must be in (0, 1], or every pixel is the same, got {at}")
  ball = geometries.build(norm, eps)
  if method == "greedy":
    function, num = _greedy_step, flips_per_step
  else:
    function, num = _exhaustive_step, first_success.check_block_size(block_size)
  offsets = jnp.arange(num, dtype=jnp.int32)
  return Attack(
    init=Partial(_init, ball=ball, at=jnp.float32(at), flips=jnp.int32(method == "greedy")),
    step=Partial(function, objective=objective, offsets=offsets),
    result=Partial(_result),
    num_steps=num_steps,
  )


def reachable_flips(x: Array, ball: geometries.Geometry, at: Array) -> tuple[Array, Array]:
  """Which values of an image can cross the threshold within an ℓ∞ ball, and where they land.

  Args:
    x: [B, H, W, D] in [0, 1].
    ball: a `geometry.linf`.
    at: the threshold; at or above it is 1.

  Returns:
    (x with every reachable value flipped, which values are reachable), both [B, H, W, D].
  """
  on = x >= at
  lowest, highest = ball.project(jnp.full_like(x, -2.0), x), ball.project(jnp.full_like(x, 2.0), x)
  reachable = jnp.where(on, lowest < at, highest >= at)
  landing = jnp.where(on, jnp.nextafter(at, jnp.float32(0.0)), at)
  return jnp.where(reachable, landing, x), reachable


def _init(
  keys: Keys, x: Array, goal: Goal, *, ball: geometries.Geometry, at: Array, flips: Array
) -> State:
  del keys
  flipped, reachable = reachable_flips(x, ball, at)
  start = x
  if goal.start is not None:
    start = jnp.where((goal.start >= at) != (x >= at), flipped, x)
  batch = x.shape[:1]
  return State(
    x=x,
    flipped=flipped,
    reachable=reachable,
    x_adv=start,
    loss=jnp.full(batch, -jnp.inf, x.dtype),
    trial=start,
    trial_loss=jnp.full(batch, -jnp.inf, x.dtype),
    gradient=jnp.zeros_like(x),
    banned=jnp.zeros(x.shape, bool),
    flips=jnp.broadcast_to(flips, batch),
    goal=goal._replace(start=None),
    step=jnp.zeros(batch, jnp.int32),
  )


def _flip(state: State, which: Array) -> Array:
  """`x_adv` with the values `which` on the other side of the threshold."""
  here = state.x_adv != state.x
  return jnp.where(which, jnp.where(here, state.x, state.flipped), state.x_adv)


def _greedy_step(
  keys: Keys, state: State, *, objective: Objective, offsets: Array
) -> tuple[State, Info]:
  """Evaluates the trial, keeps it if it gains, and makes the next one."""
  at = query(objective, keys, state.step, state.trial, state.goal)
  success = at.success & jnp.isfinite(at.loss)
  first = state.step == 0
  gains = jnp.isfinite(at.loss) & ((at.loss > state.loss) | success)
  failed = ~gains & ~first
  tried = state.trial != state.x_adv
  single = state.flips == 1
  state = state._replace(
    x_adv=choose(gains, state.trial, state.x_adv),
    loss=jnp.where(gains, at.loss, state.loss),
    gradient=choose(gains, at.gradient, state.gradient),
    banned=choose(gains, jnp.zeros_like(state.banned), state.banned)
    | (tried & expand(failed & single, tried)),
    flips=jnp.where(failed, jnp.maximum(state.flips // 2, 1), len(offsets)),
    step=state.step + 1,
  )
  # The thresholded image changes by ±1, up where the value now is on the lower side.
  upwards = jnp.where(state.x_adv == state.x, state.flipped > state.x, state.x > state.flipped)
  gain = jnp.where(upwards, state.gradient, -state.gradient)
  hopeful = state.reachable & ~state.banned & (gain > 0)
  which = _largest(jnp.where(hopeful, gain, 0.0), state.flips, len(offsets))
  new = state._replace(trial=_flip(state, which))
  nothing_left = ~jnp.any(which, axis=pixels(which))
  return new, info(at._replace(success=success), success | nothing_left)


def _largest(gain: Array, num: Array, most: int) -> Array:
  """Marks the `num` [B] largest positive entries of every example, at most `most`."""
  flat = jnp.reshape(gain, (len(gain), -1))
  values, places = jax.lax.top_k(flat, min(most, flat.shape[1]))
  wanted = (values > 0) & (jnp.arange(values.shape[1])[None, :] < num[:, None])
  marked = jax.vmap(lambda places, wanted: jnp.zeros(flat.shape[1], bool).at[places].set(wanted))
  return jnp.reshape(marked(places, wanted), gain.shape)


def _exhaustive_step(
  keys: Keys, state: State, *, objective: Objective, offsets: Array
) -> tuple[State, Info]:
  """Evaluates a block of flips; at the end of a round, the best one is made if it gains."""
  batch, num = len(state.x), state.x[0].size
  ordinal = jnp.cumsum(jnp.reshape(state.reachable, (batch, num)), axis=1)
  left = ordinal[:, -1]
  # Number 0 of a round is the image as it is, number n the n-th reachable flip.
  numbers = state.flips[:, None] + offsets[None, :]
  counts = numbers <= left[:, None]
  unit = jax.vmap(jnp.searchsorted)(ordinal, numbers)
  which = (jnp.arange(num)[None, None, :] == unit[..., None]) & (numbers >= 1)[..., None]
  which = jnp.reshape(which, (*numbers.shape, *state.x.shape[1:]))
  images = jax.vmap(_flip, in_axes=(None, 1), out_axes=1)(state, which)
  block = first_success.evaluate(objective, keys, state.step, images, counts, state.goal)

  found = jnp.any(block.success, axis=1)
  index = jnp.where(found, jnp.argmax(block.success, axis=1), jnp.argmax(block.score, axis=1))
  score = pick(block.score, index)
  better = found | (score > state.trial_loss)
  trial = choose(better, pick(images, index), state.trial)
  trial_loss = jnp.where(better, score, state.trial_loss)
  ended = (state.flips + len(offsets) > left) | found
  gains = ended & jnp.any(trial != state.x_adv, axis=pixels(trial))
  new = state._replace(
    x_adv=choose(gains, trial, state.x_adv),
    loss=jnp.where(gains, trial_loss, state.loss),
    trial=trial,
    trial_loss=trial_loss,
    flips=jnp.where(ended, 1, state.flips + len(offsets)),
    step=state.step + 1,
  )
  return new, first_success.block_info(block, found | (ended & ~gains))


def _result(state: State) -> Array:
  return state.x_adv
