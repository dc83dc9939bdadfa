"""How much of a paper our models give again: each of its numbers against ours, counted.

A number is reproduced where ours, of the same attack at the same budget, is within `WITHIN` points
of it. Intervals would not do: of few images nearly everything would agree.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from gencls.markdown import grid
from gencls.report import published

WITHIN = 5.0  # points
Summaries = Mapping[str, Mapping[str, Any]]  # title -> summary


class Pair(NamedTuple):
  """A number of the paper and ours, accuracies under attack in percent."""

  label: str
  norm: str
  eps: float
  paper: float
  ours: float

  @property
  def off(self) -> float:
    """Points between the two, whichever is more."""
    return abs(self.ours - self.paper)


def pairs(numbers: Mapping[str, Any], summaries: Summaries) -> dict[str, list[Pair]]:
  """Title -> every number of the paper that an attack of ours stands beside.

  Args:
    numbers: from `published.read`.
    summaries: title -> summary, evaluated as published.

  Returns:
    Of the models that have any, in the order of the paper's tables.
  """
  found = {}
  for title, name in published.models(numbers, summaries).items():
    ours = {
      (row["label"], row["norm"], row["eps"]): 100 * row["as_returned"]["mean"]
      for row in summaries[title]["rows"]
      if row.get("as_returned") is not None
    }
    own = [
      Pair(label, table["norm"], eps, value, ours[label, table["norm"], eps])
      for table in published.tables(numbers)
      for label, row in table["accuracy"].get(name, {}).items()
      for eps, value in zip(table["eps"], row, strict=True)
      if value is not None and (label, table["norm"], eps) in ours
    ]
    if own:
      found[title] = own
  return found


def section(numbers: Mapping[str, Any], summaries: Summaries) -> str:
  """The table, below its heading; "" if no number of the paper has ours beside it."""
  header = ["model", f"within {WITHIN:g} points", "median off", "furthest off: the paper, ours"]
  lines = []
  for title, own in pairs(numbers, summaries).items():
    worst = max(own, key=lambda pair: pair.off)
    lines.append(
      [
        title,
        f"{sum(pair.off <= WITHIN for pair in own)} of {len(own)}",
        f"{median(pair.off for pair in own):.1f}",
        f"{worst.label} {worst.norm} {worst.eps:g}: {worst.paper:.1f}, {worst.ours:.1f}",
      ]
    )
  if not lines:
    return ""
  return (
    "## What reproduces\n\nThe paper's numbers, of every attack and budget that we have run on the "
    f"model as published, against ours, in points of accuracy.\n\n{grid(header, lines)}\n\n"
  )
