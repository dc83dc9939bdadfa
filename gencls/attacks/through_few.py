"""The gradient of a loss of a few logits, through these logits alone.

All C logits have to be computed to know which two a margin is of, but its gradient has to pass two
only. Where a logits function gives some classes alone (`gencls.few_classes`), forward and backward
then cost 1 + 2·2/C forward passes of all classes, and not 2 (1.4 for ten classes, 1.04 for a
hundred), and only the few keep what the way back needs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gencls.attacks.losses import FEW, LogitLoss
from gencls.few_classes import takes_classes
from gencls.types import Array, Goal, Keys, LogitsFn


def by_few_classes(logits_fn: LogitsFn, loss: LogitLoss, goal: Goal) -> LogitsFn:
  """The logits for the gradient of a loss: through a few classes where that costs less.

  Args:
    logits_fn: (keys, x) -> [B, C] or [B, C, K].
    loss: a loss of `losses`, perhaps as a `Partial`; those that are not in `losses.FEW` look at
      every logit.
    goal: what the loss pursues.

  Returns:
    (keys, x) -> the same values; of their gradients only that of `loss` is right.
  """
  most = FEW.get(getattr(loss, "func", loss))
  if most is None or not takes_classes(logits_fn):
    return logits_fn
  goal = goal._replace(start=None, clean=None)

  def logits(keys: Keys, x: Array) -> Array:
    shape = jax.eval_shape(logits_fn, keys, x).shape
    if len(shape) != 2 or 2 * most >= shape[1]:  # log weights have a loss for each sample
      return logits_fn(keys, x)
    of_goal = lambda values: loss(at_least_float32(values), goal)  # noqa: E731
    return through_few(logits_fn, keys, x, of_goal, most)

  return logits


def at_least_float32(output: Array) -> Array:
  """Differences of logits are lost in half precision."""
  return output.astype(jnp.promote_types(output.dtype, jnp.float32))


def through_few(
  logits_fn: Callable[..., Array],
  keys: Keys,
  x: Array,
  loss: Callable[[Array], Array],
  most: int,
) -> Array:
  """All logits, whose gradient passes only those that a loss depends on.

  Args:
    logits_fn: takes `classes`.
    keys: [B] typed keys.
    x: [B, H, W, D].
    loss: logits [B, C] -> [B], example by example.
    most: static; no example's loss has a gradient in more logits.

  Returns:
    [B, C]; gradients of `loss` of it in x are right, others are not.

  Raises:
    ValueError: while tracing, if `classes` is something else to the function.
  """
  logits = logits_fn(keys, jax.lax.stop_gradient(x))  # nothing to be differentiated is traced
  slope = jax.grad(lambda values: jnp.sum(loss(values)))(logits)
  classes = jax.lax.top_k(jnp.abs(slope), most)[1]
  few = logits_fn(keys, x, classes=classes)
  if few.shape != classes.shape:
    raise ValueError(
      f"logits_fn(keys, x, classes={list(classes.shape)}) must return the logits of these classes, "
      f"{list(classes.shape)}, got shape {few.shape}; give an argument of another meaning another "
      "name than classes"
    )
  rows = jnp.arange(len(x))[:, None]
  change = (few - jax.lax.stop_gradient(few)).astype(logits.dtype)  # zero, with a gradient
  return logits.at[rows, classes].add(change)
