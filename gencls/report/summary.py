"""From result cells to the numbers of an evaluation: intervals, worst case, sanity checks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gencls import sanity
from gencls.evaluate import CLEAN, GREY, UNTOUCHED
from gencls.grading import worst_case
from gencls.intervals import Interval, share_interval
from gencls.results import Cell

WORST = "worst case"
_STEPS = ("num_steps", "step_size", "rel_step_size")
_CLEAN = ("draws", "deterministic", "prepared_anew", "score", "metrics")


def _interval(correct: np.ndarray, draws: int) -> dict[str, Any]:
  return share_interval(correct, draws)._asdict()


def _candidate(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
  """([N] chosen cell, [N] share of grade draws that are right) of the worst of several cells."""
  names = ("select_correct", "select_margin", "correct")
  pick, correct = worst_case(*[[cell.arrays[name] for cell in cells] for name in names])
  return pick, correct.astype(np.float64)


def success_rate(correct: np.ndarray, untouched: np.ndarray, draws: int) -> dict[str, Any] | None:
  """Share of what was classified right untouched that the attack turns wrong, or None.

  With one draw a share of the images that were right, with Wilson's interval. With several draws 1
  minus a ratio of accuracies, whose interval takes the untouched accuracy as fixed.

  Args:
    correct: [N] share of right grade draws under attack, the untouched image being a candidate.
    untouched: [N] the same without attack.
    draws: number of grade draws.
  """
  if not np.any(untouched > 0):
    return None
  if draws == 1:
    return _interval(1.0 - correct[untouched > 0], 1)
  robust, base = share_interval(correct, draws), float(np.mean(untouched))
  rate, low, high = (
    float(np.clip(1 - v / base, 0, 1)) for v in (robust.mean, robust.high, robust.low)
  )
  return Interval(rate, low, high, robust.n, "from the accuracy's interval")._asdict()


def _row(cell: Cell, untouched: Cell, draws: int) -> dict[str, Any]:
  """What is reported of one attack (or of the grey image) at one eps."""
  arrays, base = cell.arrays, untouched.arrays["correct"]
  _, correct = _candidate([cell, untouched])
  row = {
    **{name: cell.header[name] for name in ("label", "norm", "eps", "seconds")},
    "accuracy": _interval(correct, draws),
    "accuracy_of_result": float(np.mean(arrays["correct"], dtype=np.float64)),
    "success_rate": success_rate(correct, base, draws),
    "median_norm": float(np.median(arrays["norm"])),
    "nonfinite_grades": int(np.sum(arrays["nonfinite_grades"] > 0)),
  }
  if cell.header["label"] == GREY:
    return row
  unmoved = (arrays["norm"] == 0) & (base > 0.5) & (cell.header["eps"] > 0)
  return {
    **row,
    "attack": cell.header["settings"]["attack"],
    "zero_gradient": int(np.sum(arrays["zero_gradient"])),
    "zero_gradient_steps": int(np.sum(arrays["zero_gradient_steps"] > 0)),
    "unmoved": int(np.sum(unmoved)),
    "nonfinite_steps": int(np.sum(arrays["nonfinite_steps"] > 0)),
    "outside": int(np.sum(arrays["outside"])),
    "disagree": int(np.sum(arrays["attack_success"] != (arrays["correct"] <= 0.5))),
  }


def _worst_row(group: Sequence[Cell], untouched: Cell, draws: int) -> dict[str, Any]:
  """The per-example worst case over all attacks at one norm and eps."""
  everything = _attacks_first(group, untouched)
  pick, correct = _candidate(everything)
  counts = np.bincount(pick, minlength=len(everything))
  return {
    "label": WORST,
    "norm": group[0].header["norm"],
    "eps": group[0].header["eps"],
    "accuracy": _interval(correct, draws),
    "success_rate": success_rate(correct, untouched.arrays["correct"], draws),
    "chosen": {c.header["label"]: int(n) for c, n in zip(everything, counts, strict=True)},
  }


def _attacks_first(group: Sequence[Cell], untouched: Cell) -> list[Cell]:
  """The candidates in the order in which ties are broken."""
  return [*sorted(group, key=lambda cell: cell.header["label"] == GREY), untouched]


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
  """Cells by norm and eps, in order."""
  keys = sorted({(cell.header["norm"], cell.header["eps"]) for cell in cells})
  return [[c for c in cells if (c.header["norm"], c.header["eps"]) == key] for key in keys]


def _curves(cells: Sequence[Cell], untouched: Cell) -> list[sanity.Curve]:
  """Each attack's graded curve, the untouched images at eps = 0 first; worst cases last."""
  base = untouched.arrays["correct"]
  curves = []
  attacked = [cell for cell in cells if cell.header["label"] != GREY]
  for label in dict.fromkeys(cell.header["label"] for cell in attacked):
    own = [cell for cell in attacked if cell.header["label"] == label and cell.header["eps"] > 0]
    correct = [_candidate([cell, untouched])[1] for cell in own]
    norm = next(cell.header["norm"] for cell in attacked if cell.header["label"] == label)
    curves.append(_curve(label, own, correct, base, norm))
  for norm in dict.fromkeys(cell.header["norm"] for cell in attacked):
    groups = [g for g in _groups(cells) if g[0].header["norm"] == norm and g[0].header["eps"] > 0]
    correct = [_candidate(_attacks_first(group, untouched))[1] for group in groups]
    curves.append(_curve(WORST, [group[0] for group in groups], correct, base, norm))
  return [curve for curve in curves if len(curve.eps) > 1]


def _curve(
  label: str,
  cells: Sequence[Cell],
  correct: Sequence[np.ndarray],
  base: np.ndarray,
  norm: str,
) -> sanity.Curve:
  order = sorted(range(len(cells)), key=lambda i: cells[i].header["eps"])
  eps = (0.0, *(float(cells[i].header["eps"]) for i in order))
  return sanity.Curve(label, norm, eps, (base, *(correct[i] for i in order)))


def _checks(clean: Cell, untouched: Cell, cells: Sequence[Cell], rows: Sequence[dict[str, Any]],
            draws: int, threat: str) -> list[sanity.Check]:  # fmt: skip
  labels, n = untouched.arrays["label"], untouched.header["num_images"]
  curves = _curves(cells, untouched)
  names = {
    c.header["label"]: c.header["settings"]["attack"]["name"]
    for c in cells
    if c.header["label"] != GREY
  }
  single = [c for c in curves if names.get(c.label) in sanity.SINGLE_STEP]
  many = [c for c in curves if c.label in names and names[c.label] not in sanity.SINGLE_STEP]
  boxes = [c for c in curves if c.label == WORST and c.norm == "linf"]
  attacked = [row for row in rows if row["label"] != GREY]

  def count(field: str) -> dict[str, int]:
    return {f"{row['label']} {row['norm']} {row['eps']:g}": row[field] for row in attacked}

  bad_grades = {f"{row['label']} {row['eps']:g}": row["nonfinite_grades"] for row in rows}
  bad_grades["clean"] = int(np.sum(np.any(clean.arrays["prediction"] < 0, axis=1)))
  bad_grades["untouched"] = int(np.sum(untouched.arrays["nonfinite_grades"] > 0))
  randomness = sanity.Randomness(**untouched.header["randomness"])
  return [
    *(sanity.monotone(curve, draws) for curve in curves),
    sanity.half_box(boxes[0] if boxes else None, labels),
    sanity.iterated_beats_single(single, many, draws),
    sanity.doubling(_step_pairs(many, cells), draws),
    sanity.counted("no zero gradient of the loss by the true logit", count("zero_gradient"), n),
    sanity.counted("no zero input gradient at any step", count("zero_gradient_steps"), n),
    sanity.counted("every attack moves every image it should", count("unmoved"), n),
    sanity.counted("no non-finite loss or gradient in an attack", count("nonfinite_steps"), n),
    sanity.counted("every graded logit is finite", bad_grades, n),
    sanity.attack_agrees(_disagreements(attacked, threat), n),
    sanity.counted("attacks stay in ball and box", count("outside"), n),
    sanity.not_probabilities(untouched.arrays["logits"]),
    sanity.threat_fits(randomness, threat),
    sanity.one_origin(_made_by([clean, untouched, *cells])),
    *sanity.NOT_RUN,
  ]


def _step_pairs(
  curves: Sequence[sanity.Curve], cells: Sequence[Cell]
) -> list[tuple[sanity.Curve, sanity.Curve]]:
  """(few, many): attacks alike but for twice the steps or more, and the size of a step."""
  settings = {c.header["label"]: c.header["settings"].get("attack") for c in cells}

  def steps(curve: sanity.Curve) -> int:
    return settings[curve.label]["hyperparameters"].get("num_steps", 0)

  def rest(curve: sanity.Curve) -> dict[str, Any]:
    hyperparameters = settings[curve.label]["hyperparameters"]
    same = {name: v for name, v in hyperparameters.items() if name not in _STEPS}
    return {**settings[curve.label], "label": None, "hyperparameters": same}

  return [
    (few, many)
    for few in curves
    for many in curves
    if 0 < 2 * steps(few) <= steps(many) and rest(few) == rest(many)
  ]


def _disagreements(attacked: Sequence[dict[str, Any]], threat: str) -> dict[str, int]:
  """Per attack × eps; only where the result is what the attack calls its success."""
  return {
    f"{row['label']} {row['norm']} {row['eps']:g}": row["disagree"]
    for row in attacked
    if threat == "known_seed" and row["attack"]["hyperparameters"].get("keep_best", True)
  }


def _made_by(cells: Sequence[Cell]) -> dict[str, list[str]]:
  """The distinct revisions, versions and devices that the cells were made with."""
  records = [cell.header["record"] for cell in cells]
  texts = {
    "revision": [
      f"{(r['git']['revision'] or 'unknown')[:12]}{' + changes' * bool(r['git']['dirty'])}"
      for r in records
    ],
    "versions": [", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records],
    "device": [f"{r['devices']['kind']} ({r['devices']['platform']})" for r in records],
  }
  return {name: list(dict.fromkeys(found)) for name, found in texts.items()}


def summarise(cells: Sequence[Cell]) -> dict[str, Any]:
  """The numbers of an evaluation, JSON-able.

  Args:
    cells: all cells of one evaluation, in the order of `evaluate.make_plans`.

  Returns:
    `clean`, `untouched`, `rows` (attack × eps), `worst` (per norm and eps) and `checks`. In every
    row the untouched image is a candidate, so that clean errors count as errors.

  Raises:
    ValueError: if the first two cells are not the clean and the untouched one.
  """
  if [cell.header["label"] for cell in cells[:2]] != [CLEAN, UNTOUCHED]:
    raise ValueError("the cells of an evaluation start with the clean and the untouched ones")
  clean, untouched, rest = cells[0], cells[1], list(cells[2:])
  settings = untouched.header["settings"]
  draws = settings["grade_draws"]
  rows = [_row(cell, untouched, draws) for cell in rest]
  labels = untouched.arrays["label"]
  return {
    "num_images": untouched.header["num_images"],
    "largest_class_share": float(np.max(np.bincount(labels)) / len(labels)),
    "clean": {
      "accuracy": _interval(clean.arrays["correct"], clean.header["draws"]),
      **{
        name: clean.header[name]
        for name in ("draws", "deterministic", "prepared_anew", "score", "metrics")
      },
    },
    "untouched": {
      "accuracy": _interval(untouched.arrays["correct"], draws),
      **untouched.header["randomness"],
    },
    "made_by": _made_by(cells),
    "rows": rows,
    "worst": [_worst_row(group, untouched, draws) for group in _groups(rest)],
    "checks": [
      check._asdict() for check in _checks(clean, untouched, rest, rows, draws, settings["threat"])
    ],
  }
