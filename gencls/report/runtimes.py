"""What attacks cost: the seconds that a paper reports, and ours, each over a reference model's."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from gencls.markdown import grid

Seconds = Mapping[str, float]  # attack -> seconds


def section(
  published: Mapping[str, Any], summaries: Mapping[str, Any], models: Mapping[str, str]
) -> str:
  """A Markdown table; empty where the paper has no seconds.

  Ours are those of the attack at one eps with its grading, the median over eps: the first one also
  compiles. Only equal numbers of images on one kind of device are divided.

  Args:
    published: with `seconds`: {"reference": a model of the paper, "models": model -> attack ->
      seconds}.
    summaries: title -> summary, evaluated as published.
    models: title -> the paper's name of the model.
  """
  if "seconds" not in published:
    return ""
  theirs, reference = published["seconds"]["models"], published["seconds"]["reference"]
  labels = list(dict.fromkeys(label for seconds in theirs.values() for label in seconds))
  rows = [
    [f"{model}, paper", *_cells(labels, seconds, theirs[reference])]
    for model, seconds in theirs.items()
  ]
  for title in models:
    summary = summaries[title]
    same = [
      summaries[other]
      for other, model in models.items()
      if model == reference and _circumstances(summaries[other]) == _circumstances(summary)
    ]
    base = _ours(same[0], labels) if same else {}
    rows.append([f"{title} ({_words(summary)})", *_cells(labels, _ours(summary, labels), base)])
  header = ["seconds", *labels]
  return (
    f"Seconds of an attack, in brackets over those of {reference}. Ours: one eps (the median) with "
    "its grading, of as many images as are named, so that only the ratios can be compared with the "
    f"paper, which does not say over what its seconds are.\n\n{grid(header, rows)}\n\n"
  )


def _ours(summary: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float]:
  by_label = {label: [r["seconds"] for r in summary["rows"] if r["label"] == label]
              for label in labels}  # fmt: skip
  return {label: median(seconds) for label, seconds in by_label.items() if seconds}


def _circumstances(summary: Mapping[str, Any]) -> tuple[int, str]:
  return summary["num_images"], " / ".join(summary["made_by"]["device"])


def _words(summary: Mapping[str, Any]) -> str:
  n, device = _circumstances(summary)
  return f"n = {n}, {device}"


def _cells(labels: Sequence[str], seconds: Seconds, base: Seconds) -> list[str]:
  cells = []
  for label in labels:
    text = f"{seconds[label]:,.3g}" if label in seconds else "-"
    known = label in seconds and base.get(label, 0) > 0
    cells.append(text + (f" ({seconds[label] / base[label]:,.3g})" if known else ""))
  return cells
