"""Figures of several models: worst case, every attack, and the success rate of one."""

import statistics
from collections.abc import Mapping
from typing import Any

from gencls.names import unknown_name
from gencls.report import attack_curves, figures, published
from gencls.report.pages import note


def worst(summaries: Mapping[str, Mapping[str, Any]]) -> Any:
  """Worst-case accuracy against eps, a curve for each model."""
  norms = list(dict.fromkeys(r["norm"] for s in summaries.values() for r in s["worst"]))
  panels = {
    norm: [
      figures.line(
        title,
        [row for row in summary["worst"] if row["norm"] == norm],
        "accuracy",
        summary["untouched"]["accuracy"],
        posterior=attack_curves.is_posterior(summary),
      )
      for title, summary in summaries.items()
      if summary["untouched"]
    ]
    for norm in norms
  }
  first = next(s for s in summaries.values() if s["untouched"])
  title = f"Worst-case accuracy on {first['data']['name']}"
  return figures.curves(panels, title, "accuracy, %", note(first), first["largest_class_share"])


def attacks(
  summaries: Mapping[str, Mapping[str, Any]], paper: Mapping[str, Any] | None = None
) -> Any:
  """Accuracy under each attack against eps, a panel for each attack.

  Args:
    summaries: title -> summary.
    paper: from `published.read`: its numbers are crosses, and ours are of the images as the attacks
      returned them, as a paper counts.
  """
  returned = paper is not None
  first = next(iter(summaries.values()))
  title = f"Accuracy under each attack on {first['data']['name']}"
  title += ", of the images as the attacks returned them" if returned else ""
  found = attack_curves.panels(summaries, "as_returned" if returned else "accuracy")
  points = published.points(paper, summaries) if paper is not None else None
  return attack_curves.draw(found, title, note(first).split(";")[0], points)


def strongest(summaries: Mapping[str, Mapping[str, Any]]) -> str | None:
  """The attack that comes nearest to the worst case on average, of those that most models have met.

  None where there is none: attacks that are not finished, that look for the smallest perturbation
  or see a detector do not count.
  """
  gaps: dict[str, list[float]] = {}
  for summary in summaries.values():
    worst = {(row["norm"], row["eps"]): row["accuracy"] for row in summary["worst"]}
    unfinished = {each["label"] for each in summary.get("missing", ())}
    own: dict[str, list[float]] = {}
    for row in summary["rows"]:
      least, plain = worst.get((row["norm"], row["eps"])), "attack" in row and "derived" not in row
      if plain and least and row["label"] not in unfinished and not _sees_detector(row):
        own.setdefault(row["label"], []).append(row["accuracy"]["mean"] - least["mean"])
    for label, values in own.items():
      gaps.setdefault(label, []).append(statistics.fmean(values))
  most = max(map(len, gaps.values()), default=0)
  whole = [(statistics.fmean(each), label) for label, each in gaps.items() if len(each) == most]
  return min(whole)[1] if whole else None


def _sees_detector(row: Mapping[str, Any]) -> bool:
  return row["attack"].get("against") == "detector"


def success(summaries: Mapping[str, Mapping[str, Any]], label: str) -> Any:
  """Success rate of one attack against eps, a curve for each model that has met it.

  Raises:
    ValueError: if none has.
  """
  norms: dict[str, list[figures.Line]] = {}
  for title, summary in summaries.items():
    if own := [row for row in summary["rows"] if row["label"] == label]:
      kind = attack_curves.is_posterior(summary)
      line = figures.line(title, own, "success_rate", None, posterior=kind)
      norms.setdefault(own[0]["norm"], []).append(line)
  if not norms:
    run = {row["label"] for summary in summaries.values() for row in summary["rows"]}
    if any(label in summary["attacks"] for summary in summaries.values()):
      raise ValueError(
        f"no model has met {label!r} yet: leave --attack out, or take one of "
        f"{', '.join(sorted(run))}"
      )
    raise ValueError(unknown_name("attack", label, run))
  first = next(iter(summaries.values()))
  heading = f"Success rate of {label} on {first['data']['name']}"
  ylabel = "turned wrong, % of images classified right"
  return figures.curves(norms, heading, ylabel, note(first))
