"""From result cells to the numbers of an evaluation: intervals, worst case, distances."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from gencls import sanity
from gencls.evaluate import CLEAN, DETECTOR, GREY, UNTOUCHED
from gencls.evaluation import minimum_norm
from gencls.evaluation.candidates import Group, attacks_first, candidate, groups
from gencls.evaluation.model_options import WALKS
from gencls.evaluation.results import Cell
from gencls.intervals import Interval, share_interval
from gencls.summary import checks, detection, regraded, shares, targeted, unseen
from gencls.summary.checks import WORST

_CLEAN = ("draws", "deterministic", "prepared_anew", "score", "metrics")


def _interval(correct: np.ndarray, draws: int) -> dict[str, Any]:
  return share_interval(correct, draws)._asdict()


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


def _made(cell: Cell) -> dict[str, Any]:
  """Which attack it was, and what it took where."""
  where = {name: cell.header[name] for name in ("label", "norm", "eps", "seconds")}
  return {**where, "device": _device(cell.header["record"]["devices"])}


def _row(cell: Cell, untouched: Cell, draws: int) -> dict[str, Any]:
  """What is reported of one attack (or of the grey image) at one eps."""
  arrays, base = cell.arrays, untouched.arrays["correct"]
  _, correct = candidate([cell, untouched])
  row = {
    **_made(cell),
    "accuracy": _interval(correct, draws),
    "accuracy_of_result": float(np.mean(arrays["correct"], dtype=np.float64)),
    "as_returned": _interval(arrays["correct"], draws),
    "success_rate": success_rate(correct, base, draws),
    "median_norm": float(np.median(arrays["norm"])),
    "nonfinite_grades": int(np.sum(arrays["nonfinite_grades"] > 0)),
    **targeted.numbers(cell, correct, draws),
  }
  if "handed_on" in arrays:  # images that it did not attack, and has spent no time on
    row["handed_on"] = int(np.sum(arrays["handed_on"]))
  if cell.header["label"] == GREY:
    return row
  if "derived" in cell.header:
    attack = cell.header["settings"]["attack"]
    return {**row, "attack": attack, "derived": cell.header["derived"]}
  still = minimum_norm.asked(cell) & (arrays["norm"] == 0) & (base > 0.5)
  unmoved = int(np.sum(still & (cell.header["eps"] > 0)))
  # Without a gradient, among few images, or if it has to be accepted too, an attack may rightly
  # find nothing better than x.
  attack = cell.header["settings"]["attack"]
  climbs = sanity.climbs(attack["name"]) and not detection.evading(cell)
  return {**row, **_counts(cell), "unmoved": unmoved if climbs else None}


def _counts(cell: Cell) -> dict[str, Any]:
  """What an attack that was run says of itself; None where it does not say."""
  arrays = cell.arrays

  def number(name: str) -> int | None:
    return int(np.sum(arrays[name] > 0)) if name in arrays else None

  passes = [arrays[name] for name in ("forward", "backward") if name in arrays]
  disagree = None  # of images that were made elsewhere
  if "attack_success" in arrays:
    disagree = int(np.sum(~targeted.agrees(detection.own_view(cell))))
  return {
    "attack": cell.header["settings"]["attack"],
    **{name: number(name) for name in ("zero_gradient", "zero_gradient_steps", "nonfinite_steps")},
    "outside": number("outside"),
    "disagree": disagree,
    "cut_short": number("cut_short"),
    "no_start": _without_start(cell),
    "mean_passes": float(np.mean(sum(passes), dtype=np.float64)) if passes else None,
  }


def _without_start(cell: Cell) -> int | None:
  """Images where an attack that walks from a success found none; None of other attacks."""
  if cell.header["settings"]["attack"]["name"] not in WALKS or "attack_success" not in cell.arrays:
    return None
  return int(np.sum(minimum_norm.asked(cell) & ~cell.arrays["attack_success"]))


def _minimum_row(cell: Cell, untouched: Cell) -> dict[str, Any]:
  """What is reported of a minimum-norm attack itself, over all images that it attacked.

  A success of an attack on the detector is misclassified and accepted.
  """
  cell, untouched = detection.own_view(cell), detection.own_view(untouched, cell)
  mine, broken = minimum_norm.asked(cell), minimum_norm.successes(cell)
  returned = cell.arrays.get(minimum_norm.AS_RETURNED, cell.arrays["correct"])
  right = mine & (untouched.arrays["correct"] > 0.5)
  return {
    **_made(cell),
    "found": targeted.share(broken[mine], 1),
    "found_of_right": targeted.share(broken[right], 1),
    "accuracy_of_result": float(np.mean(returned, dtype=np.float64)),
    **minimum_norm.statistics(cell),
    **targeted.distance_numbers(cell),
    **_counts(cell),
    "unmoved": None,
  }


def _worst_row(group: Group, untouched: Cell, draws: int) -> dict[str, Any]:
  """The per-example worst case over all candidates at one norm and eps, see `candidates`."""
  everything = attacks_first(group, untouched)
  pick, correct = candidate(everything)
  labels = [cell.header["label"] for cell in everything]
  chosen = dict.fromkeys(labels, 0)
  for index in pick:
    chosen[labels[index]] += 1
  return {
    "label": WORST,
    "norm": group.norm,
    "eps": group.eps,
    "accuracy": _interval(correct, draws),
    "success_rate": success_rate(correct, untouched.arrays["correct"], draws),
    "counted": shares.pack(correct, draws),
    "chosen": chosen,
  }


def _made_by(cells: Sequence[Cell]) -> dict[str, list[str]]:
  """The distinct revisions, versions and devices that the cells were made with."""
  records = [cell.header["record"] for cell in cells]
  texts = {
    "revision": [
      f"{(r['git']['revision'] or 'unknown')[:12]}{sanity.UNCOMMITTED * bool(r['git']['dirty'])}"
      for r in records
    ],
    "versions": [", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records],
    "device": [_kind(r["devices"]) for r in records],
  }
  return {name: list(dict.fromkeys(found)) for name, found in texts.items()}


def _kind(devices: Mapping[str, Any]) -> str:
  return f"{devices['kind']} ({devices['platform']})"


def _device(devices: Mapping[str, Any]) -> str:
  """What decides the seconds: of a CPU its cores too, which cells of before do not tell."""
  cores = devices.get("cores") if devices["platform"] == "cpu" else None
  return _kind(devices) + ("" if cores is None else f", {cores} cores")


def summarise(cells: Sequence[Cell], unfinished: Collection[str] = ()) -> dict[str, Any]:
  """The numbers of an evaluation, JSON-able.

  Args:
    cells: all cells of one evaluation, in the order of `evaluate.make_plans`.
    unfinished: labels of the planned cells that are not there yet.

  Returns:
    `clean`, `untouched`, `rows` (attack × eps, those of minimum-norm attacks derived), `minimum`
    (distances of minimum-norm attacks), `worst` (per norm and eps), `detection` (see
    `detection.numbers`; None without a detector), `regraded` (see `regraded.rows`) and `checks`. In
    every row the untouched image is a candidate, so that clean errors count as errors. `counted`
    (clean, and in rows of `worst`) is the accuracy of each image, see `shares.pack`.

  Raises:
    ValueError: if the first two cells are not the clean and the untouched one.
  """
  if [cell.header["label"] for cell in cells[:2]] != [CLEAN, UNTOUCHED]:
    raise ValueError("the cells of an evaluation start with the clean and the untouched ones")
  clean, untouched = cells[:2]
  attacked = [cell for cell in cells if cell.header["norm"]]
  detectors = [cell for cell in cells if cell.header["label"] == DETECTOR]
  probed = {cell.header["label"]: cell for cell in cells if not cell.header["norm"]}
  again = [cell for cell in cells if regraded.is_regraded(cell)]
  model = untouched.header["settings"].get("model", {})
  rest, grouped = minimum_norm.expand(attacked, untouched), groups(attacked, untouched)
  draws = untouched.header["settings"]["grade_draws"]
  rows = [_row(cell, untouched, draws) for cell in rest]
  minimum = [_minimum_row(c, untouched) for c in attacked if minimum_norm.is_minimum(c)]
  run = [row for row in rows if row["label"] != GREY and "derived" not in row]
  labels, made_by = untouched.arrays["label"], _made_by(cells)
  found = checks.run(
    clean, untouched, rest, grouped, [*run, *minimum], rows, made_by, probed, unfinished
  )
  found.append(regraded.check(again, model, unfinished))
  for held in (False, True) if detectors else (False,):
    found.append(unseen.check(cells, untouched, clean, model, unfinished, held))
  found += [detection.check_rate(detector) for detector in detectors]
  return {
    "num_images": untouched.header["num_images"],
    "largest_class_share": float(np.max(np.bincount(labels)) / len(labels)),
    "clean": {
      "accuracy": _interval(clean.arrays["correct"], clean.header["draws"]),
      "counted": shares.pack(clean.arrays["correct"], clean.header["draws"]),
      **{name: clean.header[name] for name in _CLEAN},
    },
    "untouched": {
      "accuracy": _interval(untouched.arrays["correct"], draws),
      **untouched.header["randomness"],
    },
    "made_by": made_by,
    "rows": rows,
    "minimum": minimum,
    "worst": [_worst_row(group, untouched, draws) for group in grouped],
    "detection": (detection.numbers(detectors[0], untouched, rest, grouped) if detectors else None),
    "regraded": regraded.rows(again),
    "checks": [check._asdict() for check in found],
  }
