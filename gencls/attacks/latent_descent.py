"""Latent descent: the nearest image that a decoder makes of a wrong class, then the line towards x.

Every restart takes one wrong class y', the r-th nearest by a few draws from the prior of z, and
descends by Adam in z. While decode(z, y') succeeds it comes nearer to x; while it does not, the
objective's loss grows (a switching subgradient method):

  direction(z) = −∇_z ‖decode(z, y') − x‖                 where decode(z, y') succeeds
                 ∇_z loss(decode(z, y')) / ‖∇_x loss‖₂    elsewhere.

Then a binary search on the line from x to the nearest success of the restart leaves the decoder's
images behind. The attack is of minimum norm; it follows the classes of a generative model where
its gradients in x lead nowhere.

Differs from the latent descent of Schott et al. 2019, who step in x towards the reconstruction of
x, need the model's own inference for it, and stop at the first success.

References:
  Schott et al. 2019, arXiv:1805.09190; switching subgradients: Polyak 1967.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import choose, expand, pixels
from gencls.attacks.geometry import Geometry
from gencls.attacks.objective import Query, info, query
from gencls.attacks.prior_draws import DecodeFn, Sizes, nearest_draws
from gencls.settings import at_least
from gencls.types import Array, Attack, Goal, Info, Keys, Objective

ADAM = optax.scale_by_adam()
FIRST = 2  # steps before the restarts: the start and x


class State(NamedTuple):
  """Where each example stands; R restarts, L the latent's size."""

  x: Array  # [B, H, W, D] the clean image
  start: Array  # [B, H, W, D] evaluated first where the goal has a start
  classes: Array  # [B, R] int32, the wrong class of each restart
  latents: Array  # [B, R, L] its first latent
  z: Array  # [B, L] of this restart
  adam: Any  # its state, every leaf [B, ...]
  anchor: Array  # [B, H, W, D] the nearest success of this restart, x where there is none
  anchor_norm: Array  # [B] its distance, inf where there is none
  low: Array  # [B] share of the way from x to the anchor that fails
  high: Array  # [B] share that succeeds
  best: Array  # [B, H, W, D] the nearest success, x where there is none
  best_norm: Array  # [B] its distance, inf where there is none
  goal: Goal
  step: Array  # [B] int32: 0 evaluates the start, 1 evaluates x, then the restarts


class Plan(NamedTuple):
  """The numbers of the attack: leaves, so that other values do not compile again."""

  step_size: Array
  num_steps: Array
  binary_search_steps: Array
  num_restarts: Array


def latent_descent(
  objective: Objective,
  *,
  decode_fn: DecodeFn,
  latent_size: int,
  num_classes: int,
  norm: str = "l2",
  num_steps: int = 100,
  step_size: float = 0.1,
  binary_search_steps: int = 10,
  num_restarts: int = 1,
  num_draws: int = 10,
) -> Attack:
  """The nearest wrong image by way of a decoder's latent.

  Args:
    objective: what succeeds, and the loss where nothing does yet; see `objective.build`.
    decode_fn: (keys [B], z [B, L], y [B]) -> images, a `Partial` of its parameters or a plain
      function; `Decoder.decode` with its parameters bound. Clipped to the box.
    latent_size: L.
    num_classes: C.
    norm: the distance to minimise, a name in `geometry.GEOMETRIES`.
    num_steps: descent steps per restart.
    step_size: of Adam in z, falling to 0 as a cosine; z has the prior N(0, I).
    binary_search_steps: queries on the line from x to the nearest success of each restart; 0
      leaves the result an image of the decoder.
    num_restarts: wrong classes to try, from the nearest; an example with a target has one.
    num_draws: prior draws per class, of which the nearest image starts the descent.

  Returns:
    An `Attack` of minimum norm. Its first steps evaluate the goal's start, where there is one, and
    x itself.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  at_least(1, num_steps=num_steps, num_restarts=num_restarts, num_draws=num_draws)
  at_least(1, latent_size=latent_size)
  at_least(2, num_classes=num_classes)
  at_least(0, binary_search_steps=binary_search_steps)
  if num_restarts >= num_classes:
    raise ValueError(
      f"num_restarts is the number of wrong classes to try, at most num_classes - 1 = "
      f"{num_classes - 1}, got {num_restarts}"
    )
  if not (math.isfinite(step_size) and step_size > 0):
    raise ValueError(f"step_size must be a finite number > 0, got {step_size}")
  ball = geometries.build(norm, 0.0)
  plan = Plan(
    step_size=jnp.float32(step_size),
    num_steps=jnp.int32(num_steps),
    binary_search_steps=jnp.int32(binary_search_steps),
    num_restarts=jnp.int32(num_restarts),
  )
  decode = decode_fn if isinstance(decode_fn, Partial) else Partial(decode_fn)
  draws = {
    "sizes": Sizes(latent_size, num_classes, num_restarts),
    "num_draws": jnp.int32(num_draws),
  }
  return Attack(
    init=Partial(_init, decode=decode, ball=ball, **draws),
    step=Partial(_step, objective=objective, decode=decode, ball=ball, plan=plan),
    result=Partial(_result),
    num_steps=FIRST + num_restarts * (num_steps + binary_search_steps),
  )


def _init(
  keys: Keys,
  x: Array,
  goal: Goal,
  *,
  decode: DecodeFn,
  ball: Geometry,
  sizes: Sizes,
  num_draws: Array,
) -> State:
  latents, distance = nearest_draws(keys, x, decode, ball.norm, sizes, num_draws)
  classes = jnp.arange(sizes.num_classes)[None, :]
  targeted = (goal.target >= 0)[:, None]
  wrong = jnp.where(targeted, classes == goal.target[:, None], classes != goal.label[:, None])
  distance = jnp.where(wrong, jnp.minimum(distance, jnp.finfo(x.dtype).max), jnp.inf)
  order = jnp.argsort(distance, axis=1)[:, : sizes.num_restarts]
  order = jnp.where(targeted, goal.target[:, None], order).astype(jnp.int32)
  latents = jnp.take_along_axis(latents, order[:, :, None], axis=1)
  batch = x.shape[:1]
  nothing = jnp.full(batch, jnp.inf, x.dtype)
  return State(
    x=x,
    start=x if goal.start is None else jnp.clip(goal.start, 0.0, 1.0),
    classes=order,
    latents=latents,
    z=latents[:, 0],
    adam=jax.vmap(ADAM.init)(latents[:, 0]),
    anchor=x,
    anchor_norm=nothing,
    low=jnp.zeros(batch, x.dtype),
    high=jnp.ones(batch, x.dtype),
    best=x,
    best_norm=nothing,
    goal=goal._replace(start=None),
    step=jnp.full(batch, 1 if goal.start is None else 0, jnp.int32),
  )


def _step(
  keys: Keys, state: State, *, objective: Objective, decode: DecodeFn, ball: Geometry, plan: Plan
) -> tuple[State, Info]:
  """Evaluates the start, x, an image of the decoder or a point of the line, and moves on."""
  per_restart = plan.num_steps + plan.binary_search_steps
  restart, move = jnp.divmod(state.step - FIRST, per_restart)
  first, descending = state.step < FIRST, move < plan.num_steps
  y = jnp.take_along_axis(state.classes, jnp.maximum(restart, 0)[:, None], axis=1)[:, 0]

  def image(z: Array) -> Array:
    return jnp.clip(decode(keys, z, y), 0.0, 1.0)

  decoded, pullback = jax.vjp(image, state.z)
  middle = 0.5 * (state.low + state.high)
  on_line = jnp.clip(state.x + expand(middle, state.x) * (state.anchor - state.x), 0.0, 1.0)
  point = choose(descending, decoded, on_line)
  point = choose(first, choose(state.step == 0, state.start, state.x), point)
  finite = jnp.all(jnp.isfinite(point), axis=pixels(point))
  point = choose(finite, point, state.x)
  at = query(objective, keys, state.step, point, state.goal)
  at = at._replace(nonfinite=at.nonfinite | ~finite, success=at.success & finite)

  state = _descend(state, at, pullback, point, ball, plan, descending & ~first, move)
  state = _keep(state, at, point, ball.norm(point - state.x), descending, first)
  clean = (state.step == 1) & at.success
  step = state.step + 1
  # Without an anchor there is no line to search.
  restart, move = jnp.divmod(step - FIRST, per_restart)
  lost = (step >= FIRST) & (move == plan.num_steps) & ~jnp.isfinite(state.anchor_norm)
  step = jnp.where(lost, step + plan.binary_search_steps, step)
  state = _next_restart(state._replace(step=step), plan, per_restart)
  restarts = jnp.where(state.goal.target >= 0, 1, plan.num_restarts)
  return state, info(at, clean | (step >= FIRST + restarts * per_restart))


def _descend(
  state: State,
  at: Query,
  pullback: Callable[[Array], tuple[Array]],
  point: Array,
  ball: Geometry,
  plan: Plan,
  descending: Array,
  move: Array,
) -> State:
  """One step of Adam in z."""
  nearer = -jax.grad(lambda image: jnp.sum(ball.norm(image - state.x)))(point)
  nearer = jnp.where(jnp.isfinite(nearer), nearer, 0.0)  # the norm has no gradient at 0
  stronger = geometries.l2(0.0).steepest(at.gradient)
  (ascent,) = pullback(choose(at.success, nearer, stronger))
  usable = descending & (at.success | at.usable) & jnp.all(jnp.isfinite(ascent), axis=1)
  ascent = jnp.where(usable[:, None], ascent, 0.0)
  updates, adam = jax.vmap(lambda g, s: ADAM.update(g, s))(ascent, state.adam)
  progress = move.astype(jnp.float32) / plan.num_steps
  size = plan.step_size * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
  z = jnp.where(usable[:, None], state.z + size[:, None] * jnp.asarray(updates), state.z)
  return state._replace(z=z, adam=choose(usable, adam, state.adam))


def _keep(
  state: State, at: Query, point: Array, norm: Array, descending: Array, first: Array
) -> State:
  """Remembers the nearest success, of all and of this restart, and halves the line."""
  best = at.success & (norm < state.best_norm)
  anchor = at.success & (descending | first) & (norm < state.anchor_norm)
  middle = 0.5 * (state.low + state.high)
  searching = ~descending & ~first
  return state._replace(
    best=choose(best, point, state.best),
    best_norm=jnp.where(best, norm, state.best_norm),
    anchor=choose(anchor, point, state.anchor),
    anchor_norm=jnp.where(anchor, norm, state.anchor_norm),
    high=jnp.where(searching & at.success, middle, state.high),
    low=jnp.where(searching & ~at.success, middle, state.low),
  )


def _next_restart(state: State, plan: Plan, per_restart: Array) -> State:
  """Takes the next class where a restart is over."""
  restart, move = jnp.divmod(state.step - FIRST, per_restart)
  over = (move == 0) & (restart >= 1) & (restart < plan.num_restarts)
  at = jnp.minimum(jnp.maximum(restart, 0), state.latents.shape[1] - 1)
  z = jnp.take_along_axis(state.latents, at[:, None, None], axis=1)[:, 0]
  return state._replace(
    z=choose(over, z, state.z),
    adam=choose(over, jax.vmap(ADAM.init)(state.z), state.adam),
    anchor=choose(over, state.x, state.anchor),
    anchor_norm=jnp.where(over, jnp.inf, state.anchor_norm),
    low=jnp.where(over, 0.0, state.low),
    high=jnp.where(over, 1.0, state.high),
  )


def _result(state: State) -> Array:
  return state.best
