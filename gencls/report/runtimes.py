"""What attacks cost: the seconds that a paper reports, and ours, each over a reference model's."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from gencls.markdown import grid


class Took(NamedTuple):
  """What one attack took a model."""

  seconds: float
  where: tuple[int, str] | None  # images and device; None: a paper's


Times = Mapping[str, Took]  # attack -> what it took


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
  reference = published["seconds"]["reference"]
  theirs = {
    model: {label: Took(value, None) for label, value in seconds.items()}
    for model, seconds in published["seconds"]["models"].items()
  }
  labels = list(dict.fromkeys(label for times in theirs.values() for label in times))
  ours = {title: _ours(summaries[title], labels) for title in models}
  bases = [ours[title] for title, model in models.items() if model == reference]
  rows = [
    [f"{model}, paper", *_cells(labels, times, [theirs[reference]])]
    for model, times in theirs.items()
  ]
  rows += [
    [f"{title} ({_words(times, summaries[title])})", *_cells(labels, times, bases)]
    for title, times in ours.items()
  ]
  table = grid(["seconds", *labels], rows)
  return (
    f"Seconds of an attack, in brackets over those of {reference}. Ours: one eps (the median) with "
    "its grading, of as many images as are named, so that only the ratios can be compared with the "
    f"paper, which does not say over what its seconds are.\n\n{table}\n\n"
  )


def device_of(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
  """Where a row was made; rows of before they told are of all devices of the evaluation."""
  return row.get("device") or " / ".join(summary["made_by"]["device"])


def _ours(summary: Mapping[str, Any], labels: Sequence[str]) -> Times:
  found = {}
  for label in labels:
    rows = [row for row in summary["rows"] if row["label"] == label]
    if rows:
      devices = " / ".join(dict.fromkeys(device_of(row, summary) for row in rows))
      seconds = median(row["seconds"] for row in rows)
      found[label] = Took(seconds, (summary["num_images"], devices))
  return found


def _words(times: Times, summary: Mapping[str, Any]) -> str:
  devices = dict.fromkeys(took.where[1] for took in times.values() if took.where)
  return ", ".join([f"n = {summary['num_images']}", *devices])


def _cells(labels: Sequence[str], times: Times, bases: Sequence[Times]) -> list[str]:
  """Each attack's seconds, and over those of the first base that ran it in the same place."""
  cells = []
  for label in labels:
    took = times.get(label)
    if took is None:
      cells.append("-")
      continue
    alike = [base[label] for base in bases if label in base and base[label].where == took.where]
    over = alike[0].seconds if alike else 0.0
    cells.append(f"{took.seconds:,.3g}" + (f" ({took.seconds / over:,.3g})" if over > 0 else ""))
  return cells
