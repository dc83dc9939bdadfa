"""The sanity checks of one evaluation, from its cells and rows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from gencls import interop, sanity
from gencls.evaluate import GRADIENT, GREY, SURFACE
from gencls.evaluation import masking, minimum_norm
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.candidates import Group, candidate
from gencls.evaluation.results import Cell
from gencls.summary import convergence, members, worst_checks, zero_gradients
from gencls.summary.detection import check_adaptive, evading, held_groups, own_view
from gencls.summary.targeted import aim
from gencls.summary.targeted import curve as targeted_curve

WORST = "worst case"
HELD = "worst case with the detector"


def _curves(cells: Sequence[Cell], untouched: Cell) -> list[sanity.Curve]:
  """Each attack's graded curve, the untouched images at eps = 0 first.

  A targeted attack is judged by the target alone, one on the detector by what is misclassified and
  accepted: they may rightly leave more right than others.
  """
  curves = []
  attacked = [cell for cell in cells if cell.header["label"] != GREY]
  for label in dict.fromkeys(cell.header["label"] for cell in attacked):
    own = [cell for cell in attacked if cell.header["label"] == label and cell.header["eps"] > 0]
    if own and aim(own[0]) is not None:
      if np.any(minimum_norm.asked(own[0])):
        curves.append(targeted_curve(own, untouched))
      continue
    first = next(cell for cell in attacked if cell.header["label"] == label)
    clean = own_view(untouched, first)
    correct = [candidate([own_view(cell), clean])[1] for cell in own]
    found = _curve(
      label,
      [cell.header["eps"] for cell in own],
      correct,
      clean.arrays["correct"],
      first.header["norm"],
    )
    curves.append(found._replace(against="detector" if evading(first) else "classifier"))
  return [curve for curve in curves if len(curve.eps) > 1]


def _curve(
  label: str,
  radii: Sequence[float],
  correct: Sequence[np.ndarray],
  base: np.ndarray,
  norm: str,
) -> sanity.Curve:
  order = sorted(range(len(radii)), key=lambda i: radii[i])
  eps = (0.0, *(float(radii[i]) for i in order))
  return sanity.Curve(label, norm, eps, (base, *(correct[i] for i in order)))


def _pairs(grouped: Sequence[Group], untouched: Cell) -> list[sanity.Pair]:
  """Every gradient-free attack of a norm and eps beside all that white-box ones have there."""
  found = []
  for group in grouped:
    attacked = [cell for cell in group.cells if cell.header["label"] != GREY]
    attacked = members.split(attacked, untouched)
    names = {c.header["label"]: c.header["settings"]["attack"]["name"] for c in attacked}
    # Gradients and queries have both made them: they are candidates, and compared with nothing.
    attacked = [c for c in attacked if names[c.header["label"]] != sanity.SAME_MODEL]
    names = {label: name for label, name in names.items() if name != sanity.SAME_MODEL}
    free = {label for label, name in names.items() if sanity.gradient_free(name)}
    white = [*[c for c in attacked if c.header["label"] not in free], untouched]
    # Attacks with a target are candidates, but need not find what others find.
    if group.eps == 0 or all(aim(cell) is not None for cell in white[:-1]):
      continue
    share = candidate(white)[1]
    for label in (n for n in names if n in free):
      own = [cell for cell in attacked if cell.header["label"] == label]
      if any(cell.header["eps"] == group.eps for cell in own):
        where = f"{label} {group.norm} {group.eps:g}"
        black, both = candidate([*own, untouched])[1], candidate([*white, *own])[1]
        index = untouched.arrays.get("index")
        late = any("member" in cell.header or "handed_on" in cell.arrays for cell in own)
        found.append(sanity.Pair(where, share, black, both, names[label], index, late))
  return found


def _blind(grouped: Sequence[Group]) -> list[Group]:
  """Without the attacks on the detector, which need not find what others find."""
  return [g._replace(cells=[cell for cell in g.cells if not evading(cell)]) for g in grouped]


def _where(row: Mapping[str, Any]) -> str:
  """Which cell a row is about."""
  at = "minimum" if row["eps"] is None else f"{row['eps']:g}"
  return f"{row['label']} {row['norm']} {at}"


def run(
  clean: Cell,
  untouched: Cell,
  cells: Sequence[Cell],
  grouped: Sequence[Group],
  attacked: Sequence[Mapping[str, Any]],
  rows: Sequence[Mapping[str, Any]],
  made_by: Mapping[str, Sequence[str]],
  probed: Mapping[str, Cell],
  unfinished: Collection[str] = (),
) -> list[sanity.Check]:
  """Every sanity check.

  Args:
    clean: the cell of clean numbers.
    untouched: the cell of the clean images.
    cells: of every attack and grey image at every eps, those of minimum-norm attacks derived.
    grouped: the candidates at every eps.
    attacked: a row for each attack that was run, with its counts.
    rows: a row for each of `cells`.
    made_by: revisions, versions and devices.
    probed: label -> cell of what is no attack, the gradient and the loss surface where there are.
    unfinished: labels of the planned cells that are not there yet.
  """
  labels, n = untouched.arrays["label"], untouched.header["num_images"]
  settings = untouched.header["settings"]
  draws, threat = settings["grade_draws"], settings["threat"]
  alone = members.own(grouped, untouched)
  curves, pairs = _curves(cells, untouched), _pairs(_blind(alone), untouched)
  with_detector = "held" in untouched.arrays
  if with_detector:
    pairs += _pairs(held_groups(alone, "detector"), as_held(untouched))
  queried = [pair for pair in pairs if not sanity.transferred(pair.name)]
  moved = [pair for pair in pairs if sanity.transferred(pair.name)]
  own = {c.header["label"]: c.header for c in cells if c.header["label"] != GREY}
  names = {label: header["settings"]["attack"]["name"] for label, header in own.items()}
  clipped = {label for label, header in own.items() if header.get("derived") == "clip"}
  given = {cell.header["label"] for cell in cells if "handed_on" in cell.arrays}
  single = [c for c in curves if names.get(c.label) in sanity.SINGLE_STEP]
  many = [
    c
    for c in curves
    if c.label in names.keys() - clipped - given
    and names[c.label] not in sanity.SINGLE_STEP
    and sanity.climbs(names[c.label])
  ]
  repeated = [c for c in curves if names.get(c.label) not in (None, *sanity.SINGLE_STEP)]

  def may_rise(curve: sanity.Curve) -> bool:
    """A single step of size eps may rightly go past what the detector accepts.

    And images that were made elsewhere, for other eps or another model, need not fall.
    """
    name = names.get(curve.label, "")
    past_it = curve.against == "detector" and name in sanity.SINGLE_STEP
    return past_it or sanity.made_elsewhere(name)

  def more(number: str, times: int, beside: Sequence[str] = ()) -> tuple[list, list]:
    """What the longer attacks do to the worst case, and what each does by itself."""
    found = convergence.pairs_of_more(repeated, cells, number, times, beside)
    return convergence.of_the_worst_case(found, alone, untouched), found

  def count(field: str) -> dict[str, int]:
    return {_where(row): row[field] for row in attacked if row[field] is not None}

  bad_grades = {f"{row['label']} {row['eps']:g}": row["nonfinite_grades"] for row in rows}
  bad_grades["clean"] = int(np.sum(np.any(clean.arrays["prediction"] < 0, axis=1)))
  bad_grades["untouched"] = int(np.sum(untouched.arrays["nonfinite_grades"] > 0))
  short = count("cut_short")
  randomness = sanity.Randomness(**untouched.header["randomness"])
  return [
    *(sanity.monotone(c, draws) for c in curves if c.label not in clipped and not may_rise(c)),
    *worst_checks.falling(WORST, grouped, untouched, draws),
    *(worst_checks.falling(HELD, grouped, untouched, draws, True) if with_detector else []),
    sanity.half_box(worst_checks.of_attacks(grouped, untouched, "linf"), labels),
    sanity.iterated_beats_single(single, many, draws),
    sanity.doubling(*more("num_steps", 2, convergence.STEP_SIZES), draws),
    sanity.restarting(*more("num_restarts", 5), draws),
    sanity.white_beats_black(queried, draws),
    sanity.nothing_new(queried, draws),
    sanity.white_beats_black(moved, draws, "transfer"),
    sanity.nothing_new(moved, draws, "transfer"),
    *([check_adaptive(grouped, untouched, draws)] if with_detector else []),
    zero_gradients.check(attacked, cells, untouched),
    sanity.counted("no zero input gradient at any step", count("zero_gradient_steps"), n),
    sanity.counted("every attack moves every image it should", count("unmoved"), n),
    sanity.counted("no non-finite loss or gradient in an attack", count("nonfinite_steps"), n),
    *([sanity.counted("no attack was cut short by time", short, n)] if short else []),
    sanity.counted("every graded logit is finite", bad_grades, n),
    sanity.attack_agrees(_disagreements(attacked, threat), n),
    sanity.counted("attacks stay in ball and box", count("outside"), n),
    masking.not_probabilities(untouched.arrays["logits"]),
    masking.gradient_fits(
      probed[GRADIENT].arrays if GRADIENT in probed else None, GRADIENT in unfinished
    ),
    masking.surface_rises(
      probed[SURFACE].arrays["margin"] if SURFACE in probed else None, SURFACE in unfinished
    ),
    sanity.threat_fits(randomness, threat, clean.header["prepared_anew"]),
    sanity.one_origin(made_by),
  ]


def _disagreements(attacked: Sequence[Mapping[str, Any]], threat: str) -> dict[str, int]:
  """Per attack × eps; only where the result is what the attack calls its success."""
  return {
    _where(row): row["disagree"]
    for row in attacked
    if threat == "known_seed" and row["disagree"] is not None and _claims_its_result(row["attack"])
  }


def _claims_its_result(attack: Mapping[str, Any]) -> bool:
  """Whether an attack says success exactly where the result that it returns succeeds.

  Not so: a result that was not evaluated (the last iterate, one unchecked step, an attack cut
  short after it moved), successes that were seen but fell short of the confidence asked for, and
  failures that give another image than the untouched one.
  """
  if interop.is_foolbox(attack["name"]):
    return True  # it looks at the result itself
  settings = attack["hyperparameters"]
  return (
    settings.get("keep_best", True)
    and settings.get("check_result", True)
    and settings.get("confidence", 0.0) == 0.0
    and settings.get("failed", "clean") == "clean"
    and "max_seconds" not in attack  # there only where they are set
    and "max_queries" not in attack
  )
