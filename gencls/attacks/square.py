"""The square attack: random search with squares of decreasing size, from the loss alone.

A candidate differs from the best image so far in one square window and takes its place where its
loss is larger. In ℓ∞ the window is set to x ± eps, one sign per channel, from vertical stripes
± eps on; in ℓ2 the energy of a second window goes into a bump (a pattern of two pyramids of
opposite sign) in the first, from a grid of such bumps on. The window has a share p of the pixels,
p_init at first, which is halved at the iterations of `HALVED_AT`.

References:
  Andriushchenko et al. 2020, arXiv:1912.00049.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, expand
from gencls.attacks.geometry import Geometry
from gencls.attacks.objective import forward_info, stops_early
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Attack, Goal, Info, Key, Keys, Objective

# Of 10000 iterations; `rescale` stretches them to num_steps.
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class State(NamedTuple):
  """Where each example stands."""

  x: Array  # [B, H, W, D] the clean image
  x_adv: Array  # [B, H, W, D] the best of the restart; x before the first query
  best_loss: Array  # [B] its loss, −inf before the first query of a restart
  found: Array  # [B] bool, it succeeds
  goal: Goal
  query: Array  # [B] int32, images evaluated over all restarts


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  num_steps: Array
  num_restarts: Array
  p_init: Array
  stretch: Array  # factor from iterations to those of HALVED_AT
  early_stop: Array


class Moves(NamedTuple):
  """What the norm decides."""

  start: Partial  # (keys, x, ball) -> the first image of a restart
  change: Partial  # (keys, x, x_adv, p [B], ball) -> a candidate


def square(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_steps: int = 5000,
  num_restarts: int = 1,
  p_init: float = 0.8,
  rescale: bool = False,
  early_stop: bool | None = None,
) -> Attack:
  """The square attack, in a ball of given eps.

  Args:
    objective: what to maximise; the margin is the loss of the paper, see `objective.build`.
    norm: "linf" or "l2".
    eps: radius of the ball.
    num_steps: candidates per restart after its first image, >= 1.
    num_restarts: runs from different first images, 1 is a single run.
    p_init: share of the pixels in the first windows, in (0, 1].
    rescale: whether the schedule of p, made for 10000 iterations, is stretched to num_steps.
      AutoAttack does not.
    early_stop: whether an example is done at its first success. If not, the success of the largest
      loss is sought, and there are no more restarts once there is one. None: under fixed randomness
      only, see `objective.stops_early`.

  Returns:
    An `Attack` of num_restarts · (num_steps + 1) queries.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  if norm not in MOVES:
    raise ValueError(unknown_name("norm", norm, MOVES))
  ball = geometries.build(norm, eps)
  if num_steps < 1 or num_restarts < 1:
    raise ValueError(
      f"num_steps and num_restarts must be >= 1, got {num_steps} and {num_restarts} "
      "(num_restarts=1 is a single run)"
    )
  if not 0 < p_init <= 1:
    raise ValueError(f"p_init must be in (0, 1], got {p_init}")
  plan = Plan(
    num_steps=jnp.int32(num_steps),
    num_restarts=jnp.int32(num_restarts),
    p_init=jnp.float32(p_init),
    stretch=jnp.float32(10000 / num_steps if rescale else 1.0),
    early_stop=jnp.bool_(stops_early(objective, early_stop)),
  )
  return Attack(
    init=Partial(_init),
    step=Partial(_step, objective=objective, ball=ball, moves=MOVES[norm], plan=plan),
    result=Partial(_result),
    num_steps=num_restarts * (num_steps + 1),
  )


def _init(keys: Keys, x: Array, goal: Goal) -> State:
  del keys
  zero = jnp.zeros(len(x), jnp.int32)
  return State(x, x, jnp.full(len(x), -jnp.inf, x.dtype), zero > 0, goal, zero)


def _step(
  keys: Keys, state: State, *, objective: Objective, ball: Geometry, moves: Moves, plan: Plan
) -> tuple[State, Info]:
  """Evaluates one candidate, and keeps it where it is better."""
  move = state.query % (plan.num_steps + 1) - 1  # −1: the first image of a restart
  fresh = (move < 0) & ~state.found
  drawn = fold(keys, "square", state.query)
  progress = jnp.floor(jnp.maximum(move, 0) * plan.stretch)
  halvings = jnp.sum(progress[:, None] > jnp.asarray(HALVED_AT)[None, :], axis=1)
  changed = moves.change(drawn, state.x, state.x_adv, plan.p_init * 0.5**halvings, ball)

  def start() -> Array:
    first = moves.start(drawn, state.x, ball)
    if state.goal.start is None:
      return first
    given = ball.project(state.goal.start, state.x)
    return choose(state.query == 0, given, first)

  begun = jax.lax.cond(jnp.any(fresh), start, lambda: state.x)
  at = choose(fresh, begun, changed)
  loss, success = objective(keys, state.query, at, state.goal)

  larger = jnp.isfinite(loss) & (loss > jnp.where(fresh, -jnp.inf, state.best_loss))
  kept = jnp.where(state.found, success & larger, success | larger)
  query = state.query + 1
  new = state._replace(
    # A first image whose loss is not finite is no image to go on from.
    x_adv=choose(kept, at, choose(fresh, state.x, state.x_adv)),
    best_loss=jnp.where(kept, loss, jnp.where(fresh, -jnp.inf, state.best_loss)),
    found=state.found | success,
    query=query,
  )
  spent = query >= plan.num_restarts * (plan.num_steps + 1)
  last = query % (plan.num_steps + 1) == 0
  done = spent | new.found & (plan.early_stop | last)
  return new, forward_info(loss, success, done)


def _signs(key: Key, shape: tuple[int, ...]) -> Array:
  return jax.random.rademacher(key, shape, jnp.float32)


def _stripes(keys: Keys, x: Array, ball: Geometry) -> Array:
  """x ± eps, one sign per column and channel."""
  width, depth = x.shape[2:]
  signs = jax.vmap(lambda key: _signs(key, (1, width, depth)))(keys)
  return ball.project(x + expand(ball.eps, x) * signs, x)


def _set_square(keys: Keys, x: Array, x_adv: Array, p: Array, ball: Geometry) -> Array:
  """One window set to x ± eps, one sign per channel."""
  side = _side(x, p, least=1)
  draws = jax.vmap(lambda key: jax.random.uniform(key, (2 + x.shape[3],)))(keys)
  inside = _window(x, side, draws[:, :2])[0]
  signs = jnp.where(draws[:, 2:] < 0.5, -1.0, 1.0)[:, None, None, :]
  return ball.project(jnp.where(inside, x + expand(ball.eps, x) * signs, x_adv), x)


def _side(x: Array, p: Array, least: int) -> Array:
  """The side of a window with a share p of the pixels, [B] int32."""
  height, width = x.shape[1:3]
  side = jnp.round(jnp.sqrt(p * height * width)).astype(jnp.int32)
  return jnp.minimum(jnp.maximum(side, least), min(height, width))


def _window(x: Array, side: Array, draws: Array) -> tuple[Array, Array, Array]:
  """A window anywhere: (mask, row, column), the last two counted from its corner; [B, H, W, 1]."""
  height, width = x.shape[1:3]
  # Differs from the authors' code, in which the last row and column are never in a window.
  room = jnp.stack([height - side + 1, width - side + 1], axis=1)
  corner = jnp.minimum(jnp.floor(draws * room), room - 1).astype(jnp.int32)
  row = jnp.arange(height)[None, :, None, None] - corner[:, 0, None, None, None]
  column = jnp.arange(width)[None, None, :, None] - corner[:, 1, None, None, None]
  size = side[:, None, None, None]
  inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
  row, column = jnp.broadcast_arrays(row, column)
  return inside, row, column


def _tiles(keys: Keys, x: Array, ball: Geometry) -> Array:
  """A grid of about 5 × 5 bumps, each up or down and turned or not, of length eps in all."""
  height, width, depth = x.shape[1:]
  side = max(min(height, width) // 5, 1)
  row, column = (jnp.asarray(v)[None, :, :, None] for v in np.mgrid[:side, :side])
  bump = _bump(row >= 0, row, column, jnp.full(1, side))[0, :, :, 0]
  rows, columns = height // side, width // side

  def grid(key: Key) -> Array:
    which, sign = jax.random.split(key)
    turned = jax.random.bernoulli(which, shape=(rows, 1, columns, 1, 1))
    one = jnp.where(turned, bump.T[None, :, None, :, None], bump[None, :, None, :, None])
    tiles = one * _signs(sign, (rows, 1, columns, 1, depth))
    return jnp.reshape(tiles, (rows * side, columns * side, depth))

  rest = [(n - k * side) for n, k in ((height, rows), (width, columns))]
  border = [(0, 0), *((r // 2, r - r // 2) for r in rest), (0, 0)]
  return ball.project(_of_length_eps(jnp.pad(jax.vmap(grid)(keys), border), x, ball), x)


def _move_energy(keys: Keys, x: Array, x_adv: Array, p: Array, ball: Geometry) -> Array:
  """The energy of both windows, and what eps leaves, goes into a bump in the first window."""
  side = _side(x, p, least=3)
  # Odd, and not larger than the image.
  side = side - (side % 2 == 0) * jnp.where(side < min(x.shape[1:3]), -1, 1)
  draws = jax.vmap(lambda key: jax.random.uniform(key, (5 + x.shape[3],)))(keys)
  first, row, column = _window(x, side, draws[:, 0:2])
  second = _window(x, side, draws[:, 2:4])[0]
  turned = draws[:, 4, None, None, None] < 0.5
  row, column = jnp.where(turned, column, row), jnp.where(turned, row, column)
  signs = jnp.where(draws[:, 5:] < 0.5, -1.0, 1.0)[:, None, None, :]

  delta = x_adv - x
  # Per channel, as in the paper's code; AutoAttack's sums `within` over the channels.
  within = jnp.sum(jnp.where(first | second, jnp.square(delta), 0.0), axis=(1, 2), keepdims=True)
  left = jnp.maximum(expand(jnp.square(ball.eps), x) - jnp.sum(
    jnp.square(delta), axis=(1, 2, 3), keepdims=True), 0.0)  # fmt: skip
  shape = _bump(first, row, column, side) * signs + _unit(jnp.where(first, delta, 0.0))
  bump = _unit(shape) * jnp.sqrt(left / x.shape[3] + within)
  moved = jnp.where(first, bump, jnp.where(second, 0.0, delta))
  return ball.project(_of_length_eps(moved, x, ball), x)


def _bump(inside: Array, row: Array, column: Array, side: Array) -> Array:
  """Two pyramids of opposite sign, one above the other, of length 1 in all.

  Each has Σ_{k > r} 1/k² at Chebyshev distance r of its middle, up to its largest distance.
  """
  side = side[:, None, None, None]
  half = side // 2
  upper = row < half
  height = jnp.where(upper, half, side - half)
  middle = jnp.maximum(
    jnp.abs(jnp.where(upper, row, row - half) - height // 2), jnp.abs(column - side // 2)
  )
  largest = jnp.maximum(height // 2, side // 2) + 1
  sums = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, max(inside.shape) + 2) ** 2)])
  table = jnp.asarray(sums, jnp.float32)
  value = jnp.where(inside, table[largest] - table[jnp.clip(middle, 0, len(sums) - 1)], 0.0)
  up, down = jnp.where(upper, value, 0.0), jnp.where(upper, 0.0, value)
  return _unit(_unit(up) - _unit(down))


def _unit(images: Array) -> Array:
  """Every channel scaled to length 1; 0 stays 0."""
  size = jnp.sqrt(jnp.sum(jnp.square(images), axis=(1, 2), keepdims=True))
  return images / jnp.where(size == 0, 1.0, size)


def _of_length_eps(delta: Array, x: Array, ball: Geometry) -> Array:
  return x + expand(ball.eps, x) * ball.steepest(delta)


def _result(state: State) -> Array:
  return state.x_adv


MOVES: dict[str, Any] = {
  "linf": Moves(Partial(_stripes), Partial(_set_square)),
  "l2": Moves(Partial(_tiles), Partial(_move_energy)),
}
