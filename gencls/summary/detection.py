"""The numbers of a detector: what it rejects, and what ends misclassified and accepted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gencls import sanity
from gencls.evaluate import GREY
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.candidates import Group, attacks_first, candidate
from gencls.evaluation.results import Cell
from gencls.intervals import Interval, share_interval, wilson
from gencls.summary import roc, shares
from gencls.summary.targeted import aim

KINDS = ("classifier", "detector")  # what an attack is against: the columns of the tables
EITHER = "either"  # the worst case over both
ADAPTIVE = "attacks on the detector beat those that do not see it"
RATE = "the detector rejects the share that it may"


def evading(cell: Cell) -> bool:
  """Whether a cell is of an attack that has to be accepted by the detector too."""
  attack = cell.header["settings"].get("attack") or {}
  return attack.get("against") == "detector"


def own_view(cell: Cell, attack: Cell | None = None) -> Cell:
  """A cell as the predicate of an attack has it: held, or correct.

  Args:
    cell: of the attack, or of the untouched images beside it.
    attack: the attack's cell, if `cell` is another.
  """
  return as_held(cell) if evading(cell if attack is None else attack) else cell


def held_groups(grouped: Sequence[Group], kind: str) -> list[Group]:
  """The candidates at each eps that has attacks of a kind, as held.

  Args:
    grouped: from `candidates.groups`.
    kind: one of `KINDS`, or `EITHER`. The grey image belongs to all.
  """

  def of_kind(cell: Cell) -> bool:
    return kind == EITHER or evading(cell) == (kind == "detector")

  found = []
  for group in grouped:
    attacks = [c for c in group.cells if c.header["label"] != GREY and of_kind(c)]
    grey = [c for c in group.cells if c.header["label"] == GREY]
    if attacks:
      found.append(group._replace(cells=[as_held(cell) for cell in [*attacks, *grey]]))
  return found


def numbers(
  detector: Cell, untouched: Cell, cells: Sequence[Cell], grouped: Sequence[Group]
) -> dict[str, Any]:
  """What is reported of a detector, JSON-able.

  Args:
    detector: the cell of its fit.
    untouched: the cell of the clean images.
    cells: of every attack and grey image at every eps, those of minimum-norm attacks derived.
    grouped: the candidates at every eps.

  Returns:
    `detector` (its settings), `fitted_on`, `threshold`, the false-positive rates on the fitting and
    on the clean test images (`fitting_rejected`, `test_rejected`), `untouched_evading`, `rows` (an
    attack at an eps: `evading`, the share of all images that end misclassified and accepted, clean
    errors included; `detected`, the share of the successes that is rejected; `auc`, of clean test
    images against successes, and `auc_interval`, the same with its interval over images) and
    `worst` (`evading` in the per-example worst case, and `counted`, the same for each image).
  """
  draws = untouched.header["settings"]["grade_draws"]
  settings = detector.header["settings"]
  data = {name: settings["data"][name] for name in ("name", "split", "num_images")}
  return {
    "detector": settings["detector"],
    "fitted_on": {**data, "used": detector.header["fitting_images"]},
    "threshold": detector.header["fitted"]["threshold"],
    "fitting_rejected": _share(~detector.arrays["accepted"], 1),
    "test_rejected": _share(np.mean(~untouched.arrays["accepted"], axis=1), draws),
    "untouched_evading": _share(1.0 - as_held(untouched).arrays["correct"], draws),
    "rows": [_row(cell, untouched, draws) for cell in cells if cell.header["label"] != GREY],
    "worst": [
      _worst_row(kind, group, untouched, draws)
      for kind in (*KINDS, EITHER)
      for group in held_groups(grouped, kind)
    ],
  }


def _worst_row(kind: str, group: Group, untouched: Cell, draws: int) -> dict[str, Any]:
  found = _evading(attacks_first(group, as_held(untouched)))
  return {
    "kind": kind,
    "norm": group.norm,
    "eps": group.eps,
    "evading": _share(found, draws),
    "counted": shares.pack(found, draws),
  }


def _share(values: np.ndarray, draws: int) -> dict[str, Any]:
  return share_interval(np.asarray(values, np.float64), draws)._asdict()


def _evading(cells: Sequence[Cell]) -> np.ndarray:
  """[N] share of the grade draws that the worst of several cells, viewed as held, evades."""
  return 1.0 - candidate(cells)[1]


def _row(cell: Cell, untouched: Cell, draws: int) -> dict[str, Any]:
  label, norm, eps = (cell.header[name] for name in ("label", "norm", "eps"))
  wrong = cell.arrays["prediction"] != untouched.arrays["label"][:, None]
  rejected = wrong & ~cell.arrays["accepted"]
  clean, attacked = untouched.arrays["score"], cell.arrays["score"]
  area = roc.interval(clean, attacked, wrong)
  return {
    "label": label,
    "norm": norm,
    "eps": eps,
    "against": "detector" if evading(cell) else "classifier",
    "evading": _share(_evading([as_held(cell), as_held(untouched)]), draws),
    "detected": _ratio(rejected, wrong),
    "auc": roc.auc(np.ravel(clean), attacked[wrong]) if area is None else area.mean,
    "auc_interval": None if area is None else area._asdict(),
  }


def _ratio(part: np.ndarray, whole: np.ndarray) -> dict[str, Any] | None:
  """The share of the draws in `whole` [N, G] that are in `part`; None where there are none.

  Its interval is Wilson's over the images with any, as if each had one draw: not too narrow.
  """
  images, draws = int(np.sum(np.any(whole, axis=1))), int(np.sum(whole))
  if not draws:
    return None
  mean = float(np.sum(part) / draws)
  return Interval(mean, *wilson(mean, images), images, "Wilson over images")._asdict()


def curves(
  untouched: Cell, cells: Sequence[Cell]
) -> dict[tuple[str, float], list[tuple[str, np.ndarray, np.ndarray]]]:
  """ROC curves at the largest eps of each norm, clean test images against successful attacks.

  Args:
    untouched: the cell of the clean images.
    cells: as in `numbers`.

  Returns:
    (norm, eps) -> (label, false-positive rates, detection rates) of every attack with a success.
  """
  attacks = [cell for cell in cells if cell.header["label"] != GREY]
  found = {}
  for norm in dict.fromkeys(cell.header["norm"] for cell in attacks):
    eps = max(cell.header["eps"] for cell in attacks if cell.header["norm"] == norm)
    for cell in attacks:
      wrong = cell.arrays["prediction"] != untouched.arrays["label"][:, None]
      if (cell.header["norm"], cell.header["eps"]) == (norm, eps) and np.any(wrong):
        points = roc.curve(untouched.arrays["score"].ravel(), cell.arrays["score"][wrong])
        found.setdefault((norm, eps), []).append((cell.header["label"], *points))
  return found


def check_rate(detector: Cell) -> sanity.Check:
  """A quantile rejects as many of the fitting images as it may, at least half of them.

  Where many values are equal, as distances of saturated posteriors, no threshold parts them, and
  the detector is compared at another rate of false positives than it says.
  """
  rule = detector.header["settings"]["detector"]["rule"]
  if rule["name"] != "quantile":
    return sanity.Check(RATE, "pass", f"{rule['name']} promises no rate")
  accepted = detector.arrays["accepted"]
  if detector.header["settings"]["detector"].get("only_correct"):
    accepted = accepted[detector.arrays["correct"] > 0]
  rejected, count, rate = np.mean(~accepted), len(accepted), 100 * rule["false_positive_rate"]
  detail = f"{100 * rejected:.1f}% of {count} fitting images, of {rate:g}%"
  lacks = rejected < 0.5 * rule["false_positive_rate"]
  why = ": many values are equal, or classes have too few images; other rates do not compare"
  return sanity.Check(RATE, "fail" if lacks else "pass", detail + why * bool(lacks))


def check_adaptive(grouped: Sequence[Group], untouched: Cell, draws: int) -> sanity.Check:
  """Attacks that see the detector evade it at least as often as those that do not."""
  name = ADAPTIVE
  base = as_held(untouched)
  # With a target they need not find what others find.
  grouped = [
    g._replace(cells=[c for c in g.cells if not evading(c) or aim(c) is None]) for g in grouped
  ]
  blind, seeing = (
    {(g.norm, g.eps): candidate(attacks_first(g, base))[1] for g in held_groups(grouped, kind)}
    for kind in KINDS
  )
  both = [at for at in seeing if at in blind and at[1] > 0]
  if not both:
    return sanity.Check(name, "not run", "no eps with attacks of both kinds")
  worse = []
  for norm, eps in both:
    gap = float(np.mean(seeing[norm, eps] - blind[norm, eps]))
    if gap > sanity.allowed(blind[norm, eps], seeing[norm, eps], draws):
      worse.append(f"{norm} {eps:g}: {100 * gap:.1f} points fewer images evade")
  return sanity.Check(
    name, "fail" if worse else "pass", "; ".join(worse) or f"{len(both)} compared"
  )
