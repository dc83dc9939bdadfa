"""AutoAttack: the usual ensemble of parameter-free attacks, as a `Cascade`.

  standard  APGD-CE; APGD-T, 9 targets; FAB-T, 9 targets; Square, 5000 queries
  plus      APGD-CE, APGD-DLR and FAB with 5 restarts each; Square; APGD-T; FAB-T
  rand      APGD-CE and APGD-DLR, over fresh draws (the authors take 20 per query), on every image
            and to the end: a majority of 20 draws is not yet a broken image
  apgd      ours, for models whose query is dear, which the thousands of FAB and Square are too many
            for: APGD-CE, APGD on the margin, APGD-T. No loss alone is the strongest on all models
  brief     ours too: standard without FAB, whose steps cost as much as those of APGD-T and come
            after them; Square stays, as what it breaks says whether gradients were masked

Each member has its own loss; gradient members make 100 steps, and one restart where none are named.
Where there are too few classes for a loss or for targets, a warning says what takes its place.

References:
  Croce and Hein 2020, arXiv:2003.01690.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gencls.attacks import boundary_planes
from gencls.attacks import objective as objectives
from gencls.attacks.cascade import Cascade, sequence
from gencls.attacks.losses import LOSSES, TARGETED_MIN_CLASSES
from gencls.attacks.rivals import MIN_TARGET_CLASSES
from gencls.names import unknown_name
from gencls.types import Accept, Attack, LogitsFn

MIN_DLR_CLASSES = 3
EOT_SAMPLES = 20  # of the authors' version "rand"
# name of the member -> (name of the attack, settings besides norm and eps)
Members = dict[str, tuple[str, dict[str, Any]]]


def _standard(num_steps: int, num_queries: int, num_targets: int) -> Members:
  return {
    "apgd_ce": ("apgd", {"loss": "cross_entropy", "num_steps": num_steps}),
    **_targeted_apgd(num_steps, num_targets),
    **_targeted_fab(num_steps, num_targets),
    "square": ("square", {"loss": "margin", "num_steps": num_queries}),
  }


def _plus(num_steps: int, num_queries: int, num_targets: int) -> Members:
  restarts = {"num_steps": num_steps, "num_restarts": 5}
  return {
    "apgd_ce": ("apgd", {"loss": "cross_entropy", **restarts}),
    "apgd_dlr": ("apgd", {"loss": "dlr", **restarts}),
    "fab": ("fab", {"loss": "margin", "stop_at_eps": True, **restarts}),
    "square": ("square", {"loss": "margin", "num_steps": num_queries}),
    **_targeted_apgd(num_steps, num_targets),
    **_targeted_fab(num_steps, num_targets),
  }


def _rand(num_steps: int, num_queries: int, num_targets: int) -> Members:
  del num_queries, num_targets
  settings = {"num_steps": num_steps, "early_stop": False}
  return {
    "apgd_ce": ("apgd", {"loss": "cross_entropy", **settings}),
    "apgd_dlr": ("apgd", {"loss": "dlr", **settings}),
  }


def _apgd(num_steps: int, num_queries: int, num_targets: int) -> Members:
  del num_queries
  return {
    "apgd_ce": ("apgd", {"loss": "cross_entropy", "num_steps": num_steps}),
    "apgd_margin": ("apgd", {"loss": "margin", "num_steps": num_steps}),
    **_targeted_apgd(num_steps, num_targets),
  }


def _brief(num_steps: int, num_queries: int, num_targets: int) -> Members:
  every = _standard(num_steps, num_queries, num_targets)
  return {name: member for name, member in every.items() if name != "fab_t"}


def _targeted_apgd(num_steps: int, num_targets: int) -> Members:
  settings = {"loss": "dlr", "num_steps": num_steps, "num_targets": num_targets}
  return {"apgd_t": ("apgd", settings)}


def _targeted_fab(num_steps: int, num_targets: int) -> Members:
  settings = {"loss": "margin", "num_steps": num_steps, "num_targets": num_targets}
  return {"fab_t": ("fab", {"stop_at_eps": True, **settings})}


VERSIONS: dict[str, Callable[[int, int, int], Members]] = {
  "standard": _standard,
  "plus": _plus,
  "rand": _rand,
  "apgd": _apgd,
  "brief": _brief,
}


def auto_attack(
  logits_fn: LogitsFn,
  *,
  build: Callable[..., Attack],
  registry: Mapping[str, Any],
  loss: str,
  randomness: str,
  eot_samples: int,
  accept: Accept | None = None,
  accept_weight: float = 1.0,
  norm: str = "linf",
  eps: float,
  version: str = "standard",
  num_classes: int = 10,
  num_steps: int = 100,
  num_queries: int = 5000,
  num_targets: int = 9,
) -> Cascade:
  """AutoAttack on `logits_fn`; all down to accept_weight comes from `attacks.build`.

  Args:
    logits_fn: (keys [B], x) -> [B, C] nats.
    build: `attacks.build`, for the members.
    registry: the attacks there are.
    loss: what chooses the result of an example that no member breaks.
    randomness: "fresh" for "rand", "fixed" for the others.
    eot_samples: draws per query, for "rand".
    accept: a detector, for the members and the judge; see `objective.build`. FAB does not pursue
      one, and is left out.
    accept_weight: of its score in the losses.
    norm: "linf" or "l2".
    eps: radius of the ball.
    version: a name in `VERSIONS`.
    num_classes: of the model; `run` checks it.
    num_steps: of each run of APGD and FAB.
    num_queries: of Square.
    num_targets: of APGD-T and FAB-T, at most num_classes − 1.

  Returns:
    A `Cascade`.

  Raises:
    ValueError: if a name is unknown, the randomness does not fit the version, a number is out of
      its range or a member is not there.
  """
  if version not in VERSIONS:
    raise ValueError(unknown_name("version of auto_attack", version, VERSIONS))
  _check_randomness(version, randomness, eot_samples)
  if num_classes < 2 or num_targets < 1:
    raise ValueError(
      f"num_classes must be >= 2 and num_targets >= 1, got {num_classes} and {num_targets}"
    )
  chosen = VERSIONS[version](num_steps, num_queries, min(num_targets, num_classes - 1))
  missing = sorted({name for name, _ in chosen.values()} - set(registry))
  if missing:
    raise ValueError(
      f"auto_attack, version {version!r}, needs the attacks {', '.join(missing)}, which are not in "
      "gencls.attacks.REGISTRY; make one of other members with attacks.sequence"
    )
  shared: dict[str, Any] = {"randomness": randomness, "eot_samples": eot_samples}
  shared |= {"accept": accept, "accept_weight": accept_weight}
  attacks = []
  for place, (name, (attack, settings)) in enumerate(_fitting(chosen, num_classes).items()):
    if accept is not None and _is_blind(attack):
      continue
    # Each run of APGD has starts of its own.
    own = {"start_seed": place} if attack == "apgd" else {}
    # FAB's eps bounds its random starts, and ends what is broken within it.
    attacks.append(
      (name, build(attack, logits_fn, norm=norm, eps=eps, **settings, **own, **shared))
    )
  judge = objectives.build(logits_fn, loss=loss, **shared)
  return sequence(attacks, judge, norm=norm, eps=eps, num_classes=num_classes)


def _check_randomness(version: str, randomness: str, eot_samples: int) -> None:
  if version == "rand" and (randomness != "fresh" or eot_samples < 2):
    raise ValueError(
      "version='rand' averages over fresh draws: set randomness='fresh' and "
      f"eot_samples={EOT_SAMPLES}, got {randomness!r} and {eot_samples}"
    )
  if version != "rand" and randomness == "fresh":
    raise ValueError(
      f"version={version!r} is for deterministic models: with randomness='fresh' use "
      "version='rand', or randomness='fixed' for a known seed"
    )


def _fitting(members: Members, num_classes: int) -> Members:
  """The members, changed where there are too few classes for a loss or for targets."""
  fitting = {}
  for name, (attack, settings) in members.items():
    targeted = "num_targets" in settings
    if _left_out(settings, num_classes):
      warnings.warn(
        f"{name} is left out: with {num_classes} classes the only target is the untargeted attack",
        stacklevel=4,
      )
      continue
    least, loss = _least_classes(settings), _loss(settings, num_classes)
    if loss != settings["loss"]:
      kind = "targeted dlr" if targeted else "dlr"
      warnings.warn(
        f"{name} takes the loss margin: {kind} needs {least} classes, the model has {num_classes}",
        stacklevel=4,
      )
    fitting[name] = (attack, {**settings, "loss": loss})
  return fitting


def _left_out(settings: Mapping[str, Any], num_classes: int) -> bool:
  return "num_targets" in settings and num_classes < MIN_TARGET_CLASSES


def _least_classes(settings: Mapping[str, Any]) -> int:
  """That a member on the DLR needs."""
  return TARGETED_MIN_CLASSES[LOSSES["dlr"]] if "num_targets" in settings else MIN_DLR_CLASSES


def _loss(settings: Mapping[str, Any], num_classes: int) -> str:
  few = settings["loss"] == "dlr" and num_classes < _least_classes(settings)
  return "margin" if few else settings["loss"]


class Member(NamedTuple):
  """What a member of `auto_attack` does, for those who judge its results."""

  attack: str  # a name in `attacks.REGISTRY`
  loss: str  # a name in `losses.LOSSES`
  num_targets: int  # classes that it pursues in turn; 0: it is untargeted


def members(
  *,
  version: str = "standard",
  num_classes: int = 10,
  num_targets: int = 9,
  adaptive: bool = False,
  **others: Any,
) -> dict[str, Member]:
  """The members of `auto_attack`, in their order: `broken_by` counts them from 1.

  Args:
    version: as there.
    num_classes: as there.
    num_targets: as there.
    adaptive: whether a detector is to be evaded too.
    **others: its other hyperparameters, which change none of this.
  """
  del others
  return {
    name: Member(attack, _loss(settings, num_classes), settings.get("num_targets", 0))
    for name, (attack, settings) in VERSIONS[version](
      1, 1, min(num_targets, num_classes - 1)
    ).items()
    if not _left_out(settings, num_classes) and not (adaptive and _is_blind(attack))
  }


def _is_blind(attack: str) -> bool:
  """Whether it cannot pursue a detector."""
  return attack in boundary_planes.ATTACKS
