"""The class boundaries seen from a point, linearised: one forward and K backward passes.

Boundary k lies where the logits of two classes are equal, f_k = z_towards − z_away = 0. Untargeted,
f_k = z_k − z_label, and crossing any one of them suffices: the nearest counts. Targeted, f_k =
z_target − z_k, and all of them have to be crossed: the farthest counts.

The backward passes are one `vmap` of the pullback. Measured on two CPU cores with 9 passes of the
MNIST CNN, batches of 16 / 64 / 128: vmap 21 / 101 / 198 ms, unrolled 21 / 100 / 197 (and more than
twice the time to compile), `lax.map` 30 / 92 / 172, the batch repeated 9 times 38 / 156 / 345; one
pass with its forward pass 6 / 18 / 39.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gencls.attacks.broadcast import choose, expand, pixels
from gencls.attacks.losses import margin
from gencls.attacks.objective import Query, class_scores
from gencls.types import Array, Goal, Keys, Objective

# The attacks that go by the margins between classes, whatever their loss: what else has to hold
# they do not pursue.
ATTACKS = ("deepfool", "fab", "separable")


class Plane(NamedTuple):
  """The boundary that counts, linearised: f(origin + δ) = value + w·δ."""

  at: Query  # its gradient is w [B, H, W, D], zero where it is not finite; its loss is the margin
  origin: Array  # [B, H, W, D] the point, or where it is a success, the one drawn back
  value: Array  # [B] f at the origin, negative before the boundary; zero where it is not finite
  logits: Array  # [B, C]
  backward: int  # K


def plane(
  objective: Objective,
  keys: Keys,
  step: Array,
  x_adv: Array,
  goal: Goal,
  *,
  rivals: Callable[[Array], Array],
  dual_norm: Callable[[Array], Array],
  back: Array | None = None,
) -> Plane:
  """Evaluates a point and linearises the boundary that counts.

  Args:
    objective: made by `objective.build`.
    keys: [B] typed keys.
    step: [B] int32, the example's query count.
    x_adv: [B, H, W, D].
    goal: what the attack is after.
    rivals: logits [B, C] -> [B, K] int32, the classes on the other side of the boundaries: those to
      reach where untargeted, those to leave behind where targeted.
    dual_norm: [B, ...] -> [B], in which |f| / ||w|| is a boundary's distance.
    back: [B, H, W, D], for points that are a success: from where the distances are measured,
      on the boundaries linearised at the point itself.

  Returns:
    A `Plane`.

  Raises:
    ValueError: if the objective was not made by `objective.build`.
  """

  def scores(x: Array) -> tuple[Array, Array]:
    return class_scores(objective, keys, step, x, goal)

  logits, pullback, success = jax.vjp(scores, x_adv, has_aux=True)
  classes, targeted = rivals(logits), goal.target[:, None] >= 0
  towards = jnp.where(targeted, goal.target[:, None], classes)
  away = jnp.where(targeted, classes, goal.label[:, None])
  difference = _one_hot(towards, logits) - _one_hot(away, logits)  # [B, K, C]
  gradients = jax.vmap(lambda row: pullback(row)[0], in_axes=1, out_axes=1)(difference)
  values = _at(logits, towards) - _at(logits, away)

  finite = jnp.isfinite(gradients)
  usable = jnp.all(finite, axis=pixels(gradients)) & jnp.all(jnp.isfinite(logits), axis=1)
  origin = x_adv if back is None else choose(success, back, x_adv)
  if back is not None:
    values = values + jnp.sum(gradients * (origin - x_adv)[:, None], axis=pixels(gradients)[1:])
  sizes = dual_norm(jnp.reshape(gradients, (-1, *x_adv.shape[1:]))).reshape(values.shape)
  which = _counting(values, sizes, targeted)
  value = jnp.take_along_axis(values, which, axis=1)[:, 0]
  w = jnp.take_along_axis(gradients, expand(which[:, 0], gradients), axis=1)[:, 0]
  w = jnp.where(expand(usable, w), w, 0.0)
  loss = margin(logits, goal)
  at = Query(
    loss=loss,
    success=success,
    gradient=w,
    usable=usable,
    nonfinite=~usable,
    zero_gradient=usable & jnp.all(w == 0, axis=pixels(w)),
  )
  return Plane(at, origin, jnp.where(usable, value, 0.0), logits, classes.shape[1])


def largest_others(logits: Array, goal: Goal, num: int) -> Array:
  """The classes of the largest logits but the label's, or but the target's where targeted.

  Args:
    logits: [B, C].
    goal: labels and targets.
    num: how many.

  Returns:
    [B, num] int32, the largest first; beyond the C - 1 there are, the last is repeated.
  """
  num_classes = logits.shape[1]
  own = jnp.where(goal.target >= 0, goal.target, goal.label)[:, None]
  others = jnp.where(jnp.arange(num_classes)[None, :] == own, -jnp.inf, logits)
  classes = jax.lax.top_k(others, min(num, num_classes - 1))[1]
  return jnp.pad(classes, ((0, 0), (0, num - classes.shape[1])), mode="edge")


def _counting(values: Array, sizes: Array, targeted: Array) -> Array:
  """[B, 1], the nearest boundary, or the farthest uncrossed one; flat ones only for want of others.

  The nearest by |f|, also behind: an iterate across a boundary that is no success yet goes on.
  """
  flat = sizes == 0
  distances = jnp.where(flat, 0.0, values / jnp.where(flat, 1.0, sizes))
  nearest = jnp.argmin(jnp.where(flat, jnp.inf, jnp.abs(distances)), axis=1)
  farthest = jnp.argmin(jnp.where(flat, jnp.inf, distances), axis=1)
  return jnp.where(targeted[:, 0], farthest, nearest)[:, None]


def _one_hot(classes: Array, logits: Array) -> Array:
  return jax.nn.one_hot(classes, logits.shape[1], dtype=logits.dtype)


def _at(logits: Array, classes: Array) -> Array:
  return jnp.take_along_axis(logits, classes, axis=1)
