"""What an evaluation asks of one attack, what does not fit, and what makes it another one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gencls import attacks, interop
from gencls.attacks import boundary_planes
from gencls.attacks.losses import LOSSES
from gencls.attacks.norms import order
from gencls.evaluation import minimum_norm, targets
from gencls.evaluation.batch_loop import Protocol, size_of_batches
from gencls.evaluation.model_options import START_TRIES, walking_options
from gencls.names import unknown_name

DEFAULT_LOSS = "margin"  # of `attacks.build`
MODELS = (
  "thresholded",
)  # what an attack may be made for: those with a `Classifier.pixel_threshold`
# "detector": misclassified and accepted; with a target, in its class and accepted
AGAINST = ("classifier", "detector")
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
  target: str | int | None = None  # one of targets.RULES, or a class; None: untargeted
  against: str | None = None  # one of AGAINST; None: "classifier"
  accept_weight: float | None = None  # of the detector's score in the loss; None: 1
  models: str | None = None  # in MODELS: run on these alone; None: on all
  loss_of_posteriors: str | None = None  # for models that give p(y | x) alone; None: `loss`
  # Labels of attacks in the same norm: what they have broken at an eps is not attacked again there,
  # see `gencls.evaluation.handed_on`.
  after: tuple[str, ...] | None = None


def evades(spec: AttackSpec) -> bool:
  """Whether the attack has to be accepted by the detector too."""
  return spec.against == "detector"


def applies(models: str | None, threshold: float | None) -> bool:
  """Whether an attack for `models` (in `MODELS`, or None) is made for one with this threshold."""
  return models is None or threshold is not None


def for_score(spec: AttackSpec, score: str) -> AttackSpec:
  """The attack on a model with this `Classifier.score`, its loss decided."""
  own = spec.loss_of_posteriors if score == "posterior" else None
  return spec._replace(loss=own or spec.loss, loss_of_posteriors=None)


def takes_eps(spec: AttackSpec) -> bool:
  """Whether the attack has a fixed budget; if not, it looks for the smallest perturbation."""
  own = interop.takes_eps if interop.is_foolbox(spec.name) else attacks.takes_eps
  return own(spec.name)


def check_spec(spec: AttackSpec) -> None:
  """Raises ValueError for settings that do not fit the kind of attack."""
  order(spec.norm)  # raises
  for field in ("loss", "loss_of_posteriors"):
    name = getattr(spec, field)
    if name not in LOSSES and (name is not None or field == "loss"):
      raise ValueError(unknown_name(field, name, LOSSES))
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
  if spec.models is not None and spec.models not in MODELS:
    raise ValueError(unknown_name("models", spec.models, MODELS))
  targets.check(spec.target)
  if spec.target is not None and interop.is_foolbox(spec.name):
    raise ValueError(
      f"Foolbox's attacks are run untargeted: leave target=None, got {spec.target!r}, or take an "
      f"attack of gencls ({', '.join(attacks.REGISTRY)})"
    )
  _check_against(spec)
  for name in ("max_seconds", "max_queries"):
    value = getattr(spec, name)
    if value is not None and not (math.isfinite(value) and value > 0):
      raise ValueError(f"{name} must be > 0 and finite, or None, got {value}")
    if value is not None and interop.is_foolbox(spec.name):
      raise ValueError(f"Foolbox's attacks cannot be cut short: leave {name}=None")
  if interop.is_foolbox(spec.name):
    _check_foolbox_norm(spec)


def check_after(specs: Sequence[AttackSpec]) -> None:
  """Raises ValueError where an attack comes after one that cannot hand anything on to it."""
  by_label = {spec.label: spec for spec in specs}
  for spec in specs:
    where = f"attack {spec.label!r} has after={spec.after}"
    for name in spec.after or ():
      if name not in by_label:
        raise ValueError(f"{where}: {unknown_name('attack', name, by_label)}")
      for each in (by_label[name], spec):
        plain = each.target is None and not evades(each) and takes_eps(each)
        if not plain or each.norm != spec.norm or interop.is_foolbox(spec.name):
          raise ValueError(
            f"{where}, and what is handed on is misclassified within an eps: both must be "
            f"untargeted, have an eps in {spec.norm} and attack the classifier alone, and the "
            f"later one must be gencls' own, got {each}"
          )
  depths(specs)


def depths(specs: Sequence[AttackSpec]) -> dict[str, int]:
  """Label -> how many attacks have to be made one after the other before it.

  Raises:
    ValueError: if attacks come after each other in a circle.
  """
  by_label, found = {spec.label: spec for spec in specs}, {}

  def depth(label: str, path: tuple[str, ...]) -> int:
    if label in path:
      raise ValueError(f"attacks come after each other in a circle: {' -> '.join([*path, label])}")
    if label not in found:
      before = [name for name in by_label[label].after or () if name in by_label]
      found[label] = max((1 + depth(name, (*path, label)) for name in before), default=0)
    return found[label]

  for spec in specs:
    depth(spec.label, ())
  return found


def _check_foolbox_norm(spec: AttackSpec) -> None:
  own = interop.norm(spec.name, spec.hyperparameters)
  if own not in (None, spec.norm):
    raise ValueError(
      f"{spec.name} is an attack in {own}, and would be graded in norm={spec.norm!r}: set "
      f"norm={own!r}"
    )


def _check_against(spec: AttackSpec) -> None:
  if spec.against is not None and spec.against not in AGAINST:
    raise ValueError(unknown_name("against", spec.against, AGAINST))
  if spec.accept_weight is not None and not evades(spec):
    raise ValueError(
      f"accept_weight={spec.accept_weight} weighs a detector that the attack does not see: leave "
      "it None, or set against='detector'"
    )
  if evades(spec) and spec.name in boundary_planes.ATTACKS:
    raise ValueError(
      f"{spec.name} pursues the boundaries between classes alone, and no detector: leave "
      "against='classifier', or take pgd, auto_attack, carlini_wagner or boundary"
    )
  if evades(spec) and interop.is_foolbox(spec.name):
    raise ValueError(
      "Foolbox's attacks see the classifier alone: leave against='classifier', or take an attack "
      f"of gencls ({', '.join(attacks.REGISTRY)})"
    )


def starting_options(spec: AttackSpec) -> Mapping[str, Any]:
  """The attack's hyperparameters, and where it starts if it has to be told."""
  if spec.target is None and not evades(spec):
    return spec.hyperparameters
  return walking_options(spec.name, spec.hyperparameters)


def identity(spec: AttackSpec, protocol: Protocol, dataset: Any) -> dict[str, Any]:
  """Everything about an attack but its eps that decides a cell's numbers, JSON-able."""
  # Left out where they are not set.
  later = (
    *("grade_as", "max_seconds", "max_queries", "target", "against", "accept_weight"),
    "loss_of_posteriors",
  )
  plain = spec._replace(against="detector" if evades(spec) else None)
  found = {
    k: v
    for k, v in plain._asdict().items()
    if k not in ("eps", "models", "after") and (k not in later or v is not None)
  }
  found["keep_images"] = protocol.keep_images
  if starting_options(spec).get("start") == "nearest_wrong":
    found["start_tries"] = START_TRIES
  if not takes_eps(spec):
    found["grade_as"] = spec.grade_as or "distance"
    if found["grade_as"] == "clip":
      found["eps"] = list(spec.eps)
    else:
      found["stretches"] = list(minimum_norm.stretches(protocol.threat))
  if interop.is_foolbox(spec.name):
    # Its random numbers are drawn for a whole batch.
    found["foolbox"] = interop.version()
    found["batch_size"] = size_of_batches(dataset, protocol.batch_size)
  return found
