"""Intervals and tables in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def percent(interval: Mapping[str, Any]) -> str:
  """An interval as "86.5 [81.1, 90.6]", in percent."""
  mean, low, high = (100 * interval[name] for name in ("mean", "low", "high"))
  return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table, padded so that the source can be read too."""
  lines = [list(header), *[list(row) for row in rows]]
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
  padded = [
    "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |"
    for line in lines
  ]
  rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
  return "\n".join([padded[0], rule, *padded[1:]])
