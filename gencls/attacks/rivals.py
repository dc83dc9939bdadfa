"""The classes that a multi-targeted attack pursues one after the other."""

import jax
import jax.numpy as jnp

from gencls.attacks.losses import TARGETED_MIN_CLASSES
from gencls.attacks.objective import class_scores
from gencls.types import Array, Goal, Keys, Objective

MIN_TARGET_CLASSES = 3  # with two, the one target is the untargeted attack


def ranked(objective: Objective, keys: Keys, x: Array, goal: Goal) -> Array:
  """The classes but the label, by clean logit.

  Args:
    objective: from `objective.build`.
    keys: [B] typed keys.
    x: [B, H, W, D] clean images.
    goal: what the attack is after.

  Returns:
    [B, C - 1] int32, the nearest first.

  Raises:
    ValueError: while tracing, if there are too few classes to choose from, or for the loss.
  """
  logits, _ = class_scores(objective, keys, jnp.zeros(x.shape[:1], jnp.int32), x, goal)
  num_classes = logits.shape[1]
  if num_classes < MIN_TARGET_CLASSES:
    raise ValueError(
      f"num_targets needs at least {MIN_TARGET_CLASSES} classes, got {num_classes}: the only "
      "target is the untargeted attack; set num_targets=0"
    )
  loss = objective.keywords["loss"].func  # pyright: ignore[reportFunctionMemberAccess]
  least = TARGETED_MIN_CLASSES.get(loss, 0)
  if num_classes < least:
    raise ValueError(
      f"num_targets with loss={loss.__name__!r} needs at least {least} classes, got "
      f"{num_classes}; use loss='margin'"
    )
  others = jnp.arange(num_classes)[None, :] != goal.label[:, None]
  # A logit that is not finite ranks last, but before the label.
  usable = jnp.where(jnp.isfinite(logits), logits, jnp.finfo(logits.dtype).min)
  return jax.lax.top_k(jnp.where(others, usable, -jnp.inf), num_classes - 1)[1]
