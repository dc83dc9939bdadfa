"""The cells of attacks: run on every image, brought back into ball and box, and graded."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls import attacks, data, interop
from gencls.attacks import checks, workers
from gencls.attacks.losses import LOSSES
from gencls.evaluation import masking, targets
from gencls.evaluation.attack_grades import grade_results
from gencls.evaluation.attack_specs import AttackSpec, evades, starting_options
from gencls.evaluation.batch_loop import Arrays, Batch, Protocol, Turn, Work, over_batches
from gencls.evaluation.clean import Subject
from gencls.evaluation.grading import attack_keys, forward, predict
from gencls.evaluation.handed_on import handed_on, standing, taken_over
from gencls.evaluation.model_options import Pool, attack_inputs, pool, start_images
from gencls.types import Accept, Attack

LEAST_SECONDS = 1e-9  # what a batch gets when the time is up: `attacks.run` takes no 0


class Found(NamedTuple):
  """What an attack returned for the images of a batch that are not padding."""

  x_adv: np.ndarray  # [B, H, W, D]
  arrays: Arrays  # what it says of itself, [B]


def build_attack(
  subject: Subject,
  protocol: Protocol,
  spec: AttackSpec,
  eps: float | None,
  accept: Accept | None = None,
) -> Any:
  """The attack of one cell; its randomness follows from the threat model.

  Args:
    subject: the model.
    protocol: decides the randomness.
    spec: the attack. Its norm is given to attacks that have one; others are measured in it.
    eps: the budget, None for minimum-norm attacks.
    accept: the detector; attacks against the classifier alone do not see it.

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
    accept=accept if evades(spec) else None,
    accept_weight=1.0 if spec.accept_weight is None else spec.accept_weight,
    **hyperparameters,
  )


def check_target(dataset: data.Dataset, protocol: Protocol, spec: AttackSpec, attack: Any) -> None:
  """Raises ValueError where an attack from `build_attack` cannot pursue its spec's target."""
  if spec.target is None:
    return
  targets.check_classes(spec.target, dataset.num_classes)
  keys = attack_keys(protocol.threat, protocol.seed, dataset.indices[:1])
  x, y = data.to_float(dataset.images[:1], dataset.num_levels), dataset.labels[:1]
  other = (y + 1) % dataset.num_classes
  for member in attack.attacks if isinstance(attack, attacks.Cascade) else (attack,):
    checks.inputs(member, keys, x, y, other, None)


def attack_cell(
  work: Work,
  spec: AttackSpec,
  eps: float | None,
  untouched: Arrays,
  before: Sequence[Arrays] = (),
) -> tuple[Arrays, dict[str, Any]]:
  """Attacks every image, brings the results back into ball and box, and grades them.

  Args:
    work: model, data and protocol.
    spec: the attack.
    eps: its radius; None for minimum-norm attacks, which have only the box.
    untouched: the arrays of the untouched images' cell: their logits [N, C] count zero gradients,
      and starts are images that are right, for attacks on the detector also accepted.

  Returns:
    (arrays [N, …], numbers for the header).
  """
  attack = build_attack(work.subject, work.protocol, spec, eps, work.accept)
  clean_logits = untouched["logits"]
  right = predict(clean_logits) == work.dataset.labels
  options = starting_options(spec)
  if evades(spec):
    right &= untouched["accepted"][:, 0]
  starts = pool(options, work.dataset, right)
  given = handed_on(before, len(right))

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    target = _choose_targets(work, spec, batch)
    if interop.is_foolbox(spec.name):
      found, own = _foolbox(work, attack, eps, turn), {}
    else:
      left = standing(given, batch)
      if target is not None:
        left &= target != targets.LEFT_OUT
      found = _ours(work, spec, options, attack, starts, turn, target, left)
      own = _zero_gradients(spec, untouched, batch, target)
    arrays = grade_results(work, spec, eps, found.x_adv, batch, target)
    kept = arrays.pop("x_adv")[: max(0, work.protocol.keep_images - batch.at.start)]
    return taken_over({**arrays, **found.arrays, **own, "x_adv": kept}, given, batch)

  title = f"{spec.label} {spec.norm}" if eps is None else f"{spec.label} {eps:g}"
  numbers = {"grid": list(spec.eps)} if eps is None else {}
  return over_batches(work, title, make), numbers


def _choose_targets(work: Work, spec: AttackSpec, batch: Batch) -> np.ndarray | None:
  """[valid], or None where the attack is untargeted."""
  if spec.target is None:
    return None
  protocol, logits = work.protocol, None
  if spec.target in targets.OF_LOGITS:
    keys = attack_keys(protocol.threat, protocol.seed, batch.indices)
    logits = np.asarray(forward(work.subject.attack_logits_fn, keys, jnp.asarray(batch.x)))
  num_classes = work.dataset.num_classes
  found = targets.choose(
    spec.target, batch.labels, batch.indices, num_classes, protocol.seed, logits
  )
  return found[: batch.valid]


def _ours(
  work: Work,
  spec: AttackSpec,
  options: Mapping[str, Any],
  attack: Attack,
  starts: Pool | None,
  turn: Turn,
  target: np.ndarray | None,
  asked: np.ndarray,
) -> Found:
  """Attacks the images of a batch that are asked [valid]; the others are returned as they are."""
  batch, protocol = turn.batch, work.protocol
  real = slice(None, batch.valid)  # the attack pads by itself
  left = None
  if spec.max_seconds is not None:
    left = max(LEAST_SECONDS, (spec.max_seconds - turn.seconds) * turn.share)
  keys = attack_keys(protocol.threat, protocol.seed, batch.indices[real])
  x, y = jnp.asarray(batch.x[real]), jnp.asarray(batch.labels[real])
  aim = None if target is None else jnp.asarray(target)
  # Of all images, so that the number of those with a target compiles nothing of the model anew.
  accept = work.accept if evades(spec) else None
  start = start_images(work.subject, options, keys, x, y, starts, aim, accept)
  if not asked.all():
    keys, x, y, aim, start = jax.tree.map(lambda v: v[asked], (keys, x, y, aim, start))
  num_workers, devices = workers.local(len(batch.labels))
  result = attacks.run(
    attack,
    keys,
    x,
    y,
    target=aim,
    start=start,
    batch_size=math.ceil(len(batch.labels) / num_workers),
    num_workers=num_workers,
    devices=devices,
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
  if result.broken_by is not None:
    arrays["broken_by"] = np.asarray(result.broken_by, np.int32)
  x_adv = np.array(batch.x[real])
  x_adv[asked] = np.asarray(result.x)
  return Found(x_adv, {name: _spread(value, asked) for name, value in arrays.items()})


def _spread(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
  """[M] values of the images that were attacked as [B], 0 or False for the others."""
  found = np.zeros(len(asked), values.dtype)
  found[asked] = values
  return found


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


def _zero_gradients(
  spec: AttackSpec, untouched: Arrays, batch: Batch, target: np.ndarray | None
) -> Arrays:
  """By the attack's own loss; an ensemble's is that of its judge."""
  labels, logits = batch.labels[: batch.valid], untouched["logits"][batch.at]
  accepted = untouched["accepted"][batch.at, 0] if evades(spec) else None
  found = masking.standing_zeros(LOSSES[spec.loss], logits, labels, target, accepted)
  return {"zero_gradient": found}
