"""Signs that a model starves gradient attacks: its logits, and its gradients (Carlini et al. 2019).

Each is a `sanity.Check`, printed beside the robustness number that it is about.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks.losses import LogitLoss
from gencls.evaluation.grading import predict
from gencls.evaluation.targets import LEFT_OUT
from gencls.sanity import UNFINISHED, Check
from gencls.types import Array, Goal

_FITS = 2.0  # factor between a predicted and a measured change
_MISSING = 0.5  # of the length of the true gradient, in what the given one lacks
_MISFITS = 0.1  # share of the images that may be beyond it, or whose surface does not rise
_SEVERAL = 5  # images, of which a common number is no chance
_NEARLY_ALL = 0.99  # of the images, where a few may be odd


def not_probabilities(logits: np.ndarray) -> Check:
  """Logits in nats are not (log-)probabilities: attacks on those fail by saturation.

  Rows that are not finite say nothing (of -inf only that it may be the log of 0), and one in a
  hundred of the others may be anything.

  Args:
    logits: [N, C].
  """
  name = "logits are not probabilities"
  rows = np.asarray(logits, np.float64)
  finite = rows[np.all(np.isfinite(rows), axis=1)]
  logs = rows[np.all(rows < np.inf, axis=1)]
  in_unit = np.all((finite >= 0) & (finite <= 1), axis=1)
  if _nearly_all(in_unit & (np.abs(np.sum(finite, axis=1) - 1) < 1e-3)):
    return Check(name, "fail", "rows are in [0, 1] and sum to 1: probabilities")
  if len(finite) and np.all(in_unit):
    return Check(name, "fail", "every row is in [0, 1], which nats are not: probabilities, changed")
  log_sum = np.logaddexp.reduce(logs, axis=1)
  if _nearly_all(np.abs(log_sum) < 1e-3):
    return Check(name, "fail", "the exponentials of rows sum to 1: log-probabilities")
  if _same(log_sum):
    told = "the exponentials of all rows have one sum: log-probabilities and a constant"
    return Check(name, "fail", told)
  if not len(finite):
    return Check(name, "not run", "no image has finite logits")
  return Check(name, "pass", "rows do not sum to 1")


def _same(values: np.ndarray) -> bool:
  """Whether nearly all of several numbers are one number."""
  if len(values) < _SEVERAL:
    return False
  with np.errstate(invalid="ignore"):  # rows of −inf alone
    return _nearly_all(np.abs(values - np.median(values)) < 1e-3)


def _nearly_all(found: np.ndarray) -> bool:
  return len(found) > 0 and bool(np.mean(found) >= _NEARLY_ALL)


def gradient_fits(probed: Mapping[str, np.ndarray] | None, planned: bool = False) -> Check:
  """The change of the loss is what the gradient says, for nearly every image.

  Along the gradient within a factor of 2; at random steps, where there are some, the root mean
  square of the difference within half that of the change. Steps are short ones, or flips of single
  pixels where the model thresholds its input, see `gradient_cell`.

  Args:
    probed: the arrays of `gradient_cell.probe`; None where the evaluation does not probe. A change
      that is not finite fits nothing. Fails too where fewer than half of the images with a gradient
      can be judged, or more than half have none.
    planned: whether it is to probe, and has not come so far.
  """
  name = "the gradient is that of the loss"
  if probed is None:
    return Check(name, "not run", UNFINISHED if planned else "set config.probe_gradient=True")
  size, predicted, measured = (
    np.asarray(probed[k], np.float64) for k in ("gradient_norm", "predicted", "measured")
  )
  usable = np.isfinite(size) & (size > 0) & (predicted > 0)
  if not usable.any():
    zero = f"zero for {np.sum(size == 0)}, not finite for {np.sum(~np.isfinite(size))}"
    return Check(name, "fail", f"no usable gradient at any of {len(size)} images: {zero}")
  ratio = measured[usable] / predicted[usable]
  finite = np.isfinite(ratio)
  off = np.mean(~finite | (ratio < 1 / _FITS) | (ratio > _FITS))
  median = f"{np.median(ratio[finite]):.2f}" if finite.any() else "none"
  few = _too_few(size, usable)
  missing, aside = _missing(probed, usable)
  detail = (
    f"measured over predicted change at {np.sum(usable)} usable images: median {median}, "
    f"{100 * off:.0f}% beyond a factor of {_FITS:g} or not finite; {aside}; {_norms(size)}"
  )
  wrong = few or max(off, missing) > _MISFITS
  return Check(name, "fail" if wrong else "pass", "; ".join([*few, detail]))


def _missing(probed: Mapping[str, np.ndarray], usable: np.ndarray) -> tuple[float, str]:
  """The share of the usable images whose gradient lacks a large part, and that in words."""
  if "measured_aside" not in probed:  # an evaluation of before
    return 0.0, "not measured at random steps"
  share = _off(probed, "predicted_aside", usable)
  told = f"{100 * share:.0f}% off by more than half of the change at random steps"
  if "linear_aside" in probed:
    alone = _off(probed, "linear_aside", usable)
    told += f" ({100 * alone:.0f}% by the gradient at the image alone)"
  return share, told


def _off(probed: Mapping[str, np.ndarray], name: str, usable: np.ndarray) -> float:
  """The share of the usable images whose changes along random signs are not what `name` says."""
  said, measured = (np.asarray(probed[k], np.float64)[usable] for k in (name, "measured_aside"))
  with np.errstate(invalid="ignore"):
    lack = np.linalg.norm(measured - said, axis=1)
    fits = np.isfinite(lack) & (lack <= _MISSING * np.linalg.norm(measured, axis=1))
  return float(np.mean(~fits))


def _too_few(size: np.ndarray, usable: np.ndarray) -> list[str]:
  """Why the usable images do not stand for all of them, in words; empty where they do."""
  zero, found = int(np.sum(size == 0)), int(np.sum(usable))
  some = len(size) - zero
  many_zero = [f"the gradient is zero for {zero} of {len(size)} images"]
  few_usable = [f"only {found} of {some} images with a gradient can be judged"]
  return many_zero * (2 * zero > len(size)) + few_usable * (2 * found < some)


def _norms(size: np.ndarray) -> str:
  """The histogram of gradient norms in words."""
  finite = size[np.isfinite(size)]
  low, middle, high = np.quantile(finite, (0.05, 0.5, 0.95))
  return (
    f"norm zero for {np.sum(size == 0)} of {len(size)}, not finite for {len(size) - len(finite)}, "
    f"5% quantile {low:.3g}, median {middle:.3g}, 95% {high:.3g}"
  )


def surface_rises(margin: np.ndarray | None, planned: bool = False) -> Check:
  """The margin rises along its gradient's signs, and further than along a random direction.

  Fails where for more than a tenth of the images the first step along +t leaves it no higher, or
  any point along ±r is higher than all along +t. What is not finite does not rise.

  Args:
    margin: [M, P, P] over a plane around each image, rows along t, see `surface_cell`; None where
      the evaluation does not look at it.
    planned: whether it is to look, and has not come so far.
  """
  name = "the loss surface rises along the gradient"
  if margin is None:
    return Check(name, "not run", UNFINISHED if planned else "set config.surface.num_images")
  middle = margin.shape[1] // 2
  toward, across = margin[:, middle + 1 :, middle], np.delete(margin[:, middle], middle, axis=1)
  stuck = ~(toward[:, 0] > margin[:, middle, middle])
  lower = ~(np.max(toward, axis=1) >= np.max(across, axis=1))
  n = len(margin)
  told = (
    f"{np.sum(stuck)} of {n} images no higher after the first step along it, {np.sum(lower)} of "
    f"{n} higher along a random direction"
  )
  return Check(name, "fail" if np.mean(stuck | lower) > _MISFITS else "pass", told)


@functools.partial(jax.jit, static_argnames="loss")
def _own_gradient(loss: LogitLoss, logits: Array, goal: Goal) -> Array:
  gradient = jax.grad(lambda z: jnp.sum(loss(z, goal)))(logits)
  which = jnp.where(goal.target >= 0, goal.target, goal.label)
  return jnp.take_along_axis(gradient, which[:, None], axis=1)[:, 0]


def zero_gradients(
  loss: LogitLoss, logits: np.ndarray, labels: np.ndarray, target: np.ndarray | None = None
) -> np.ndarray:
  """[N] bool, whether ∂L/∂z_y is zero or not finite at the clean logits; z_target where targeted.

  Args:
    loss: (logits [N, C], goal) -> [N], one of `attacks.losses.LOSSES`.
    logits: [N, C].
    labels: [N].
    target: [N], −1 where untargeted; None for none.
  """
  aim = np.full(labels.shape, -1, np.int32) if target is None else target
  goal = Goal(label=jnp.asarray(labels), target=jnp.asarray(aim))
  own = np.asarray(_own_gradient(loss, jnp.asarray(logits), goal))
  return ~(np.abs(own) > 0)  # NaN counts


def standing_zeros(
  loss: LogitLoss,
  logits: np.ndarray,
  labels: np.ndarray,
  target: np.ndarray | None = None,
  accepted: np.ndarray | None = None,
  num_targets: int = 0,
) -> np.ndarray:
  """[N] bool, `zero_gradients` of the images that are not broken as they are.

  There every loss has something to gain. An attack that pursues several classes in turn is starved
  where the gradient is zero towards each of them.

  Args:
    loss: as in `zero_gradients`.
    logits: [N, C].
    labels: [N].
    target: [N], `targets.LEFT_OUT` for none; None where all are untargeted.
    accepted: [N] bool, by the detector that has to be evaded too; None for none.
    num_targets: likeliest classes besides the label that are pursued in turn where `target` is
      None; 0: the attack is untargeted.
  """
  if target is None and num_targets:
    aims = _likeliest(logits, labels)[:, :num_targets].T
    zero = np.all([zero_gradients(loss, logits, labels, aim) for aim in aims], axis=0)
  else:
    zero = zero_gradients(loss, logits, labels, target)
  prediction = predict(logits)  # −1 without finite logits, which are no success
  broken = (prediction >= 0) & (prediction != labels) if target is None else prediction == target
  if accepted is not None:
    broken &= accepted
  asked = np.ones_like(zero) if target is None else target != LEFT_OUT
  return zero & asked & ~broken


def _likeliest(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[N, C − 1] the classes but the label, by logit."""
  rows = np.where(np.isfinite(logits), logits, np.finfo(logits.dtype).min)
  own = np.arange(logits.shape[1]) == labels[:, None]
  order = np.argsort(np.where(own, -np.inf, -rows), axis=1, kind="stable")
  return order[:, 1:].astype(np.int32)
