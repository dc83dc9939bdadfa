"""The cells of attacks: run on every image, brought back into ball and box, and graded."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gencls import attacks, interop, minimum_norm, sanity
from gencls.attacks.losses import LOSSES
from gencls.attacks.norms import order
from gencls.batch_loop import Arrays, Batch, Protocol, Turn, Work, over_batches, size_of_batches
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
from gencls.names import unknown_name
from gencls.types import Attack

LEAST_SECONDS = 1e-9  # what a batch gets when the time is up: `attacks.run` takes no 0
DEFAULT_LOSS = "margin"  # of `attacks.build`
# Attacks of one norm that take none; others without a norm may be measured in any.
OWN_NORMS = {"boundary": "l2", "carlini_wagner": "l2", "ddn": "l2"}


class AttackSpec(NamedTuple):
  """One attack over its eps grid."""

  label: str
  name: str  # in attacks.REGISTRY, or "foolbox:<name in foolbox.attacks>"
  norm: str
  eps: tuple[float, ...]  # of balls, or where the curve of a minimum-norm attack is read
  loss: str
  eot_samples: int
  hyperparameters: dict[str, Any]
  grade_as: str | None = None  # of minimum-norm attacks, minimum_norm.GRADE_AS; None: "distance"
  max_seconds: float | None = None  # for the whole cell, shared out evenly among its images
  max_queries: int | None = None  # forward and backward passes for each image


class Found(NamedTuple):
  """What an attack returned for the images of a batch that are not padding."""

  x_adv: np.ndarray  # [B, H, W, D]
  arrays: Arrays  # what it says of itself, [B]


def takes_eps(spec: AttackSpec) -> bool:
  """Whether the attack has a fixed budget; if not, it looks for the smallest perturbation."""
  own = interop.takes_eps if interop.is_foolbox(spec.name) else attacks.takes_eps
  return own(spec.name)


def check_spec(spec: AttackSpec) -> None:
  """Raises ValueError for settings that do not fit the kind of attack; builds nothing."""
  order(spec.norm)  # raises
  if spec.loss not in LOSSES:
    raise ValueError(unknown_name("loss", spec.loss, LOSSES))
  own_norm = OWN_NORMS.get(spec.name, spec.norm)
  if spec.norm != own_norm:
    raise ValueError(
      f"{spec.name} minimises {own_norm} and no other norm, got norm={spec.norm!r}: set "
      f"norm={own_norm!r}, or take an attack of {spec.norm}"
    )
  if interop.is_foolbox(spec.name) and (spec.eot_samples, spec.loss) != (1, DEFAULT_LOSS):
    raise ValueError(
      "Foolbox's attacks have losses of their own and see one fixed key: leave eot_samples=1 and "
      f"loss={DEFAULT_LOSS!r}, got {spec.eot_samples} and {spec.loss!r}"
    )
  if spec.grade_as is not None and spec.grade_as not in minimum_norm.GRADE_AS:
    raise ValueError(unknown_name("grade_as", spec.grade_as, minimum_norm.GRADE_AS))
  if spec.grade_as is not None and takes_eps(spec):
    raise ValueError(
      f"grade_as={spec.grade_as!r} is for minimum-norm attacks; {spec.name} has a fixed budget and "
      "is graded at it: leave grade_as=None"
    )
  for name in ("max_seconds", "max_queries"):
    value = getattr(spec, name)
    if value is not None and not value > 0:
      raise ValueError(f"{name} must be > 0 or None, got {value}")
    if value is not None and interop.is_foolbox(spec.name):
      raise ValueError(f"Foolbox's attacks cannot be cut short: leave {name}=None")


def identity(spec: AttackSpec, protocol: Protocol, dataset: Any) -> dict[str, Any]:
  """Everything about an attack but its eps that decides a cell's numbers, JSON-able."""
  later = ("grade_as", "max_seconds", "max_queries")  # left out where they are not set
  found = {
    k: v for k, v in spec._asdict().items() if k != "eps" and (k not in later or v is not None)
  }
  found["keep_images"] = protocol.keep_images
  if not takes_eps(spec):
    found["grade_as"] = spec.grade_as or "distance"
    if found["grade_as"] == "clip":
      found["eps"] = list(spec.eps)
    else:
      found["stretches"] = list(minimum_norm.STRETCHES)
  if interop.is_foolbox(spec.name):
    # Its random numbers are drawn for a whole batch.
    found["foolbox"] = interop.version()
    found["batch_size"] = size_of_batches(dataset, protocol.batch_size)
  return found


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
