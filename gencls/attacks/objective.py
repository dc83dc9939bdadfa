"""Objectives: all that an attack sees of a model, a loss to maximise and whether it succeeded.

White-box, expectation over transformation, transfer or detector-aware are different objectives, not
different attacks. By convention an objective is a `Partial` with its model under the keyword
`logits_fn` and its loss under `loss`, and an attack's functions hold it under `objective`, so that
`run` can check labels and targets beforehand.
"""

import inspect
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks.broadcast import expand, pixels, repeated
from gencls.attacks.losses import LOSSES, SIGNED, LogitLoss, dlr, misclassified, signed_dlr
from gencls.attacks.through_few import at_least_float32, by_few_classes
from gencls.keys import fold
from gencls.names import unknown_name
from gencls.settings import check_kinds
from gencls.types import Accept, Array, Goal, Info, Keys, LogitsFn, Objective

RANDOMNESS = ("fixed", "fresh")


def build(
  logits_fn: LogitsFn,
  *,
  loss: str = "margin",
  randomness: str = "fixed",
  eot_samples: int = 1,
  accept: Accept | None = None,
  accept_weight: float = 1.0,
) -> Objective:
  """The objective of misclassification under a loss of the logits.

  With a detector, success is misclassified *and* accepted, and the loss pursues both. With s =
  accept_weight · score, a loss L whose sign tells success ("margin") becomes min(L, s) where both
  are positive, else min(L, 0) + min(s, 0): positive if and only if both are, and each that fails
  pulls. Other losses become L + min(s, 0).

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
    accept: a detector, (keys [B], x, logits [B, C]) -> score [B], which accepts where the score is
      >= 0; differentiable in x and the logits. As a `Partial` its leaves are parameters, as those
      of `logits_fn`. Every draw has its own verdict.
    accept_weight: of the score in the loss, > 0.

  Returns:
    (keys, step [B], x_adv, goal) -> (loss [B], success [B]). Under fresh draws the clean image of
    `goal.clean` is no success: what one draw says of it would end a search at distance 0.

  Raises:
    ValueError: if `logits_fn` does not take two arguments, a name is unknown, or `eot_samples` or
      `accept_weight` does not fit; while tracing, if the detector does not return [B].

  References:
    The per-sample loss: "WB+S" of Li et al. 2019, arXiv:1802.06552. The detector's term: Carlini
    and Wagner 2017, arXiv:1705.07263; Fetaya et al. 2020, arXiv:1906.01171.
  """
  _check_arguments(logits_fn)
  if loss not in LOSSES:
    raise ValueError(unknown_name("loss", loss, LOSSES))
  if randomness not in RANDOMNESS:
    raise ValueError(unknown_name("randomness", randomness, RANDOMNESS))
  given = {"eot_samples": eot_samples, "accept_weight": accept_weight}
  check_kinds(given, {"eot_samples": int, "accept_weight": float})
  if eot_samples < 1:
    raise ValueError(f"eot_samples must be >= 1, got {eot_samples}")
  if randomness == "fixed" and eot_samples != 1:
    raise ValueError(
      f"eot_samples={eot_samples} draws are all the same under randomness='fixed'; "
      "set randomness='fresh' or eot_samples=1"
    )
  if not (math.isfinite(accept_weight) and accept_weight > 0):
    raise ValueError(f"accept_weight must be a finite number > 0, got {accept_weight}")
  parts: dict[str, Any] = {
    "logits_fn": logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn),
    "loss": Partial(LOSSES[loss]),
  }
  if accept is not None:
    parts["accept"] = accept if isinstance(accept, Partial) else Partial(accept)
    parts["accept_weight"] = jnp.float32(accept_weight)
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
  accept: Accept | None = None,
  accept_weight: float | Array = 1.0,
  of_samples: Partial | None = None,
  scores: bool = False,
  pursued: Array | None = None,
  query: bool = False,
) -> tuple[Array, Array]:
  del step
  aim = goal if pursued is None else goal._replace(target=pursued)
  if query and accept is None and not scores:
    logits_fn = by_few_classes(logits_fn, loss, aim)
  output = at_least_float32(logits_fn(keys, x_adv))
  logits = _merged(output)
  values = logits if scores else _loss(loss, output, aim, of_samples)
  success = misclassified(logits, goal)
  if accept is not None:
    score = _score(accept, keys, x_adv, logits)
    success = success & (score >= 0) & jnp.isfinite(score)
    values = values if scores else _with_detector(loss, values, accept_weight * score)
  return values, success


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
  **detector: Any,
) -> tuple[Array, Array]:
  batch, num_draws = len(x_adv), len(draws)

  def repeat(values: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, num_draws, axis=0), values)

  clean = goal.clean
  goal = goal._replace(start=None, clean=None)
  drawn = fold(repeat(fold(keys, "attack", step)), jnp.tile(draws, batch))
  values, success = _fixed(
    drawn,
    step,
    repeat(x_adv),
    repeat(goal),
    logits_fn=logits_fn,
    loss=loss,
    scores=scores,
    pursued=None if pursued is None else repeat(pursued),
    **detector,
  )
  mean = jnp.mean(jnp.reshape(values, (batch, num_draws, *values.shape[1:])), axis=1)
  majority = 2 * jnp.sum(jnp.reshape(success, (batch, num_draws)), axis=1) > num_draws
  return mean, majority & _moved(x_adv, clean)


def _moved(x_adv: Array, clean: Array | None) -> Array:
  """[B], whether an image is another than the clean one, which is no success under fresh draws."""
  return jnp.bool_(True) if clean is None else jnp.any(x_adv != clean, axis=pixels(x_adv))


def _check_arguments(logits_fn: LogitsFn) -> None:
  try:
    signature = inspect.signature(logits_fn)
  except (TypeError, ValueError):
    return  # a callable that does not tell
  try:
    signature.bind(None, None)
  except TypeError as error:
    raise ValueError(
      f"logits_fn must take (keys, x), got a function of {signature} ({error}); a function f of x "
      "alone becomes lambda keys, x: f(x)"
    ) from error


def _merged(output: Array) -> Array:
  """Logits [B, C] from logits, or from the log weights [B, C, K] of importance samples."""
  if output.ndim == 2:
    return output
  return jax.nn.logsumexp(output, axis=2) - math.log(output.shape[2])


def _loss(loss: LogitLoss, output: Array, goal: Goal, of_samples: Partial | None) -> Array:
  """The loss [B] of logits, or the mean over k of that of sample k's log weights."""
  if output.ndim == 2:
    return loss(output, goal)
  goal = goal._replace(start=None)
  mean = jnp.mean(jax.vmap(loss, in_axes=(2, None), out_axes=1)(output, goal), axis=1)
  return mean if of_samples is None else of_samples(mean, loss(_merged(output), goal))


def _of_one_sign(mean: Array, merged: Array) -> Array:
  """The mean over samples where its sign is that of the merged logits' loss, else the latter."""
  return jnp.where((mean > 0) == (merged > 0), mean, merged)


def _score(accept: Accept, keys: Keys, x_adv: Array, logits: Array) -> Array:
  score = accept(keys, x_adv, logits)
  if score.shape != x_adv.shape[:1]:
    raise ValueError(
      f"accept must return one score per example, [{len(x_adv)}], got shape {score.shape}"
    )
  return score


def _with_detector(loss: LogitLoss, values: Array, score: Array) -> Array:
  """The loss [B] of misclassification and of acceptance, see `build`."""
  if getattr(loss, "func", loss) not in SIGNED:
    return values + jnp.minimum(score, 0.0)
  lesser = jnp.minimum(values, score)
  return jnp.where(lesser > 0, lesser, jnp.minimum(values, 0.0) + jnp.minimum(score, 0.0))


def is_fresh(objective: Objective) -> bool:
  """Whether an objective of `build` draws anew at every query; False for others."""
  return "draws" in getattr(objective, "keywords", {})


def stops_early(objective: Objective, early_stop: bool | None) -> bool:
  """What an attack's `early_stop` says; None means under fixed randomness only.

  Under fresh draws a success is a majority of those of one query, while grading is a mean over
  draws: the first such iterate is nowhere near the strongest.
  """
  return not is_fresh(objective) if early_stop is None else early_stop


def signed(objective: Objective, attack: str) -> Objective:
  """The objective with a loss that is positive on success and negative elsewhere.

  The DLR of targeted examples gets the margin of the target over *all* others in its numerator
  (`losses.signed_dlr`): the usual one is positive as soon as the target passes the label. Where
  importance samples have losses of their own, their mean may be positive without a success: there
  the loss is that of the merged logits.

  Args:
    objective: whatever holds its loss under the keyword `loss`; others are taken as they are.
    attack: the attack's name, for the message.

  Returns:
    An objective.

  Raises:
    ValueError: if the loss has no such form, as cross_entropy.
  """
  loss = getattr(getattr(objective, "keywords", {}).get("loss"), "func", None)
  if loss in LOSSES.values() and loss not in (*SIGNED, dlr):
    raise ValueError(
      f"{attack} needs a loss that is positive on success and negative elsewhere, got "
      f"{getattr(loss, '__name__', loss)}; use loss='margin' or 'dlr'"
    )
  if loss not in LOSSES.values():
    return objective
  parts: Any = {**objective.keywords, "of_samples": Partial(_of_one_sign)}  # pyright: ignore[reportFunctionMemberAccess]
  parts |= {"loss": Partial(signed_dlr)} if loss is dlr else {}
  return Partial(objective.func, *objective.args, **parts)  # pyright: ignore[reportFunctionMemberAccess]


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
  if getattr(objective, "func", None) in (_fixed, _fresh):
    aim["query"] = True

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
  rows = jnp.reshape(x_adv, (batch * num, *x_adv.shape[2:]))
  keys, step, goal = repeated(num, keys, step, goal._replace(start=None))
  loss, success = objective(keys, step, rows, goal)
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
