"""The tables of `attack_strength.py`, and AttackBench's score."""

from collections.abc import Sequence
from typing import Any

import numpy as np


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


def scores(records: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, float, float, float]]:
  """(norm, attack, whose, share found, median distance, local optimality), best first by norm."""
  rows = []
  for norm in dict.fromkeys(r["row"]["norm"] for r in records):
    of_norm = {}
    for r in (r for r in records if r["row"]["norm"] == norm):
      for who, values in r["found"].items():
        library = "gencls" if who == "ours" else r["row"]["library"]
        found = np.array(values)
        of_norm[r["row"]["attack"], library] = np.where(found < 0, np.inf, found)
    best = np.min(list(of_norm.values()), axis=0)
    scored = [
      (norm, attack, library, float(np.mean(np.isfinite(d))), float(np.median(d)),
       local_optimality(d, best))
      for (attack, library), d in of_norm.items()
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
      unit = "{:.4g}" if f["eps"] is None else "{:.1f}%"
      passes = ["-" if p is None else f"{p:,.0f}" for p in f["passes"].values()]
      cells = [
        r["victim"], r["label"], str(r["num_images"]), "median" if f["eps"] is None else
        f"{f['eps']:g}", str(f["seed"]), unit.format(f["ours"]), f"{unit.format(f['theirs'])} "
        f"({r['row']['library']})", "" if f["at_least_as_strong"] else "**weaker**", *passes,
        *(f"{s:.1f}" for s in f["seconds"].values()),
      ]  # fmt: skip
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
    versions = {name: v for r in every for name, v in r["versions"].items()}
    lines += [
      f"First test images of {one['dataset']}, known seed; what either side returns is graded by "
      "the same code. With an eps: images misclassified within it, clean errors included; without: "
      "the median distance, failures infinitely far. Weaker: fewer than the peer by more than one "
      "image and half a point (torchattacks: one point), or a median above 1.01 of the peer's. "
      "Seconds are of one run each, compilation included. "
      + ", ".join(f"{n} {versions[n]}" for n in ("jax", "foolbox", "torch", "torchattacks"))
      + f"; {one['devices']['kind']}.",
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
      "| norm | attack | library | found | median distance | local optimality |",
      "| --- | --- | --- | --- | --- | --- |",
      *(
        f"| {norm} | {attack} | {library} | {100 * found:.0f}% | {median:.4g} | {score:.3f} |"
        for norm, attack, library, found, median, score in scores(scored)
      ),
    ]
  return "\n".join(lines) + "\n"
