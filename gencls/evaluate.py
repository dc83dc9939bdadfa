"""The attack-and-grade loop: every attack × eps cell, graded by the evaluation rules, resumable.

Several processes may evaluate into one folder at once: each cell is made under a lock, by one.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gencls import data, locks, owners, sharing
from gencls.evaluation.attack_cells import attack_cell, build_attack, check_target
from gencls.evaluation.attack_specs import AttackSpec, check_after, check_spec, evades, takes_eps
from gencls.evaluation.batch_loop import Arrays, Protocol, Work, seconds_before
from gencls.evaluation.cells import (
  CLEAN,
  GREY,
  UNTOUCHED,
  clean_cell,
  first_images,
  grey_cell,
  randomness,
  untouched_cell,
)
from gencls.evaluation.clean import Subject, check_metrics
from gencls.evaluation.detector_cell import Detection, accept_from, check_detection, detector_cell
from gencls.evaluation.gradient_cell import gradient_cell
from gencls.evaluation.grading import check_draws
from gencls.evaluation.plans import DETECTOR, TAKEN, Plan, make_plans
from gencls.evaluation.probes import GRADIENT, NO_PROBES, SURFACE, Probes, check_probes
from gencls.evaluation.regrade_cell import Estimate, regraded_cell
from gencls.evaluation.results import Cell, canonical_json, read_result, write_cell
from gencls.evaluation.surface_cell import surface_cell
from gencls.evaluation.transfer_cell import transfer_cell
from gencls.settings import check_finite, check_kinds, check_seed
from gencls.types import GRADIENT_ONLY
from gencls.workdir import differences, source_digest

_OF_WORK = {CLEAN: clean_cell, UNTOUCHED: untouched_cell, GRADIENT: gradient_cell}


def check_specs(specs: Sequence[AttackSpec]) -> None:
  """Raises ValueError for an attack that no cell can be made of."""
  labels = [spec.label for spec in specs]
  if len(set(labels)) != len(labels):
    raise ValueError(f"every attack needs its own label, got {labels}")
  for spec in specs:
    where = f"attack {spec.label!r}"
    if spec.label in TAKEN:
      raise ValueError(f"{where}: the label is taken by a cell of its own; call it otherwise")
    try:
      check_kinds(spec._asdict(), AttackSpec.__annotations__)
      check_spec(spec)
      check_finite(spec.hyperparameters)
    except ValueError as error:
      raise ValueError(f"{where}: {error}") from error
    if not all(math.isfinite(eps) and eps >= 0 for eps in spec.eps):
      raise ValueError(f"{where}: every eps must be finite and >= 0, got {spec.eps}")
    if len(set(spec.eps)) != len(spec.eps):
      raise ValueError(f"{where}: an eps is listed twice, got {spec.eps}")
  check_after(specs)


def check_protocol(protocol: Protocol, identity: Mapping[str, Any]) -> None:
  """Raises ValueError for a protocol that makes no numbers that count.

  Args:
    protocol: how numbers are made.
    identity: may hold the settings of the graded ("model") and of the attacked model.
  """
  check_kinds(protocol._asdict(), Protocol.__annotations__)
  check_seed(protocol.seed)
  check_metrics(protocol.clean)
  check_draws(protocol.threat, protocol.select_draws, protocol.grade_draws)
  graded, attacked = (
    {k: v for k, v in identity.get(name, {}).items() if k not in GRADIENT_ONLY}
    for name in ("model", "attack_model")
  )
  if protocol.threat == "known_seed" and graded != attacked:
    raise ValueError(
      "known_seed means that attack and grading share one deterministic function, but their models "
      f"differ in {'; '.join(differences(graded, attacked))}; leave config.attack_model unset, or "
      "use threat='fresh_seed'"
    )
  if protocol.clean_draws < 1:
    raise ValueError(f"clean_draws must be >= 1, got {protocol.clean_draws}")
  if protocol.batch_size is not None and protocol.batch_size < 1:
    raise ValueError(f"batch_size must be >= 1 or None, got {protocol.batch_size}")
  if protocol.keep_images < 0:
    raise ValueError(f"keep_images must be >= 0, got {protocol.keep_images}")


def evaluate(
  subject: Subject,
  dataset: data.Dataset,
  protocol: Protocol,
  specs: Sequence[AttackSpec],
  *,
  folder: Path,
  identity: Mapping[str, Any],
  record: Mapping[str, Any],
  progress: bool = True,
  detection: Detection | None = None,
  probes: Probes = NO_PROBES,
  announce: Callable[[list[Plan]], None] | None = None,
) -> list[Cell]:
  """Makes every cell that is not there yet and returns them all.

  What another process is making is left to it and waited for.

  Args:
    subject: the model with its parameters.
    dataset: the images to be evaluated, all of them.
    protocol: how numbers are made.
    specs: the attacks.
    folder: where the cells go.
    identity: JSON-able; decides, with protocol and attack, which cell is which.
    record: JSON-able; written into new cells (config, versions, device, command).
    progress: whether to show a progress bar.
    detection: a detector that grading asks too, and attacks with against="detector" have to
      satisfy; None for none.
    probes: what is looked at beside the attacks, for the sanity checks.
    announce: called with the plans once they are checked, before the first cell is made.

  Returns:
    The cells in the order of `make_plans`; those of minimum-norm attacks with the eps of their
    spec as `grid` in the header.

  Raises:
    ValueError: for an attack, metric or number of draws that does not exist or fit, or a damaged
      cell.
    OSError: if a cell cannot be written; finished cells stay.
  """
  check_specs(specs)
  check_protocol(protocol, identity)
  if protocol.threat != "known_seed" and (own := [spec.label for spec in specs if spec.after]):
    raise ValueError(
      f"attacks {own} come after others, whose broken images they leave; under threat="
      f"{protocol.threat!r} an image is broken by a share of its draws: leave after=None"
    )
  if len(dataset.labels) == 0:
    raise ValueError("an evaluation needs at least one image, got none")
  check_detector(subject, specs, detection)
  if detection is not None and any(spec.after for spec in specs):
    raise ValueError(
      "an attack has after=(...), which hands on what is misclassified, rejected or not, and the "
      "evaluation has a detector: leave after=None"
    )
  check_probes(probes, protocol, [spec.label for spec in specs])
  for spec in specs:
    for eps in spec.eps if takes_eps(spec) else (None,):
      # A misspelt hyperparameter, or a target that cannot be, fails before any work.
      check_target(dataset, protocol, spec, build_attack(subject, protocol, spec, eps))
  if subject.attacked is not None:
    probes = probes._replace(threshold=subject.attacked[0].pixel_threshold)
  if probes.unseen:
    first = make_plans(folder, protocol, specs, identity, dataset, detection)
    probes = probes._replace(unseen=_knows_draws(subject, dataset, protocol, first[1].path))
  plans = make_plans(folder, protocol, specs, identity, dataset, detection, probes)
  if announce is not None:
    announce(plans)
  cells: dict[Path, Cell] = {p.path: read_result(p.path) for p in plans if p.path.exists()}
  fitted_to = dataset if detection is None else detection.dataset
  images = {
    p.path: fitted_to if p.label == DETECTOR else first_images(dataset, p.num_images) for p in plans
  }
  total = sum(len(images[p.path].labels) for p in plans if p.path not in cells)
  with tqdm(total=total, unit="image", disable=not progress or total == 0) as bar:
    origin, by_path = _origin(record), {plan.path: plan for plan in plans}
    fitted = next((plan for plan in plans if plan.label == DETECTOR), None)

    def done(plan: Plan) -> bool:
      if plan.path not in cells and plan.path.exists():
        cells[plan.path] = read_result(plan.path)  # made by another process meanwhile
        bar.update(len(images[plan.path].labels))
      return plan.path in cells

    def ready(plan: Plan) -> bool:
      needs = [by_path[path] for path in plan.after]
      needs += [fitted] if fitted is not None and plan is not fitted else []
      return all(done(other) for other in needs)

    def make(plan: Plan, held: locks.Held) -> None:
      del held  # who has lost it writes the same numbers
      partial = plan.path.with_suffix(".partial")
      accept = None
      if fitted is not None and plan is not fitted:
        accept = accept_from(cells[fitted.path])
      work = Work(subject, images[plan.path], protocol, bar, partial, origin, accept)
      made_from = [_on_grid(by_path[path], cells[path]) for path in plan.after]
      cells[plan.path] = _make(work, plan, detection, probes, made_from, record)

    def waiting(left: Sequence[Plan]) -> None:
      who = owners.describe(locks.owner(_lock(left[0])))
      bar.set_postfix_str(f"waiting for {who} ({left[0].label}, {len(left)} cell(s) left)")

    in_order = sorted(plans, key=lambda plan: plan is not fitted)
    sharing.share(in_order, make, lock_path=_lock, done=done, ready=ready, waiting=waiting)
  return [_on_grid(plan, cells[plan.path]) for plan in plans]


def _knows_draws(
  subject: Subject, dataset: data.Dataset, protocol: Protocol, untouched: Path
) -> bool:
  """Whether attacks know draws that matter; by the untouched images' cell if it is there."""
  if subject.redraw is not None:  # what `prepare` draws is the same for attack and grading
    return True
  if protocol.threat != "known_seed":
    return False
  if untouched.exists():
    return read_result(untouched).header["randomness"]["randomised"]
  return randomness(subject, dataset, protocol).randomised


def _lock(plan: Plan) -> Path:
  return plan.path.with_suffix(".lock")


def _make(
  work: Work,
  plan: Plan,
  detection: Detection | None,
  probes: Probes,
  made_from: Sequence[Cell],
  record: Mapping[str, Any],
) -> Cell:
  """Makes a cell and writes it; continues where a killed run has left it."""
  start = time.perf_counter() - seconds_before(work)
  arrays, numbers = _compute(work, plan, detection, probes, made_from)
  dataset = work.dataset
  header = {
    **{name: getattr(plan, name) for name in ("label", "norm", "eps", "settings")},
    "num_images": len(dataset.labels),
    "seconds": round(time.perf_counter() - start, 3),
    **numbers,
    "record": dict(record),
  }
  cell = Cell(header, {"index": dataset.indices, "label": dataset.labels, **arrays})
  write_cell(plan.path, cell)
  plan.path.with_suffix(".partial").unlink(missing_ok=True)
  return cell


def check_detector(
  subject: Subject, specs: Sequence[AttackSpec], detection: Detection | None
) -> None:
  """Raises ValueError where the model has no such detector, or an attack needs one."""
  if detection is not None:
    check_detection(detection, subject.classifier.score)
  for spec in specs:
    if evades(spec) and detection is None:
      raise ValueError(
        f"attack {spec.label!r} is against='detector', but the evaluation has none: set "
        "config.detector.name, or against='classifier'"
      )


def _origin(record: Mapping[str, Any]) -> str:
  """What made a batch: another origin does not continue an unfinished cell."""
  made_by = {name: record[name] for name in ("versions", "git", "devices")}
  if record["git"]["revision"] is None or record["git"]["dirty"]:
    made_by["source"] = source_digest()  # the revision does not tell the code
  return canonical_json(made_by)


def _on_grid(plan: Plan, cell: Cell) -> Cell:
  """The cell of a minimum-norm attack with the eps that are asked now."""
  if plan.spec is None or plan.eps is not None:
    return cell
  return cell._replace(header={**cell.header, "grid": list(plan.spec.eps)})


def _compute(
  work: Work,
  plan: Plan,
  detection: Detection | None,
  probes: Probes,
  made_from: Sequence[Cell],
) -> tuple[Arrays, dict[str, Any]]:
  if plan.spec is not None:
    untouched, *before = (cell.arrays for cell in made_from)
    return attack_cell(work, plan.spec, plan.eps, untouched, before)
  if plan.norm:
    return _of_ball(work, plan, probes)
  if plan.label in _OF_WORK:
    return _OF_WORK[plan.label](work)
  if plan.label == DETECTOR:
    assert detection is not None
    return detector_cell(work, detection.spec, work.subject.classifier.score)
  if plan.label == SURFACE:
    assert probes.surface is not None
    return surface_cell(work, probes.surface)
  untouched, *others = made_from
  if "unseen" in plan.settings:
    again, estimate = plan.settings["unseen"], Estimate(work.subject.logits_fn, work.subject.redraw)
  else:
    assert probes.regrade is not None
    again = plan.settings["regraded"]
    estimate = probes.regrade.estimate(again["num_samples"])
  where, held = (again["norm"], again["eps"]), again.get("held", False)
  return regraded_cell(work, plan.label, estimate, where, untouched, others, held)


def _of_ball(work: Work, plan: Plan, probes: Probes) -> tuple[Arrays, dict[str, Any]]:
  """Images of a ball that no attack of this model made."""
  assert plan.eps is not None
  if plan.label == GREY:
    return grey_cell(work, plan.norm, plan.eps)
  source = next(each for each in probes.sources if each.label == plan.label)
  return transfer_cell(work, source, plan.norm, plan.eps)
