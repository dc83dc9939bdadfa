"""Clean numbers: accuracy, calibration, ELBO, likelihood in nats and in bits per dimension."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls import classify
from gencls.bits import bits_per_dimension, density_levels, dequantise
from gencls.calibration import expected_calibration_error, label_nll, log_softmax
from gencls.evaluation.grading import forward, keys_for, predict
from gencls.names import unknown_name
from gencls.types import NORMALISED_SCORES, Array, Classifier, Keys, LogitsFn, Params

METRICS = (
  "accuracy",
  "label_nll_nats",
  "ece",
  "loss_nats",
  "elbo_nats",
  "log_marginal_nats",
  "bpd",
)
_LIKELIHOODS = ("log_marginal_nats", "bpd")
# Terms of `Loss` that are bounds of log p(x, y), each under its own name.
_BOUNDS = {"elbo": "elbo_nats", "importance_weighted_bound": "importance_weighted_bound_nats"}


class Subject(NamedTuple):
  """The model under evaluation with its parameters bound."""

  classifier: Classifier  # its loss without dropout
  params: Params
  logits_fn: LogitsFn  # graded; a Partial whose leaves are the parameters
  attack_logits_fn: LogitsFn  # what attacks see; another K perhaps
  step: int  # of the checkpoint
  # draw -> a logits_fn prepared anew; None where `prepare` draws nothing. Draw 0 is `logits_fn`.
  redraw: Callable[[int], LogitsFn] | None = None
  # Of `attack_logits_fn`, for attacks that use more of a model (see model_options).
  attacked: tuple[Classifier, Params] | None = None


def check_metrics(names: Sequence[str]) -> None:
  """Raises ValueError on an unknown clean metric."""
  for name in names:
    if name not in METRICS:
      raise ValueError(unknown_name("clean metric", name, METRICS))


def reason_without_likelihood(score: str) -> str | None:
  """Why a model has no likelihood to report, or None if it has one."""
  if score in NORMALISED_SCORES:
    return None
  return f"score is {score!r}: the logits are not log p(x, y) with every constant"


@jax.jit
def _loss(loss_fn, params: Params, keys: Keys, x: Array, y: Array, step: Array) -> dict[str, Array]:
  loss = loss_fn(params, keys, x, y, step)
  bounds = {_BOUNDS[name]: value for name, value in loss.terms.items() if name in _BOUNDS}
  return {"loss_nats": loss.total, **bounds}


_dequantise = jax.jit(dequantise, static_argnames="num_levels")


_log_marginal = jax.jit(classify.log_marginal, static_argnames="score")


def clean_batch(
  subject: Subject,
  metrics: Sequence[str],
  levels: np.ndarray,
  x: np.ndarray,
  labels: np.ndarray,
  indices: np.ndarray,
  *,
  num_levels: int,
  seed: int,
  draws: Sequence[LogitsFn],
) -> dict[str, np.ndarray]:
  """Per-example clean numbers of one batch.

  Args:
    subject: the model.
    metrics: which of `METRICS`.
    levels: [B, H, W, D] integer grey levels.
    x: [B, H, W, D] float32 in [0, 1], the same images.
    labels: [B].
    indices: [B] dataset indices.
    num_levels: number of grey levels.
    seed: the evaluation's seed.
    draws: what each clean draw predicts with, at least one; every number but the loss, its bounds
      and bits per dimension averages over them.

  Returns:
    name -> [B, ...]: `logits` [B, M, C] and `prediction` [B, M] of the M draws, and the metrics
    asked for that this model has.
  """

  def keys(*path: int | str) -> Keys:
    return keys_for(seed, indices, "clean", *path)

  every = [forward(fn, keys(draw), jnp.asarray(x)) for draw, fn in enumerate(draws)]
  logits = np.stack([np.asarray(z) for z in every], axis=1)
  values = {"logits": logits, "prediction": np.stack([predict(np.asarray(z)) for z in every], 1)}
  values["correct"] = np.mean(values["prediction"] == labels[:, None], axis=1, dtype=np.float32)
  if "label_nll_nats" in metrics:
    values["label_nll_nats"] = np.mean([label_nll(np.asarray(z), labels) for z in every], axis=0)
  score = subject.classifier.score
  has_likelihood = score in NORMALISED_SCORES
  if "loss_nats" in metrics or "elbo_nats" in metrics:
    # A Partial so that the function is part of the structure and not traced again per call.
    loss_fn = jax.tree_util.Partial(subject.classifier.loss)
    loss_keys = keys("loss")
    step = jnp.int32(subject.step)
    found = _loss(loss_fn, subject.params, loss_keys, x, labels, step)
    values |= {name: np.asarray(value) for name, value in found.items()}
  if "log_marginal_nats" in metrics and has_likelihood:
    values["log_marginal_nats"] = np.mean(
      [np.asarray(_log_marginal(z, score)) for z in every], axis=0
    )
  if "bpd" in metrics and has_likelihood:
    over = density_levels(subject.classifier, num_levels)
    z = every[0]
    if over > 1:
      noisy = _dequantise(keys("dequantise"), jnp.asarray(levels), num_levels)
      z = forward(draws[0], keys(0), noisy)
    values["bpd"] = bits_per_dimension(np.asarray(_log_marginal(z, score)), x[0].size, over)
  return values


def summarise(values: dict[str, np.ndarray], labels: np.ndarray, metrics: Sequence[str],
              score: str) -> dict[str, dict]:  # fmt: skip
  """Means with standard errors: name -> {value, standard_error, reason}.

  A number that the model does not have, or that is not finite, is None with the reason.

  Args:
    values: per-example numbers of all images, from `clean_batch`.
    labels: [N].
    metrics: which of `METRICS`; the accuracy is not summarised here (it has an interval).
    score: `Classifier.score`.
  """
  summary = {}
  for name in metrics:
    if name == "accuracy":
      continue
    reason = reason_without_likelihood(score) if name in _LIKELIHOODS else None
    if name == "elbo_nats":
      reason = _reason_without_elbo(values, score)
    value = error = None
    if reason is None and name == "ece":
      value, reason = _calibration(values["logits"], labels)
    elif reason is None:
      value, error, reason = _mean(values[name])
    summary[name] = {"value": value, "standard_error": error, "reason": reason}
  other = _BOUNDS["importance_weighted_bound"]
  if "elbo_nats" in metrics and other in values and score != "posterior":
    value, error, reason = _mean(values[other])
    summary[other] = {"value": value, "standard_error": error, "reason": reason}
  return summary


def _reason_without_elbo(values: dict[str, np.ndarray], score: str) -> str | None:
  if score == "posterior":
    return "score is 'posterior': the loss bounds log p(y | x), not log p(x, y)"
  if _BOUNDS["importance_weighted_bound"] in values:
    return "trained with train_samples > 1: the importance-weighted bound stands in its place"
  return None if "elbo_nats" in values else "the loss has no term called 'elbo'"


def _mean(each: np.ndarray) -> tuple[float | None, float | None, str | None]:
  bad = int(np.sum(~np.isfinite(each)))
  if bad:
    return None, None, f"not finite for {bad} of {len(each)} images"
  each = np.asarray(each, np.float64)
  error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
  return float(np.mean(each)), error, None


def _calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[float | None, str | None]:
  """Pools the draws: each is one prediction with its confidence."""
  flat = np.reshape(logits, (-1, logits.shape[-1]))
  bad = int(np.sum(~np.all(np.isfinite(flat), axis=1)))
  if bad:
    return None, f"{bad} of {len(flat)} predictions have non-finite logits"
  each = np.repeat(labels, logits.shape[1])
  return expected_calibration_error(np.exp(log_softmax(flat)), each), None
