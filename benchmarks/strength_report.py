"""The tables of `attack_strength.py`, and AttackBench's score."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-6  # absolute, added to eps, as in grading
# Points of success rate that may be missing, where that is more than one image.
POINTS = {"foolbox": 0.5, "torchattacks": 1.0}
MEDIAN_RATIO = 1.01


class Outcome(NamedTuple):
  """What an attack returned, graded."""

  distance: np.ndarray  # [N] float64 in the row's norm, infinite where the prediction is right
  seconds: float
  passes: float  # forward and backward, mean over the images; NaN where nobody counted


def compared(
  library: str, eps: float | None, seed: int, mine: Outcome, peer: Outcome
) -> dict[str, Any]:
  """Success rates in per cent at eps, or median distances; and whether ours is as strong."""
  if eps is None:
    values = [float(np.median(outcome.distance)) for outcome in (mine, peer)]
    passed = values[0] <= MEDIAN_RATIO * values[1] or bool(np.isinf(values[1]))
  else:
    values = [100 * float(np.mean(o.distance <= eps + TOLERANCE)) for o in (mine, peer)]
    passed = values[0] >= values[1] - max(100 / len(mine.distance), POINTS[library]) - 1e-9
  both = {"ours": mine, "theirs": peer}
  return {
    "eps": eps,
    "seed": seed,
    **{who: value if np.isfinite(value) else None for who, value in zip(both, values, strict=True)},
    "at_least_as_strong": passed,
    "share_found": {k: float(np.mean(np.isfinite(v.distance))) for k, v in both.items()},
    "seconds": {k: round(v.seconds, 3) for k, v in both.items()},
    "passes": {k: None if np.isnan(v.passes) else round(v.passes, 1) for k, v in both.items()},
  }


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
    "| model | attack | n | eps | seed | ours | peer | | passes per image, ours | peer | s, ours "
    "| peer |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  for r in records:
    for f in r["found"]:
      unit = ("{:.4g}" if f["eps"] is None else "{:.1f}%").format
      ours, theirs = ("none" if f[who] is None else unit(f[who]) for who in ("ours", "theirs"))
      passes = ["-" if p is None else f"{p:,.0f}" for p in f["passes"].values()]
      weaker = "" if f["at_least_as_strong"] else "**weaker**"
      cells = [r["victim"], r["label"], str(r["num_images"])]
      cells += ["median" if f["eps"] is None else f"{f['eps']:g}", str(f["seed"]), ours]
      cells += [f"{theirs} ({r['row']['library']})", weaker, *passes]
      cells += [f"{s:.1f}" for s in f["seconds"].values()]
      lines.append(f"| {' | '.join(cells)} |")
  return lines


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
      "the same code. With an eps: images misclassified within it, clean errors included; without: "
      "the median distance, failures infinitely far. Weaker: fewer than the peer by more than one "
      "image and half a point (torchattacks: one point), or a median above 1.01 of the peer's. "
      "Seconds are of one run each, compilation included. "
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
