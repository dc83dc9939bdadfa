"""Flips of single pixels for models that binarise their input (ℓ∞, ℓ2, ℓ1).

A model that sees only whether x >= at changes its mind only where a pixel crosses the threshold.
Within eps that can be

  a pixel below at:    x + eps >= at, and the nearest value that flips it is at itself,
  a pixel at or above: x − eps < at,  and the nearest value that flips it is the next float below,

so the attack is a search over these reachable pixels, whatever the grey values are. The result has
these nearest values at the flipped pixels and x elsewhere. Being in the ball is decided in float32
as `geometry.linf` has it, with no tolerance: at = eps = 0.5 turns black pixels on, but no white
one off.

In ℓ2 and ℓ1 a flip costs |value − x|^p of a budget of eps^p, and within it any pixel is reachable.

Greedy: the flips of the largest first-order gain through the straight-through estimator (for what
they cost, where they cost) are tried first; one that does not raise the loss is taken back and not
tried again at this image. Where the loss is linear in the binary image, the first-order gain is the
gain, and in ℓ2 and ℓ1 this is the greedy solution of a knapsack problem, which misses less than the
first flip that does not fit is worth. Exhaustive: every reachable flip is evaluated and the best
one made, for models without such a gradient; ℓ∞ only.

References:
  Schott et al. 2019, arXiv:1805.09190 (binarised models); Athalye et al. 2018, arXiv:1802.00420
  (straight-through gradients).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import first_success, rivals
from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, expand, pick, pixels
from gencls.attacks.objective import info, query, stops_early
from gencls.names import unknown_name
from gencls.straight_through import DEFAULT_THRESHOLD, check_threshold
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

METHODS = ("greedy", "exhaustive")
NORMS = ("linf", "l2", "l1")
_POWER = {"l2": 2, "l1": 1}  # of a change, in its cost
_TINY = 1e-12
_INSIDE = 1 - 1e-6  # of the budget, so that rounding leaves no image outside the ball


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  flipped: Array  # [B, H, W, D] the reachable values as they are after a flip
  reachable: Array  # [B, H, W, D] bool
  cost: Array  # [B, H, W, D] what a flip takes of the budget; 1 where there is none
  x_adv: Array  # [B, H, W, D] the best image of this run
  loss: Array  # [B] its loss, −inf before it is evaluated
  trial: Array  # [B, H, W, D] greedy: the image to evaluate next; exhaustive: the best of the round
  trial_loss: Array  # [B] exhaustive: its loss
  gradient: Array  # [B, H, W, D] greedy: at `x_adv`
  banned: Array  # [B, H, W, D] bool, greedy: tried from `x_adv` without gain
  best: Array  # [B, H, W, D] the best image of all runs
  best_loss: Array  # [B] its loss
  targets: Array  # [B, T] greedy: the classes of the runs
  run: Array  # [B] int32
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
  num_targets: int = 0,
  at: float = DEFAULT_THRESHOLD,
  block_size: int | None = None,
) -> Attack:
  """Flips reachable pixels of a thresholded image until the model is fooled.

  Args:
    objective: what to maximise, of a model that thresholds its input; for "greedy" through
      `gencls.straight_through`.
    norm: "linf", or for "greedy" also "l2" and "l1".
    eps: radius of the ball.
    num_steps: model calls after which an example ends with the image of the largest loss, for each
      of `num_targets`; most end by themselves, with a success (not under fresh draws, where that is
      the luck of one query) or where no flip is left to gain by.
    method: a name in `METHODS`.
    flips_per_step: greedy: how many flips to try at once, >= 1. A trial without gain is halved; 1
      finds fewer flips, more need fewer steps.
    num_targets: greedy: 0 pursues the nearest class. n > 0 pursues the n classes that the clean
      logits rank highest after the label, from the clean image one after the other: what is enough
      flips for the nearest need not be for another. A targeted example has its own target.
    at: the model's threshold, in (0, 1].
    block_size: exhaustive: values per example and model call; None chooses by backend.

  Returns:
    A fixed-budget `Attack`.

  Raises:
    ValueError: if a name is unknown or a number is out of its range.
  """
  if norm not in NORMS:
    raise ValueError(unknown_name("norm", norm, NORMS))
  if method not in METHODS:
    raise ValueError(unknown_name("method", method, METHODS))
  if method == "exhaustive" and num_targets:
    raise ValueError(
      f"num_targets={num_targets} is for method='greedy'; 'exhaustive' pursues the nearest class: "
      "leave num_targets=0"
    )
  if method == "exhaustive" and norm != "linf":
    raise ValueError(
      f"method='exhaustive' keeps no budget: norm must be 'linf', got {norm!r}; use method='greedy'"
    )
  if num_steps < 1 or flips_per_step < 1 or num_targets < 0:
    raise ValueError(
      "num_steps and flips_per_step must be >= 1 and num_targets >= 0, got "
      f"{num_steps}, {flips_per_step} and {num_targets}"
    )
  check_threshold(at)
  ball = geometries.build(norm, eps)
  if method == "greedy":
    function, num = _greedy_step, flips_per_step
  else:
    function, num = _exhaustive_step, first_success.check_block_size(block_size)
  parts: dict[str, Any] = {"offsets": jnp.arange(num, dtype=jnp.int32)}
  power = _POWER.get(norm)
  budget = jnp.float32(jnp.inf) if power is None else _INSIDE * ball.eps**power
  if method == "greedy":
    stop = jnp.bool_(stops_early(objective, None))
    parts |= {"budget": budget, "num_targets": jnp.int32(num_targets), "stop": stop}
  start = Partial(_linf_flips, ball) if power is None else Partial(_costly_flips, power, budget)
  return Attack(
    init=Partial(
      _init,
      flips_of=start,
      budget=budget,
      at=jnp.float32(at),
      flips=jnp.int32(method == "greedy"),
      ranked_by=objective if method == "greedy" and num_targets else None,
    ),
    step=Partial(function, objective=objective, **parts),
    result=Partial(_result),
    num_steps=num_steps * max(num_targets, 1),
  )


class Flips(NamedTuple):
  """Which values of an image can cross the threshold in a ball, [B, H, W, D] each."""

  flipped: Array  # x with every reachable value flipped
  reachable: Array  # bool
  cost: Array  # of each flip


def _landing(x: Array, at: Array) -> Array:
  """The nearest values on the other side of the threshold; at or above it is 1."""
  return jnp.where(x >= at, jnp.nextafter(at, jnp.float32(0.0)), at)


def _linf_flips(ball: geometries.Geometry, x: Array, at: Array) -> Flips:
  lowest, highest = ball.project(jnp.full_like(x, -2.0), x), ball.project(jnp.full_like(x, 2.0), x)
  reachable = jnp.where(x >= at, lowest < at, highest >= at)
  return Flips(jnp.where(reachable, _landing(x, at), x), reachable, jnp.ones_like(x))


def _costly_flips(power: Array, budget: Array, x: Array, at: Array) -> Flips:
  landing = _landing(x, at)
  cost = jnp.abs(landing - x) ** power
  reachable = cost <= budget
  return Flips(jnp.where(reachable, landing, x), reachable, cost)


def _init(
  keys: Keys,
  x: Array,
  goal: Goal,
  *,
  flips_of: Callable[[Array, Array], Flips],
  budget: Array,
  at: Array,
  flips: Array,
  ranked_by: Objective | None,
) -> State:
  flipped, reachable, cost = flips_of(x, at)
  start = x
  if goal.start is not None:
    wanted = reachable & ((goal.start >= at) != (x >= at))
    cheap = jnp.where(wanted, 1.0 / jnp.maximum(cost, _TINY), 0.0)
    room, every = jnp.broadcast_to(budget, x.shape[:1]), x[0].size
    start = jnp.where(_largest(cheap, cost, room, jnp.full(x.shape[:1], every), every), flipped, x)
  batch = x.shape[:1]
  targets = jnp.zeros((*batch, 0), jnp.int32)
  if ranked_by is not None:
    targets = rivals.ranked(ranked_by, keys, x, goal)
  return State(
    x=x,
    flipped=flipped,
    reachable=reachable,
    cost=cost,
    x_adv=start,
    loss=jnp.full(batch, -jnp.inf, x.dtype),
    trial=start,
    trial_loss=jnp.full(batch, -jnp.inf, x.dtype),
    gradient=jnp.zeros_like(x),
    banned=jnp.zeros(x.shape, bool),
    best=start,
    best_loss=jnp.full(batch, -jnp.inf, x.dtype),
    targets=targets,
    run=jnp.zeros(batch, jnp.int32),
    flips=jnp.broadcast_to(flips, batch),
    goal=goal._replace(start=None),
    step=jnp.zeros(batch, jnp.int32),
  )


def _flip(state: State, which: Array) -> Array:
  """`x_adv` with the values `which` on the other side of the threshold."""
  here = state.x_adv != state.x
  return jnp.where(which, jnp.where(here, state.x, state.flipped), state.x_adv)


def _greedy_step(
  keys: Keys,
  state: State,
  *,
  objective: Objective,
  offsets: Array,
  budget: Array,
  num_targets: Array,
  stop: Array,
) -> tuple[State, Info]:
  """Evaluates the trial, keeps it if it gains, and makes the next one or starts the next run."""
  at = query(objective, keys, state.step, state.trial, state.goal, _pursued(state))
  success = at.success & jnp.isfinite(at.loss)
  ends = success & stop
  first = state.loss == -jnp.inf
  gains = jnp.isfinite(at.loss) & ((at.loss > state.loss) | ends)
  failed = ~gains & ~first
  tried = state.trial != state.x_adv
  count = jnp.sum(tried, axis=pixels(tried), dtype=jnp.int32)  # fewer than asked for where few fit
  best = ends | (jnp.isfinite(at.loss) & (at.loss > state.best_loss))
  state = state._replace(
    x_adv=choose(gains, state.trial, state.x_adv),
    loss=jnp.where(gains, at.loss, state.loss),
    gradient=choose(gains, at.gradient, state.gradient),
    banned=choose(gains, jnp.zeros_like(state.banned), state.banned)
    | (tried & expand(failed & (count == 1), tried)),
    flips=jnp.where(failed, jnp.maximum(count // 2, 1), len(offsets)),
    best=choose(best, state.trial, state.best),
    best_loss=jnp.where(best, at.loss, state.best_loss),
    step=state.step + 1,
  )
  which = _next_flips(state, budget, len(offsets))
  nothing_left = ~jnp.any(which, axis=pixels(which))
  state = state._replace(trial=_flip(state, which))
  runs = jnp.minimum(num_targets, state.targets.shape[1])
  again = nothing_left & ~ends & (state.run + 1 < runs) & (state.goal.target < 0)
  ranked = (state.step == 1) & (state.targets.shape[1] > 0)
  report = info(at._replace(success=success), ends | (nothing_left & ~again))
  report = report._replace(forward=report.forward + ranked)  # the pass that ranked the classes
  return choose(again, _started_again(state, len(offsets)), state), report


def _started_again(state: State, flips: int) -> State:
  """The clean image, to be evaluated for the next class."""
  return state._replace(
    x_adv=state.x,
    loss=jnp.full_like(state.loss, -jnp.inf),
    trial=state.x,
    gradient=jnp.zeros_like(state.gradient),
    banned=jnp.zeros_like(state.banned),
    flips=jnp.full_like(state.flips, flips),
    run=state.run + 1,
  )


def _pursued(state: State) -> Array | None:
  """[B] the class of the run; None where it is the goal's own."""
  if not state.targets.shape[1]:
    return None
  own = jnp.take_along_axis(state.targets, state.run[:, None], axis=1)[:, 0]
  return jnp.where(state.goal.target >= 0, state.goal.target, own)


def _next_flips(state: State, budget: Array, most: int) -> Array:
  """[B, H, W, D] the flips of the next trial: the most worth, within what is left."""
  there = state.x_adv != state.x
  # The thresholded image changes by ±1, up where the value now is on the lower side.
  upwards = jnp.where(there, state.x > state.flipped, state.flipped > state.x)
  gain = jnp.where(upwards, state.gradient, -state.gradient)
  left = budget - jnp.sum(jnp.where(there, state.cost, 0.0), axis=pixels(there))
  affordable = there | (state.cost <= expand(left, there))
  hopeful = state.reachable & ~state.banned & (gain > 0) & affordable
  # Where flips cost, one back gives its cost back, and comes first.
  cost = jnp.where(there, -state.cost, state.cost)
  worth = gain / jnp.maximum(jnp.where(there & jnp.isfinite(budget), 0.0, state.cost), _TINY)
  return _largest(jnp.where(hopeful, worth, 0.0), cost, left, state.flips, most)


def _largest(worth: Array, cost: Array, left: Array, num: Array, most: int) -> Array:
  """Marks the `num` [B] largest positive entries of every example, at most `most`.

  Less where their costs, from the largest on, add up to more than is `left` [B].
  """
  flat = jnp.reshape(worth, (len(worth), -1))
  values, places = jax.lax.top_k(flat, min(most, flat.shape[1]))
  spent = jnp.cumsum(jnp.take_along_axis(jnp.reshape(cost, flat.shape), places, axis=1), axis=1)
  wanted = (values > 0) & (jnp.arange(values.shape[1])[None, :] < num[:, None])
  wanted &= spent <= left[:, None]
  marked = jax.vmap(lambda places, wanted: jnp.zeros(flat.shape[1], bool).at[places].set(wanted))
  return jnp.reshape(marked(places, wanted), worth.shape)


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
  new = new._replace(best=new.x_adv, best_loss=new.loss)
  return new, first_success.block_info(block, found | (ended & ~gains))


def _result(state: State) -> Array:
  return state.best
