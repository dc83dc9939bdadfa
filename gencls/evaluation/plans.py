"""The cells of an evaluation: which there are, what decides each, and what it is made from."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gencls import data
from gencls.evaluation.attack_specs import AttackSpec, depths, takes_eps
from gencls.evaluation.attack_specs import identity as attack_identity
from gencls.evaluation.batch_loop import Protocol
from gencls.evaluation.cells import CLEAN, GREY, UNTOUCHED
from gencls.evaluation.detector_cell import Detection, settings_of
from gencls.evaluation.probes import (
  GRADIENT,
  NO_PROBES,
  SURFACE,
  Probes,
  gradient_settings,
  surface_settings,
)
from gencls.evaluation.regrade_cell import label as regraded_label
from gencls.evaluation.regrade_cell import unseen_draws, unseen_label
from gencls.evaluation.results import cell_path
from gencls.evaluation.results import identity as digest
from gencls.evaluation.transfer_cell import at as transferred_at
from gencls.evaluation.transfer_cell import identity as transfer_identity

# Raised by hand whenever the same settings give other numbers or other arrays than before.
EVALUATION_VERSION = 2

DETECTOR = "detector"
TAKEN = (CLEAN, UNTOUCHED, GREY, DETECTOR, GRADIENT, SURFACE)  # the cells that are no attack


class Plan(NamedTuple):
  """One cell to be made; `settings` is everything that decides its numbers."""

  label: str
  norm: str
  eps: float | None  # None: a minimum-norm attack, run once for every eps
  spec: AttackSpec | None
  settings: dict[str, Any]
  path: Path
  after: tuple[Path, ...] = ()  # the cells it is made from
  num_images: int | None = None  # the first ones; None: all


def make_plans(
  folder: Path,
  protocol: Protocol,
  specs: Sequence[AttackSpec],
  identity: Mapping[str, Any],
  dataset: data.Dataset,
  detection: Detection | None = None,
  probes: Probes = NO_PROBES,
) -> list[Plan]:
  """The cells of an evaluation in the order they are made.

  Args:
    folder: where the cells go.
    protocol: how numbers are made.
    specs: the attacks.
    identity: JSON-able; what the model and the data are (parameters, checkpoint step, images).
    dataset: the images.
    detection: the detector, or None.
    probes: what is looked at beside the attacks.

  Returns:
    The clean cell, the untouched images under the draws of grading, then for each norm and eps
    the grey image, the attacks of that budget and what other evaluations have made, then the
    minimum-norm attacks, the gradient, the loss surface, the worst cases under other numbers of
    samples or on unseen draws, and last the detector (which is made first).
  """
  names = ("threat", "seed", "select_draws", "grade_draws")
  grading: dict[str, Any] = {name: getattr(protocol, name) for name in names}
  made_by = {"evaluation": EVALUATION_VERSION, "backend": jax.default_backend()}

  def plan(label: str, norm="", eps: float | None = 0.0, spec=None, **settings: Any) -> Plan:
    settings = {**made_by, **identity, **settings, "label": label, "norm": norm, "eps": eps}
    at = "minimum" if eps is None else f"{eps:g}"
    name = f"{label}-{norm}-{at}" if norm else label
    after = (plans[1].path,) if norm else ()
    return Plan(label, norm, eps, spec, settings, cell_path(folder, name, settings), after)

  fits = []
  if detection is not None:  # without one the settings are those of evaluations that know none
    fits = [plan(DETECTOR, **settings_of(detection, protocol.seed))]
    grading["detector"] = digest(fits[0].settings)
  clean = {"seed": protocol.seed, "draws": protocol.clean_draws, "metrics": list(protocol.clean)}
  plans = [plan(CLEAN, **clean), plan(UNTOUCHED, **grading)]
  order = depths(specs)
  grid = sorted({(spec.norm, float(eps)) for spec in specs for eps in spec.eps})
  for norm, eps in grid:
    plans.append(plan(GREY, norm, eps, **grading))
    mine = [each for each in specs if each.norm == norm and eps in each.eps and takes_eps(each)]
    made: dict[str, Plan] = {}
    for spec in sorted(mine, key=lambda spec: order[spec.label]):
      before = [made[label] for label in spec.after or () if label in made]
      handed_on = {"after": [each.path.name for each in before]} if before else {}
      attack = attack_identity(spec, protocol, dataset)
      found = plan(spec.label, norm, eps, spec, attack=attack, **grading)
      if before and not found.path.exists():  # one of every image holds at least as much
        found = plan(spec.label, norm, eps, spec, attack=attack, **handed_on, **grading)
        found = found._replace(after=(*found.after, *(each.path for each in before)))
      made[spec.label] = found
    plans += [made[spec.label] for spec in mine]
    for source in probes.sources:
      if transferred_at(source, norm, eps):
        attack = transfer_identity(source, norm, eps, protocol)
        plans.append(plan(source.label, norm, eps, attack=attack, **grading))
  for spec in specs:
    if spec.eps and not takes_eps(spec):
      attack = attack_identity(spec, protocol, dataset)
      plans.append(plan(spec.label, spec.norm, None, spec, attack=attack, **grading))
  if probes.gradient:
    plans.append(plan(GRADIENT, **gradient_settings(protocol, probes.threshold)))
  n = len(dataset.labels)
  if probes.surface is not None:
    found = plan(SURFACE, **surface_settings(probes.surface, protocol))
    plans.append(found._replace(num_images=min(probes.surface.num_images, n)))
  for count, (norm, eps) in itertools.product(_regraded(probes, protocol), grid):
    own = count in (None, identity.get("model", {}).get("num_samples"))
    held = detection is not None and own and (count is None or protocol.threat == "known_seed")
    label, again, after = _again(plans, protocol, count, norm, eps, held)
    found = plan(label, **again, **grading)
    plans.append(found._replace(after=after, num_images=min(protocol.keep_images, n)))
  return [*plans, *fits]


def _regraded(probes: Probes, protocol: Protocol) -> tuple[int | None, ...]:
  """The numbers of samples that worst cases are graded again under; None: as they were graded."""
  if probes.regrade is not None:
    return probes.regrade.num_samples
  return (None,) * (probes.unseen and protocol.keep_images > 0)


def _again(
  plans: Sequence[Plan], protocol: Protocol, count: int | None, norm: str, eps: float, held: bool
) -> tuple[str, dict[str, Any], tuple[Path, ...]]:
  """A worst case that is graded again: its label, what it is, and the cells that it is made from.

  Args:
    plans: the cells before it.
    protocol: how numbers are made.
    count: number of samples, None: as it was graded.
    norm: of the ball.
    eps: radius.
    held: whether what is right or rejected is graded too.
  """
  within = [p for p in plans if p.norm == norm and (p.eps is None or p.eps <= eps)]
  after = (plans[1].path, *(p.path for p in within))
  again: dict[str, Any] = {"norm": norm, "eps": eps, "cells": [p.path.name for p in within]}
  again["unseen_draws"] = unseen_draws(protocol.grade_draws)
  if held:
    again["held"] = True
  if count is None:
    return unseen_label(norm, eps), {"unseen": again}, after
  return regraded_label(count, norm, eps), {"regraded": {**again, "num_samples": count}}, after
