"""What an attack returned, graded: back into ball and box, lengthened, and by class and target."""

from collections.abc import Callable

import numpy as np

from gencls.evaluation import minimum_norm
from gencls.evaluation.attack_specs import AttackSpec, evades
from gencls.evaluation.batch_loop import Arrays, Batch, Work
from gencls.evaluation.cells import grade_batch, graded_arrays
from gencls.evaluation.grading import perturbation_norm, reclip, share_right
from gencls.evaluation.targets import LEFT_OUT, share_in_target
from gencls.types import Accept

Share = Callable[[np.ndarray], np.ndarray]  # x_adv [B, H, W, D] -> [B]


def grade_results(
  work: Work,
  spec: AttackSpec,
  eps: float | None,
  x_adv: np.ndarray,
  batch: Batch,
  target: np.ndarray | None = None,
) -> Arrays:
  """Grades the results of one batch.

  Args:
    work: model, data and protocol.
    spec: the attack.
    eps: its radius: results are brought back into this ball, and into the box. None for
      minimum-norm attacks, whose results are lengthened until they fail, or reach the target
      (`minimum_norm.nearest_failure`); with `grade_as="clip"` they are drawn back into each ball.
    x_adv: [B, H, W, D] without padding.
    batch: the images.
    target: [B], see `targets.choose`; None for an untargeted attack.

  Returns:
    The arrays of a cell, [B, …]: "x_adv", as it was graded, and what was found. With a target also
    "target", "in_target" (the share of the grade draws that predict it, and against a detector are
    accepted), and for minimum norms
    "select_in_target".
  """
  if eps is None:
    return _graded_minimum(work, spec, x_adv, batch, target)
  x = batch.x[: batch.valid]
  x_adv, outside = reclip(x_adv, x, spec.norm, eps)
  arrays = _grade_valid(work, spec, x_adv, batch, target)
  return {**arrays, **_sizes(x_adv, x, spec.norm), "outside": outside, "x_adv": x_adv}


def _sizes(x_adv: np.ndarray, x: np.ndarray, norm: str) -> Arrays:
  """[B] the perturbation as graded, in the attack's norm and in ℓ2."""
  found = {"norm": norm, "l2_norm": "l2"}
  return {name: perturbation_norm(x_adv, x, n).astype(np.float32) for name, n in found.items()}


def _graded_minimum(
  work: Work, spec: AttackSpec, x_adv: np.ndarray, batch: Batch, target: np.ndarray | None
) -> Arrays:
  """Minimum norm: the image itself, and for `grade_as="clip"` it in each ball."""
  x = batch.x[: batch.valid]
  x_adv, outside = reclip(x_adv, x, spec.norm, np.inf)
  returned = {}
  if spec.grade_as != "clip":
    returned = {minimum_norm.AS_RETURNED: _grade_valid(work, spec, x_adv, batch)["correct"]}
    factors = minimum_norm.stretches(work.protocol.threat)
    standing = _standing(work, spec, batch, target)
    x_adv = minimum_norm.nearest_failure(x_adv, x, standing, factors)
  relative = minimum_norm.relative_l2(perturbation_norm(x_adv, x, "l2"), x)
  arrays = {
    **_grade_valid(work, spec, x_adv, batch, target),
    **returned,
    **_sizes(x_adv, x, spec.norm),
    minimum_norm.RELATIVE_L2: relative.astype(np.float32),
    "outside": outside,
    "x_adv": x_adv,
  }
  if target is not None:
    reached = _select_in_target(work, spec, batch, target)(x_adv)
    arrays[minimum_norm.SELECT_IN_TARGET] = reached
  if spec.grade_as == "clip":
    cells = [grade_results(work, spec, each, x_adv, batch) for each in spec.eps]
    for name in (*minimum_norm.per_example(cells[0]), "norm"):
      arrays[minimum_norm.CLIPPED + name] = np.stack([cell[name] for cell in cells], axis=1)
  return arrays


def _grade_valid(
  work: Work, spec: AttackSpec, x_adv: np.ndarray, batch: Batch, target: np.ndarray | None = None
) -> Arrays:
  """Grades in the batch's one shape, and drops the padding."""
  graded = graded_arrays(grade_batch(work, padded(x_adv, batch), batch))
  arrays = {name: value[: batch.valid] for name, value in graded.items()}
  if target is None:
    return arrays
  accepted = arrays["accepted"] if evades(spec) else None
  in_target = share_in_target(arrays["prediction"], target, accepted)
  return {**arrays, "target": target, "in_target": in_target}


def padded(values: np.ndarray, batch: Batch) -> np.ndarray:
  """Rows of a batch without its padding, padded to its one shape by copies of the last."""
  padding = [(0, len(batch.labels) - batch.valid)] + [(0, 0)] * (values.ndim - 1)
  return np.pad(values, padding, mode="edge")


def _standing(work: Work, spec: AttackSpec, batch: Batch, target: np.ndarray | None) -> Share:
  """The share of the select draws against which the attack has failed."""
  if target is None:
    accept = work.accept if evades(spec) else None
    return _select_share(work, batch, batch.labels, accept)
  reached = _select_in_target(work, spec, batch, target)
  return lambda x_adv: 1.0 - reached(x_adv)


def _select_in_target(work: Work, spec: AttackSpec, batch: Batch, target: np.ndarray) -> Share:
  accept = work.accept if evades(spec) else None
  share = _select_share(work, batch, padded(target, batch), accept, reached=True)
  # Non-finite logits have no prediction: that is no hit where there is no target.
  return lambda x_adv: np.where(target == LEFT_OUT, np.float32(0), share(x_adv))


def _select_share(
  work: Work,
  batch: Batch,
  classes: np.ndarray,
  accept: Accept | None = None,
  reached: bool = False,
) -> Share:
  """The share of the select draws that predict `classes` [B], or are rejected by `accept`.

  With `reached` that of those which predict them *and* are accepted.
  """
  protocol = work.protocol

  def share(x_adv: np.ndarray) -> np.ndarray:
    found = share_right(
      work.subject.logits_fn,
      padded(x_adv, batch),
      classes,
      batch.indices,
      threat=protocol.threat,
      seed=protocol.seed,
      purpose="select",
      draws=protocol.select_draws,
      accept=accept,
      reached=reached,
    )
    return found[: batch.valid]

  return share
