"""Per-example losses of logits that an attack maximises, targeted or not, and when it succeeds.

Every loss takes logits [B, C] in nats and a `Goal`; examples with `goal.target` -1 are untargeted,
and one batch may hold both kinds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gencls.types import Array, Goal


def _class_and_sign(goal: Goal) -> tuple[Array, Array]:
  """The class that the loss is about, and +1 where it shall lose or -1 where it shall win."""
  targeted = goal.target >= 0
  return jnp.where(targeted, goal.target, goal.label), jnp.where(targeted, -1.0, 1.0)


def _largest(logits: Array) -> Array:
  """The largest logit [B]; of equal ones the first, which alone gets the gradient."""
  first = jnp.argmax(logits, axis=1, keepdims=True)
  return jnp.take_along_axis(logits, first, axis=1)[:, 0]


def _own_and_others(logits: Array, which: Array) -> tuple[Array, Array]:
  """Class `which`'s logit [B], and the logits with that class at −inf [B, C]."""
  own = jnp.take_along_axis(logits, which[:, None], axis=1)[:, 0]
  is_own = jnp.arange(logits.shape[1])[None, :] == which[:, None]
  return own, jnp.where(is_own, -jnp.inf, logits)


def cross_entropy(logits: Array, goal: Goal) -> Array:
  """−log softmax(logits)_y, or log softmax(logits)_target where targeted.

  Written softplus(logsumexp_{j≠y} z_j − z_y): beyond a gap of about 17 nats the usual
  `log_softmax` keeps the rival's gradient and loses that of y, which is wrong and not zero.

  Args:
    logits: [B, C] nats, C >= 2.
    goal: labels and targets.

  Returns:
    [B] nats.

  Raises:
    ValueError: if C < 2.
  """
  _check_classes(logits, 2, "cross_entropy")
  which, sign = _class_and_sign(goal)
  own, others = _own_and_others(logits, which)
  return sign * jax.nn.softplus(jax.nn.logsumexp(others, axis=1) - own)


def margin(logits: Array, goal: Goal) -> Array:
  """max_{j≠y} z_j − z_y, or z_target − max_{j≠target} z_j where targeted: positive on success.

  Args:
    logits: [B, C] nats, C >= 2.
    goal: labels and targets.

  Returns:
    [B] nats.

  Raises:
    ValueError: if C < 2.
  """
  _check_classes(logits, 2, "margin")
  which, sign = _class_and_sign(goal)
  own, others = _own_and_others(logits, which)
  return sign * (_largest(others) - own)


def dlr(logits: Array, goal: Goal) -> Array:
  """Difference of logits ratio: the margin over a spread of the logits, so free of their scale.

  With z_π1 >= z_π2 >= …: (max_{i≠y} z_i − z_y) / (z_π1 − z_π3 + 1e-12), where targeted
  (z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2 + 1e-12). Untargeted it is positive on success; targeted its
  sign only tells whether the target is ahead of the label.

  Args:
    logits: [B, C], C >= 3. With C = 3 the loss of a targeted example is not defined and NaN
      (`run` refuses such goals).
    goal: labels and targets.

  Returns:
    [B], without a unit.

  Raises:
    ValueError: if C < 3.

  References:
    Croce and Hein 2020, arXiv:2003.01690.
  """
  _check_classes(logits, 3, "dlr")
  top = jax.lax.top_k(logits, min(4, logits.shape[1]))[0]
  own, others = _own_and_others(logits, goal.label)
  untargeted = (_largest(others) - own) / (top[:, 0] - top[:, 2] + 1e-12)
  if logits.shape[1] < 4:
    return jnp.where(goal.target >= 0, jnp.nan, untargeted)
  wanted = jnp.take_along_axis(logits, jnp.maximum(goal.target, 0)[:, None], axis=1)[:, 0]
  targeted = (wanted - own) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)
  return jnp.where(goal.target >= 0, targeted, untargeted)


def signed_dlr(logits: Array, goal: Goal) -> Array:
  """The DLR, but positive if and only if the attack succeeds also where it is targeted.

  There (z_t − max_{i≠t} z_i) / (z_π1 − (z_π3 + z_π4)/2 + 1e-12): `dlr` itself is positive as soon
  as the target passes the label, even where a third class wins.

  Args:
    logits: [B, C], as in `dlr`.
    goal: labels and targets.

  Returns:
    [B], without a unit.

  Raises:
    ValueError: if C < 3.
  """
  ratio = dlr(logits, goal)
  if logits.shape[1] < 4:
    return ratio
  top = jax.lax.top_k(logits, 4)[0]
  spread = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12
  return jnp.where(goal.target >= 0, margin(logits, goal) / spread, ratio)


def cross_entropy_of_probabilities(logits: Array, goal: Goal) -> Array:
  """Cross-entropy of softmax(logits) taken for logits: a published mistake, to be reproduced.

  A model that gives probabilities to an attack that expects logits has a second soft-max on top:
  the loss stays between log(1 + (C − 1) / e) and log(C − 1 + e). Where the first one saturates,
  the gradient by the true logit rounds to zero from 17 nats on and what is left points at the
  likeliest rival alone; from 88 nats on, as generative classifiers' reach, it is zero
  altogether: masking (Athalye et al. 2018, arXiv:1802.00420).

  Args:
    logits: [B, C] nats, C >= 2.
    goal: labels and targets.

  Returns:
    [B] nats of the wrong posterior.
  """
  return cross_entropy(jax.nn.softmax(logits, axis=1), goal)


def margin_of_probabilities(logits: Array, goal: Goal) -> Array:
  """The margin between probabilities, [B]: see `cross_entropy_of_probabilities`."""
  return margin(jax.nn.softmax(logits, axis=1), goal)


LogitLoss = Callable[[Array, Goal], Array]
LOSSES: dict[str, LogitLoss] = {
  "cross_entropy": cross_entropy,
  "dlr": dlr,
  "margin": margin,
  # Published mistakes. They mask gradients, and the checks say so.
  "cross_entropy_of_probabilities": cross_entropy_of_probabilities,
  "margin_of_probabilities": margin_of_probabilities,
}
# Positive if and only if the attack has succeeded, up to ties.
SIGNED: tuple[LogitLoss, ...] = (margin, signed_dlr, margin_of_probabilities)
# In how many logits of an example a loss has a gradient at most; others: in all.
FEW: dict[LogitLoss, int] = {margin: 2, dlr: 5, signed_dlr: 4}
TARGETED_MIN_CLASSES: dict[LogitLoss, int] = {dlr: 4, signed_dlr: 4}


def misclassified(logits: Array, goal: Goal) -> Array:
  """Whether the prediction is what the attack wants.

  The prediction is the first of the largest logits, as in grading. A row that is not finite has no
  prediction and is no success.

  Args:
    logits: [B, C].
    goal: labels and targets.

  Returns:
    [B] bool.
  """
  prediction = jnp.argmax(logits, axis=1)
  wanted = jnp.where(goal.target >= 0, prediction == goal.target, prediction != goal.label)
  return wanted & jnp.all(jnp.isfinite(logits), axis=1)


def _check_classes(logits: Array, least: int, name: str) -> None:
  if logits.ndim != 2 or logits.shape[1] < least:
    fix = "; use loss='margin', which takes 2 classes" if logits.ndim == 2 and least > 2 else ""
    raise ValueError(f"{name} needs logits [B, C] with C >= {least}, got shape {logits.shape}{fix}")
