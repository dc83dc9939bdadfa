"""The cells of attacks: run on every image, brought back into ball and box, and graded."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gencls import attacks, interop, minimum_norm, sanity
from gencls.attack_specs import AttackSpec
from gencls.attacks.losses import LOSSES
from gencls.batch_loop import Arrays, Batch, Protocol, Turn, Work, over_batches
from gencls.cells import grade_batch, graded_arrays
from gencls.clean import Subject
from gencls.grading import (
  attack_keys,
  perturbation_norm,
  predict,
  reclip,
  select_share,
)
from gencls.model_options import Pool, attack_inputs, pool, start_images
from gencls.types import Attack

LEAST_SECONDS = 1e-9  # what a batch gets when the time is up: `attacks.run` takes no 0


class Found(NamedTuple):
  """What an attack returned for the images of a batch that are not padding."""

  x_adv: np.ndarray  # [B, H, W, D]
  arrays: Arrays  # what it says of itself, [B]


def build_attack(subject: Subject, protocol: Protocol, spec: AttackSpec, eps: float | None) -> Any:
  """The attack of one cell; its randomness follows from the threat model.

  Args:
    subject: the model.
    protocol: decides the randomness.
    spec: the attack. Its norm is given to attacks that have one; others are measured in it.
    eps: the budget, None for minimum-norm attacks.

  Returns:
    An `Attack` (or what `attacks.run` takes for one), or an attack of Foolbox.

  Raises:
    ValueError: for a name or number that does not exist or fit.
  """
  if interop.is_foolbox(spec.name):
    return interop.build(spec.name, spec.hyperparameters)
  logits_fn, hyperparameters = attack_inputs(subject, spec.name, spec.hyperparameters)
  own = {"norm": spec.norm} if attacks.takes(spec.name, "norm") else {}
  return attacks.build(
    spec.name,
    logits_fn,
    **own,
    **({} if eps is None else {"eps": eps}),
    loss=spec.loss,
    randomness="fixed" if protocol.threat == "known_seed" else "fresh",
    eot_samples=spec.eot_samples,
    **hyperparameters,
  )


def attack_cell(
  work: Work, spec: AttackSpec, eps: float | None, clean_logits: np.ndarray
) -> tuple[Arrays, dict[str, Any]]:
  """Attacks every image, brings the results back into ball and box, and grades them.

  Args:
    work: model, data and protocol.
    spec: the attack.
    eps: its radius; None for minimum-norm attacks, which have only the box.
    clean_logits: [N, C] of the untouched images, for counting zero gradients and for starts at
      images that are right.

  Returns:
    (arrays [N, …], numbers for the header).
  """
  attack = build_attack(work.subject, work.protocol, spec, eps)
  right = predict(clean_logits) == work.dataset.labels
  starts = pool(spec.hyperparameters, work.dataset, right)

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    if interop.is_foolbox(spec.name):
      found = _foolbox(work, attack, eps, turn)
    else:
      found = _ours(work, spec, attack, starts, turn)
    own = {} if interop.is_foolbox(spec.name) else _zero_gradients(spec, clean_logits, batch)
    arrays = _graded(work, spec, eps, found.x_adv, batch)
    kept = arrays.pop("x_adv")[: max(0, work.protocol.keep_images - batch.at.start)]
    return {**arrays, **found.arrays, **own, "x_adv": kept}

  title = f"{spec.label} {spec.norm}" if eps is None else f"{spec.label} {eps:g}"
  numbers = {"grid": list(spec.eps)} if eps is None else {}
  return over_batches(work, title, make), numbers


def _ours(work: Work, spec: AttackSpec, attack: Attack, starts: Pool | None, turn: Turn) -> Found:
  batch, protocol = turn.batch, work.protocol
  real = slice(None, batch.valid)  # the attack pads by itself
  left = None
  if spec.max_seconds is not None:
    left = max(LEAST_SECONDS, (spec.max_seconds - turn.seconds) * turn.share)
  keys = attack_keys(protocol.threat, protocol.seed, batch.indices[real])
  x, y = jnp.asarray(batch.x[real]), jnp.asarray(batch.labels[real])
  result = attacks.run(
    attack,
    keys,
    x,
    y,
    start=start_images(work.subject, spec.hyperparameters, keys, x, y, starts),
    batch_size=len(batch.labels),
    progress=turn.progress,
    max_seconds=left,
    max_queries=spec.max_queries,
  )
  tally = result.info
  arrays = {
    "attack_success": np.asarray(tally.success),
    "nonfinite_steps": np.asarray(tally.nonfinite, np.int32),
    "zero_gradient_steps": np.asarray(tally.zero_gradient, np.int32),
    "forward": np.asarray(tally.forward, np.int32),
    "backward": np.asarray(tally.backward, np.int32),
  }
  if spec.max_seconds is not None:
    arrays["cut_short"] = ~np.asarray(tally.done)
  return Found(np.asarray(result.x), arrays)


def _foolbox(work: Work, attack: Any, eps: float | None, turn: Turn) -> Found:
  batch, protocol = turn.batch, work.protocol
  # The padding is attacked too, so that one program serves every batch.
  x_adv, success = interop.run(
    attack,
    work.subject.attack_logits_fn,
    attack_keys(protocol.threat, protocol.seed, batch.indices),
    batch.x,
    batch.labels,
    eps=eps,
    seed=int(np.random.SeedSequence([protocol.seed, batch.at.start]).generate_state(1)[0]),
  )
  return Found(x_adv[: batch.valid], {"attack_success": success[: batch.valid]})


def _zero_gradients(spec: AttackSpec, clean_logits: np.ndarray, batch: Batch) -> Arrays:
  labels = batch.labels[: batch.valid]
  return {"zero_gradient": sanity.zero_gradients(LOSSES[spec.loss], clean_logits[batch.at], labels)}


def _graded(
  work: Work, spec: AttackSpec, eps: float | None, x_adv: np.ndarray, batch: Batch
) -> Arrays:
  """Fixed budget: back into ball and box, and graded."""
  if eps is None:
    return _graded_minimum(work, spec, x_adv, batch)
  x = batch.x[: batch.valid]
  x_adv, outside = reclip(x_adv, x, spec.norm, eps)
  size = perturbation_norm(x_adv, x, spec.norm).astype(np.float32)
  return {**_grade_valid(work, x_adv, batch), "norm": size, "outside": outside, "x_adv": x_adv}


def _graded_minimum(work: Work, spec: AttackSpec, x_adv: np.ndarray, batch: Batch) -> Arrays:
  """Minimum norm: the image itself, and for `grade_as="clip"` it in each ball."""
  x = batch.x[: batch.valid]
  x_adv, outside = reclip(x_adv, x, spec.norm, np.inf)
  returned = {}
  if spec.grade_as != "clip":
    returned = {minimum_norm.AS_RETURNED: _grade_valid(work, x_adv, batch)["correct"]}
    x_adv = minimum_norm.nearest_failure(x_adv, x, _select_share(work, batch))
  size = perturbation_norm(x_adv, x, spec.norm)
  arrays = {
    **_grade_valid(work, x_adv, batch),
    **returned,
    "norm": size.astype(np.float32),
    "relative_norm": minimum_norm.relative_norm(size, x, spec.norm).astype(np.float32),
    "outside": outside,
    "x_adv": x_adv,
  }
  if spec.grade_as == "clip":
    cells = [_graded(work, spec, each, x_adv, batch) for each in spec.eps]
    for name in (*minimum_norm.PER_EXAMPLE, "norm"):
      arrays[minimum_norm.CLIPPED + name] = np.stack([cell[name] for cell in cells], axis=1)
  return arrays


def _grade_valid(work: Work, x_adv: np.ndarray, batch: Batch) -> Arrays:
  """Grades in the batch's one shape, and drops the padding."""
  arrays = graded_arrays(grade_batch(work, _padded(x_adv, batch), batch))
  return {name: value[: batch.valid] for name, value in arrays.items()}


def _padded(x_adv: np.ndarray, batch: Batch) -> np.ndarray:
  padding = [(0, len(batch.labels) - batch.valid)] + [(0, 0)] * (x_adv.ndim - 1)
  return np.pad(x_adv, padding, mode="edge")


def _select_share(work: Work, batch: Batch) -> Callable[[np.ndarray], np.ndarray]:
  protocol = work.protocol

  def share(x_adv: np.ndarray) -> np.ndarray:
    found = select_share(
      work.subject.logits_fn,
      _padded(x_adv, batch),
      batch.labels,
      batch.indices,
      threat=protocol.threat,
      seed=protocol.seed,
      select_draws=protocol.select_draws,
    )
    return found[: batch.valid]

  return share
