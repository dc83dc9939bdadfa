"""What attacks cost: the seconds that a paper reports, and ours, each over a reference model's."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from gencls.markdown import grid


class Took(NamedTuple):
  """What one attack took a model."""

  seconds: float
  where: tuple[int, str] | None  # images and device; None: not on one device alone


Times = Mapping[str, Took]  # attack -> what it took
PAPER = (0, "paper")


def section(
  published: Mapping[str, Any], summaries: Mapping[str, Any], models: Mapping[str, str]
) -> str:
  """A Markdown table; empty where the paper has no seconds.

  Ours are those of the attack at one eps with its grading, the median over eps: the first one also
  compiles. Only equal numbers of images on the same device are divided.

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
    model: {label: Took(value, PAPER) for label, value in seconds.items()}
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


def device_of(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str | None:
  """Where a row was made; None where an older file has several devices and does not tell."""
  devices = summary["made_by"]["device"]
  return row.get("device") or (devices[0] if len(devices) == 1 else None)


def _ours(summary: Mapping[str, Any], labels: Sequence[str]) -> Times:
  found = {}
  for label in labels:
    mine = [row for row in summary["rows"] if row["label"] == label]
    rows = [row for row in mine if "handed_on" not in row]  # the others met fewer images
    if rows:
      first, *others = dict.fromkeys(device_of(row, summary) for row in rows)
      where = None if others or first is None else (summary["num_images"], first)
      found[label] = Took(median(row["seconds"] for row in rows), where)
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
    known = [base[label] for base in bases if label in base and took.where is not None]
    alike = [each.seconds for each in known if each.where == took.where]
    over = alike[0] if alike else 0.0
    cells.append(f"{took.seconds:,.3g}" + (f" ({took.seconds / over:,.3g})" if over > 0 else ""))
  return cells
