"""Detectors: does an image look like those the model was made for, by its logits alone?

  marginal    log p(x)
  joint       log p(x, ŷ), ŷ the predicted class
  kl          −KL(p̄_ŷ ‖ p(y | x)), p̄_c the mean posterior of class c
  tv          −½ Σ |p̄_ŷ − p(y | x)|, the total variation
  typicality  −|log p(x) − m|, m the mean of log p(x)

m is of the images that the detector is fitted to. Published is the mean of training images
(config.detector.fitted_on="train"); an overfitted density has it where no new image lies.

Every statistic is larger where an image is more ordinary. The score of a detector is the statistic
less its threshold: accepted where it is >= 0. Fitted numbers are leaves, so that another threshold
compiles nothing anew.

References:
  Li et al. 2019, arXiv:1802.06552, section 4 (marginal, joint, kl); Nalisnick et al. 2019,
  arXiv:1906.02994 (typicality).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jax.tree_util import Partial

from gencls import classify
from gencls.names import unknown_name
from gencls.thresholds import Rule, check, threshold
from gencls.types import NORMALISED_SCORES, Accept, Array, Keys

Reference = dict[str, Array]  # what a statistic compares with, every leaf [C, …]


def _log_marginal(logits: Array) -> Array:
  # Not `classify.log_marginal`: up to a constant will do here, a threshold cancels it.
  return jax.nn.logsumexp(logits, axis=-1)


def _marginal(reference: Reference, logits: Array, classes: Array) -> Array:
  del reference, classes
  return _log_marginal(logits)


def _joint(reference: Reference, logits: Array, classes: Array) -> Array:
  del reference
  return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def _kl(reference: Reference, logits: Array, classes: Array) -> Array:
  mean = reference["mean_posterior"][classes]
  return -jnp.sum(xlogy(mean, mean) - mean * classify.log_posterior(logits), axis=1)


def _tv(reference: Reference, logits: Array, classes: Array) -> Array:
  mean = reference["mean_posterior"][classes]
  return -0.5 * jnp.sum(jnp.abs(mean - jnp.exp(classify.log_posterior(logits))), axis=1)


def _typicality(reference: Reference, logits: Array, classes: Array) -> Array:
  return -jnp.abs(_log_marginal(logits) - reference["mean_log_marginal"][classes])


def _mean_posterior(logits: np.ndarray, groups: list[np.ndarray], own: list[np.ndarray]) -> Any:
  del groups
  posterior = np.exp(np.asarray(classify.log_posterior(jnp.asarray(logits)), np.float64))
  return {"mean_posterior": np.stack([np.mean(posterior[rows], axis=0) for rows in own])}


def _mean_log_marginal(logits: np.ndarray, groups: list[np.ndarray], own: list[np.ndarray]) -> Any:
  del own
  values = np.asarray(_log_marginal(jnp.asarray(logits)), np.float64)
  return {"mean_log_marginal": np.array([np.mean(values[rows]) for rows in groups])}


def _nothing(logits: np.ndarray, groups: list[np.ndarray], own: list[np.ndarray]) -> Any:
  del logits, groups, own
  return {}


class Statistic(NamedTuple):
  """A statistic of logits."""

  value: Callable[[Reference, Array, Array], Array]  # (reference, logits, classes [B]) -> [B]
  # (logits [N, C], the rows that serve class c, the rows of class c) -> Reference
  refer: Callable[[np.ndarray, list[np.ndarray], list[np.ndarray]], Any]
  of_density: bool  # of log p(x, y) itself, not of the posterior alone


STATISTICS = {
  "marginal": Statistic(_marginal, _nothing, True),
  "joint": Statistic(_joint, _nothing, True),
  "kl": Statistic(_kl, _mean_posterior, False),
  "tv": Statistic(_tv, _mean_posterior, False),
  "typicality": Statistic(_typicality, _mean_log_marginal, True),
}


class Fitted(NamedTuple):
  """The numbers of a detector."""

  reference: Reference
  threshold: Array  # [C] float32, by predicted class; all the same where global


def check_statistic(name: str, rule: Rule, score: str, per_class: bool = False) -> None:
  """Raises ValueError for a detector that does not exist, or that the model's logits have not.

  Args:
    name: one of `STATISTICS`.
    rule: of the threshold.
    score: `Classifier.score`, what the logits are.
    per_class: whether every class has a threshold of its own.
  """
  if name not in STATISTICS:
    raise ValueError(unknown_name("detector", name, STATISTICS))
  check(rule)
  if STATISTICS[name].of_density and score == "posterior":
    others = [other for other, statistic in STATISTICS.items() if not statistic.of_density]
    raise ValueError(
      f"the detector {name!r} needs logits that are log p(x, y), but the score of this model is "
      f"'posterior': it has no log p(x). Use {' or '.join(map(repr, others))}"
    )
  if rule.name == "fixed" and (name != "marginal" or per_class or score not in NORMALISED_SCORES):
    raise ValueError(
      "threshold='fixed' is a number of bits per dimension: it needs the detector 'marginal', "
      f"per_class=False and a score among {NORMALISED_SCORES}, got {name!r}, {per_class} and "
      f"{score!r}"
    )


def fit(
  name: str,
  logits: np.ndarray,
  classes: np.ndarray,
  rule: Rule,
  *,
  per_class: bool,
  score: str,
  dims: int,
  num_levels: int,
) -> Fitted:
  """Fits a detector to images that it shall accept.

  Args:
    name: one of `STATISTICS`.
    logits: [N, C] float32, finite.
    classes: [N] the class that each image stands for. The predicted one, as the detector will see
      it; with the true labels (Li et al. 2019) a quantile says nothing of misclassified images.
    rule: of the threshold.
    per_class: whether each class has a threshold (and typical log p(x)) of its own, from its own
      images. Of few images a quantile per class is far below the rate: 5% of 14 is none.
    score: `Classifier.score`.
    dims: D, pixels times channels.
    num_levels: grey levels of the images.

  Returns:
    `Fitted`, for `detector`.

  Raises:
    ValueError: if the detector does not fit the model, logits are not finite, or a class has no
      images where its own are needed.
  """
  check_statistic(name, rule, score, per_class)
  bad = int(np.sum(~np.all(np.isfinite(logits), axis=1)))
  if bad:
    raise ValueError(
      f"a detector is fitted to finite logits, got {bad} of {len(logits)} that are not"
    )
  statistic, num_classes = STATISTICS[name], logits.shape[1]
  own = [np.flatnonzero(classes == c) for c in range(num_classes)]
  groups = own if per_class else [np.arange(len(logits))] * num_classes
  empty = [c for c, rows in enumerate(own) if not len(rows)]
  if empty and (per_class or statistic.refer is _mean_posterior):
    raise ValueError(
      f"class {empty[0]} has none of the {len(logits)} fitting images, and {name!r} with "
      f"per_class={per_class} needs some of every class: fit to more images, by their labels, or "
      "use 'marginal' or 'joint' with per_class=False"
    )
  found = statistic.refer(logits, groups, own)
  reference = {key: jnp.asarray(value, jnp.float32) for key, value in found.items()}
  values = np.asarray(values_of(name, reference, logits, classes))
  sizes: dict[str, int] = {"dims": dims, "num_levels": num_levels}
  if not per_class:
    limits = [threshold(rule, values, **sizes)] * num_classes
  else:
    limits = [threshold(rule, values[rows], **sizes) for rows in own]
  return Fitted(reference, jnp.asarray(limits, jnp.float32))


def values_of(name: str, reference: Reference, logits: np.ndarray, classes: np.ndarray) -> Array:
  """[N] float32, the statistic of logits [N, C] as if their classes were `classes` [N]."""
  value = Partial(STATISTICS[name].value)
  return _values(value, reference, jnp.asarray(logits), jnp.asarray(classes, jnp.int32))


@jax.jit
def _values(value: Any, reference: Reference, logits: Array, classes: Array) -> Array:
  return value(reference, logits, classes)


def detector(name: str, fitted: Fitted) -> Accept:
  """A fitted detector, for `attacks.build(…, accept=…)` and grading.

  Args:
    name: one of `STATISTICS`.
    fitted: its numbers.

  Returns:
    A `Partial` (keys, x, logits [B, C]) -> score [B], accepted where >= 0; keys and x are not used.
  """
  return Partial(_score, Partial(STATISTICS[name].value), fitted)


def _score(value: Any, fitted: Fitted, keys: Keys, x: Array, logits: Array) -> Array:
  del keys, x
  classes = classify.predict(logits)
  return value(fitted.reference, logits, classes) - fitted.threshold[classes]
