"""Objectives: all that an attack sees of a model, a loss to maximise and whether it succeeded.

White-box, expectation over transformation, transfer or detector-aware are different objectives, not
different attacks. By convention an objective is a `Partial` with its model under the keyword
`logits_fn` and its loss under `loss`, and an attack's functions hold it under `objective`, so that
`run` can check labels and targets beforehand.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks.broadcast import expand, pixels
from gencls.attacks.losses import LOSSES, UNSIGNED, LogitLoss, misclassified
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.types import Array, Goal, Info, Keys, LogitsFn, Objective

RANDOMNESS = ("fixed", "fresh")


def build(
  logits_fn: LogitsFn, *, loss: str = "margin", randomness: str = "fixed", eot_samples: int = 1
) -> Objective:
  """The objective of misclassification under a loss of the logits.

  Args:
    logits_fn: (keys [B], x) -> [B, C] nats, never probabilities. As a `jax.tree_util.Partial` its
      leaves are parameters, and another parameter set does not compile again; a plain function
      compiles anew for each new function.
    loss: a name in `losses.LOSSES`.
    randomness: "fixed": the model gets each example's key as it is (attack and grading share it,
      and a randomised model is a deterministic function). "fresh": new draws at every query.
    eot_samples: draws per query ("fresh" only), expectation over transformation. The loss is the
      mean over draws, success is a majority of draws. The draws are one model call with
      B · eot_samples examples, which is faster than a loop; the batch size bounds the memory.

  Returns:
    (keys, step [B], x_adv, goal) -> (loss [B], success [B]).

  Raises:
    ValueError: if a name is unknown or `eot_samples` does not fit.

  References:
    The per-sample loss: "WB+S" of Li et al. 2019, arXiv:1802.06552.
  """
  if loss not in LOSSES:
    raise ValueError(unknown_name("loss", loss, LOSSES))
  if randomness not in RANDOMNESS:
    raise ValueError(unknown_name("randomness", randomness, RANDOMNESS))
  if eot_samples < 1:
    raise ValueError(f"eot_samples must be >= 1, got {eot_samples}")
  if randomness == "fixed" and eot_samples != 1:
    raise ValueError(
      f"eot_samples={eot_samples} draws are all the same under randomness='fixed'; "
      "set randomness='fresh' or eot_samples=1"
    )
  parts: dict[str, Any] = {
    "logits_fn": logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn),
    "loss": Partial(LOSSES[loss]),
  }
  if randomness == "fixed":
    return Partial(_fixed, **parts)
  return Partial(_fresh, draws=jnp.arange(eot_samples, dtype=jnp.uint32), **parts)


def _fixed(
  keys: Keys,
  step: Array,
  x_adv: Array,
  goal: Goal,
  *,
  logits_fn: LogitsFn,
  loss: LogitLoss,
  scores: bool = False,
  pursued: Array | None = None,
) -> tuple[Array, Array]:
  del step
  output = logits_fn(keys, x_adv)
  logits = _merged(output)
  aim = goal if pursued is None else goal._replace(target=pursued)
  return logits if scores else _loss(loss, output, aim), misclassified(logits, goal)


def _fresh(
  keys: Keys,
  step: Array,
  x_adv: Array,
  goal: Goal,
  *,
  logits_fn: LogitsFn,
  loss: LogitLoss,
  draws: Array,
  scores: bool = False,
  pursued: Array | None = None,
) -> tuple[Array, Array]:
  batch, num_draws = len(x_adv), len(draws)

  def repeat(values: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, num_draws, axis=0), values)

  goal = goal._replace(start=None)
  aim = goal if pursued is None else goal._replace(target=pursued)
  drawn = fold(repeat(fold(keys, "attack", step)), jnp.tile(draws, batch))
  output = logits_fn(drawn, repeat(x_adv))
  logits = _merged(output)
  values = logits if scores else _loss(loss, output, repeat(aim))
  mean = jnp.mean(jnp.reshape(values, (batch, num_draws, *values.shape[1:])), axis=1)
  successes = jnp.reshape(misclassified(logits, repeat(goal)), (batch, num_draws))
  return mean, 2 * jnp.sum(successes, axis=1) > num_draws


def _merged(output: Array) -> Array:
  """Logits [B, C] from logits, or from the log weights [B, C, K] of importance samples."""
  if output.ndim == 2:
    return output
  return jax.nn.logsumexp(output, axis=2) - math.log(output.shape[2])


def _loss(loss: LogitLoss, output: Array, goal: Goal) -> Array:
  """The loss [B] of logits, or the mean over k of that of sample k's log weights."""
  if output.ndim == 2:
    return loss(output, goal)
  goal = goal._replace(start=None)
  return jnp.mean(jax.vmap(loss, in_axes=(2, None), out_axes=1)(output, goal), axis=1)


def check_sign(objective: Objective, attack: str) -> None:
  """Refuses losses whose sign does not tell success.

  Args:
    objective: whatever holds its loss under the keyword `loss`; others pass.
    attack: the attack's name, for the message.

  Raises:
    ValueError: if the loss is in `losses.UNSIGNED`.
  """
  loss = getattr(getattr(objective, "keywords", {}).get("loss"), "func", None)
  if loss in UNSIGNED:
    raise ValueError(
      f"{attack} needs a loss that is positive on success and negative elsewhere, got "
      f"{getattr(loss, '__name__', loss)}; use loss='margin' or 'dlr'"
    )


class Query(NamedTuple):
  """What one evaluation with gradient gives, per example."""

  loss: Array  # [B]
  success: Array  # [B] bool
  gradient: Array  # [B, H, W, D], zero where it is not finite
  usable: Array  # [B] bool, the gradient is finite
  nonfinite: Array  # [B] bool, the loss or the gradient is not finite
  zero_gradient: Array  # [B] bool, every entry of the (finite) gradient is exactly zero


def query(
  objective: Objective,
  keys: Keys,
  step: Array,
  x_adv: Array,
  goal: Goal,
  pursued: Array | None = None,
) -> Query:
  """Loss, success and the input gradient of the loss; examples do not touch each other.

  Args:
    objective: see `gencls.types.Objective`.
    keys: [B] typed keys.
    step: [B] int32, the example's query count.
    x_adv: [B, H, W, D].
    goal: what the attack is after.
    pursued: [B] int32, the class that the loss pursues where it is another than the goal's (−1:
      none): success stays that of the goal. Such an objective has to take `pursued`, as those of
      `build` do.

  Returns:
    A `Query`.
  """
  aim: dict[str, Any] = {} if pursued is None else {"pursued": pursued}

  def evaluate(x: Array) -> tuple[Array, Array]:
    return objective(keys, step, x, goal, **aim)

  loss, pullback, success = jax.vjp(evaluate, x_adv, has_aux=True)
  (gradient,) = pullback(jnp.ones_like(loss))
  usable = jnp.all(jnp.isfinite(gradient), axis=pixels(gradient))
  return Query(
    loss=loss,
    success=success,
    gradient=jnp.where(expand(usable, gradient), gradient, 0.0),
    usable=usable,
    nonfinite=~(usable & jnp.isfinite(loss)),
    zero_gradient=usable & jnp.all(gradient == 0, axis=pixels(gradient)),
  )


def info(at: Query, done: Array, *, forward: int = 1, backward: int = 1) -> Info:
  """What a step reports that made one `query`, and `forward` - 1 evaluations without gradient."""
  return Info(
    loss=at.loss,
    success=at.success,
    done=done,
    nonfinite=at.nonfinite,
    zero_gradient=at.zero_gradient,
    forward=jnp.full(done.shape, forward, jnp.int32),
    backward=jnp.full(done.shape, backward, jnp.int32),
  )


def forward_info(loss: Array, success: Array, done: Array) -> Info:
  """What a step reports that evaluated images without gradients, [B] one each or [B, M].

  The loss is that of the first of M; success is that of any.
  """
  each = jnp.reshape(loss, (len(loss), -1))
  return Info(
    loss=each[:, 0],
    success=jnp.any(jnp.reshape(success, each.shape), axis=1),
    done=done,
    nonfinite=~jnp.all(jnp.isfinite(each), axis=1),
    zero_gradient=jnp.zeros(done.shape, bool),
    forward=jnp.full(done.shape, each.shape[1], jnp.int32),
    backward=jnp.zeros(done.shape, jnp.int32),
  )


def candidates(
  objective: Objective, keys: Keys, step: Array, x_adv: Array, goal: Goal
) -> tuple[Array, Array]:
  """Evaluates several images per example in one model call, without gradients.

  Args:
    objective: see `gencls.types.Objective`.
    keys: [B] typed keys; all candidates of an example share its key.
    step: [B] int32, the example's query count.
    x_adv: [B, M, H, W, D].
    goal: what the attack is after.

  Returns:
    (loss [B, M], success [B, M] bool).
  """
  batch, num = x_adv.shape[:2]

  def repeat(values: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, num, axis=0), values)

  rows = jnp.reshape(x_adv, (batch * num, *x_adv.shape[2:]))
  goal = goal._replace(start=None)
  loss, success = objective(repeat(keys), repeat(step), rows, repeat(goal))
  return jnp.reshape(loss, (batch, num)), jnp.reshape(success, (batch, num))


def class_scores(
  objective: Objective, keys: Keys, step: Array, x_adv: Array, goal: Goal
) -> tuple[Array, Array]:
  """All the logits behind an objective, for attacks that linearise every class.

  Args:
    objective: made by `build`.
    keys: [B] typed keys.
    step: [B] int32, the example's query count.
    x_adv: [B, H, W, D].
    goal: what the attack is after.

  Returns:
    (logits [B, C], under fresh randomness their mean over the draws; success [B] bool, as the
    objective has it), differentiable in `x_adv`.

  Raises:
    ValueError: if the objective was not made by `build`.
  """
  if getattr(objective, "func", None) not in (_fixed, _fresh):
    raise ValueError(
      "this attack linearises every class and needs the logits: build its objective with "
      f"objective.build, got {objective!r}"
    )
  return Partial(objective, scores=True)(keys, step, x_adv, goal)
