"""What attacks cost: seconds that a paper reports, and ours, each over a reference model's."""

from collections.abc import Mapping
from typing import Any

from gencls.report.grid import grid

PER = 1000  # images of a cell of the table


def section(published: Mapping[str, Any], summaries: Mapping[str, Any], names: Mapping) -> str:
  """A Markdown table; empty where the paper has no seconds.

  Ours are the seconds of the attack's cells, every eps, with grading, for 1,000 images: attacks
  that stop early are cheaper on models that break. A ratio is of one device only.

  Args:
    published: with `seconds`: {"reference": a model of the paper, "models": model -> attack ->
      seconds}.
    summaries: title -> summary, evaluated as published.
    names: title -> the paper's name of the model.
  """
  if "seconds" not in published:
    return ""
  theirs, reference = published["seconds"]["models"], published["seconds"]["reference"]
  labels = list(dict.fromkeys(label for model in theirs.values() for label in model))
  base = next((_ours(summaries[t], labels) for t, name in names.items() if name == reference), {})
  rows = [[f"{name}, paper", *_cells(labels, found, theirs[reference])]
          for name, found in theirs.items()]  # fmt: skip
  rows += [
    [f"{title} (n = {summaries[title]['num_images']})",
     *_cells(labels, _ours(summaries[title], labels), base)]
    for title in names
  ]  # fmt: skip
  kinds = {summaries[title]["record"]["devices"]["kind"] for title in names}
  header = [f"seconds (times {reference})", *labels]
  return (
    f"Seconds of an attack over all eps, ours for {PER:,} images on {', '.join(sorted(kinds))} "
    f"with grading; in brackets over those of {reference}.\n\n{grid(header, rows)}\n\n"
  )


def _ours(summary: Mapping[str, Any], labels: list[str]) -> dict[str, float]:
  found: dict[str, float] = {}
  for row in summary["rows"]:
    if row["label"] in labels:
      share = PER * row["seconds"] / summary["num_images"]
      found[row["label"]] = found.get(row["label"], 0.0) + share
  return found


def _cells(labels: list[str], found: Mapping[str, float], base: Mapping[str, float]) -> list[str]:
  cells = []
  for label in labels:
    text = f"{found[label]:,.3g}" if label in found else "-"
    ratio = f" ({found[label] / base[label]:,.3g})" if label in found and label in base else ""
    cells.append(text + ratio)
  return cells
