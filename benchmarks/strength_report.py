"""The tables of `attack_strength.py`, and AttackBench's score."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-6  # absolute, added to eps, as in grading
# Points of success rate that may be missing, where that is more than one image.
POINTS = {"foolbox": 0.5, "torchattacks": 1.0}
MEDIAN_RATIO = 1.01
SIDES = ("ours", "theirs")


class Outcome(NamedTuple):
  """What an attack returned, graded."""

  distance: np.ndarray  # [N] float64 in the row's norm, infinite where the prediction is right
  seconds: float
  passes: float  # forward and backward, mean over the images; NaN where nobody counted


def compared(eps: float | None, seed: int, mine: Outcome, peer: Outcome) -> dict[str, Any]:
  """Success rates in per cent at eps, or median distances; None where more than half fail."""
  if eps is None:
    values = [float(np.median(outcome.distance)) for outcome in (mine, peer)]
  else:
    values = [100 * float(np.mean(o.distance <= eps + TOLERANCE)) for o in (mine, peer)]
  both = {"ours": mine, "theirs": peer}
  return {
    "eps": eps,
    "seed": seed,
    **{who: value if np.isfinite(value) else None for who, value in zip(both, values, strict=True)},
    "share_found": {k: float(np.mean(np.isfinite(v.distance))) for k, v in both.items()},
    "seconds": {k: round(v.seconds, 3) for k, v in both.items()},
    "passes": {k: None if np.isnan(v.passes) else round(v.passes, 1) for k, v in both.items()},
  }


class Verdict(NamedTuple):
  """One comparison over its seeds."""

  eps: float | None
  ours: list[float]  # of each seed, per cent or a median distance (infinite: more than half fail)
  theirs: list[float]
  as_strong: bool  # the mean over seeds
  worst: float  # the seed that is best for the peer: points, or ours over theirs


def verdicts(record: dict[str, Any]) -> list[Verdict]:
  """One for each eps of a comparison.

  Random starts differ between the libraries, whatever the seed: a single seed moves by more than
  the tolerance of 500 images either way, and the mean over seeds decides.
  """
  found = []
  for eps in dict.fromkeys(f["eps"] for f in record["found"]):
    rows = [f for f in record["found"] if f["eps"] == eps]
    ours, theirs = ([np.inf if f[who] is None else f[who] for f in rows] for who in SIDES)
    mean, peer = float(np.mean(ours)), float(np.mean(theirs))
    if eps is None:
      as_strong = mean <= MEDIAN_RATIO * peer or bool(np.isinf(peer))
      worst = max(1.0 if t == np.inf else o / t for o, t in zip(ours, theirs, strict=True))
    else:
      allowed = max(100 / record["num_images"], POINTS[record["row"]["library"]])
      as_strong = mean >= peer - allowed - 1e-9
      worst = min(o - t for o, t in zip(ours, theirs, strict=True))
    found.append(Verdict(eps, ours, theirs, as_strong, worst))
  return found


def local_optimality(distances: np.ndarray, best: np.ndarray) -> float:
  """Area above an attack's accuracy-versus-eps curve over the area above the best curve.

  Up to the eps at which the best curve ends. 1: on every image as near as the nearest of all
  attacks; 0: nothing found within that eps.

  Args:
    distances: [N] of one attack, infinite where it failed.
    best: [N] the smallest of all attacks.

  Returns:
    A number in [0, 1].

  References:
    Cinà et al. 2024, arXiv:2404.19460, equations 4 and 5.
  """
  found = best[np.isfinite(best)]
  if not found.size or not np.max(found) > 0:
    return float("nan")
  # The area of 1 - accuracy from 0 to end is the sum of what each broken image leaves of it.
  end = np.max(found)
  above = lambda values: np.sum(np.maximum(end - values, 0.0))  # noqa: E731
  return float(above(distances) / above(best))


def scores(
  records: Sequence[dict[str, Any]],
) -> list[tuple[str, str, str, float, float, float, float]]:
  """(norm, attack, whose, passes, found, median distance, local optimality), best first by norm."""
  rows = []
  for norm in dict.fromkeys(r["row"]["norm"] for r in records):
    of_norm, passes = {}, {}
    for r in (r for r in records if r["row"]["norm"] == norm):
      for who, values in r["found"].items():
        library = "gencls" if who == "ours" else r["row"]["library"]
        found = np.array(values["distance"])
        of_norm[r["row"]["attack"], library] = np.where(found < 0, np.inf, found)
        passes[r["row"]["attack"], library] = values["passes"]
    best = np.min(list(of_norm.values()), axis=0)
    scored = [
      (norm, *who, passes[who], float(np.mean(np.isfinite(d))), float(np.median(d)),
       local_optimality(d, best))
      for who, d in of_norm.items()
    ]  # fmt: skip
    rows += sorted(scored, key=lambda row: -row[-1])
  return rows


def _compared(records: Sequence[dict[str, Any]]) -> list[str]:
  lines = [
    "| model | attack | n | seeds | eps | ours | peer | | worst seed | passes per image, ours "
    "| peer | s, ours | peer |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  for r in records:
    for v in verdicts(r):
      rows = [f for f in r["found"] if f["eps"] == v.eps]
      unit = ("{:.4g}" if v.eps is None else "{:.1f}%").format
      ours, theirs = (
        unit(np.mean(side)) if np.isfinite(side).all() else "none" for side in (v.ours, v.theirs)
      )
      worst = f"{v.worst:.3f}x" if v.eps is None else f"{v.worst:+.1f}"
      cells = [r["victim"], r["label"], str(r["num_images"]), str(len(rows))]
      cells += ["median" if v.eps is None else f"{v.eps:g}", ours]
      cells += [f"{theirs} ({r['row']['library']})", "" if v.as_strong else "**weaker**", worst]
      cells += [_mean(rows, "passes", who, "{:,.0f}") for who in SIDES]
      cells += [_mean(rows, "seconds", who, "{:.1f}") for who in SIDES]
      lines.append(f"| {' | '.join(cells)} |")
  return lines


def _mean(rows: Sequence[dict[str, Any]], what: str, who: str, unit: str) -> str:
  values = [f[what][who] for f in rows if f[what][who] is not None]
  return unit.format(np.mean(values)) if values else "-"


def markdown(record: dict[str, Any]) -> str:
  """All tables of a record."""
  every = record["comparisons"]
  compared = [r for r in every if r["kind"] == "compare"]
  scored = [r for r in every if r["kind"] == "passes"]
  lines = []
  if compared:
    one = compared[0]
    revisions = dict.fromkeys((r["git"]["revision"] or "unknown")[:12] for r in every)
    versions = {name: v for r in every for name, v in r["versions"].items()}
    lines += [
      f"First test images of {one['dataset']}, known seed; what either side returns is graded by "
      "the same code. With an eps: images misclassified within it, clean errors included; "
      "without: the median distance, failures infinitely far. Means over seeds; worst seed: the "
      "least of ours minus the peer's in points, or the most of ours over the peer's. Weaker: a "
      "mean below the peer's by more than one image and half a point (torchattacks: one point), or "
      "above 1.01 of its median distance. Seconds are means of one run each, compilation included. "
      + ", ".join(f"{n} {versions[n]}" for n in ("jax", "foolbox", "torch", "torchattacks"))
      + f"; {one['devices']['kind']}; revisions {', '.join(revisions)}. A row that is not here was "
      "not run.",
      "",
      *_compared(compared),
    ]
  if scored:
    passes, num = scored[0]["passes"], scored[0]["num_images"]
    lines += [
      "",
      f"AttackBench's local optimality (Cinà et al. 2024) on the CNN, first {num} images, at most "
      f"{passes:,} forward and backward passes per image; the best curve is that of all attacks "
      "below, per image:",
      "",
      "| norm | attack | library | passes used | found | median distance | local optimality |",
      "| --- | --- | --- | --- | --- | --- | --- |",
      *(
        f"| {norm} | {attack} | {library} | {used:,.0f} | {100 * found:.0f}% | {median:.4g} "
        f"| {score:.3f} |"
        for norm, attack, library, used, found, median, score in scores(scored)
      ),
    ]
  return "\n".join(lines) + "\n"
