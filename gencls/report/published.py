"""Published numbers beside ours: a table of a paper, and the same attacks as we ran them.

A file of published numbers is JSON: `source`, `data`, `images` and `norm` in words, `eps`, and
accuracies in percent as model -> attack -> one number for each eps, null where the paper has none;
in `detected` the same for each detector, of the successes. Numbers are the paper's, never ours.
`settings` says how they were made, as dotted names in an evaluation's table.json: what differs is
said above the table. `notes` are sentences about what no setting can make equal.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gencls.json_files import read_object
from gencls.report.grid import grid, percent

_FIELDS = ("source", "data", "images", "norm", "eps", "accuracy")
Numbers = Mapping[str, Mapping[str, list[float | None]]]  # model -> attack -> a number for each eps


def read(path: str | Path) -> dict[str, Any]:
  """Reads a file of published numbers.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is no JSON object, lacks a field, or has rows of another length than eps.
  """
  path = Path(path)
  found = read_object(path, fix="published numbers are one JSON object", needs=_FIELDS)
  for numbers in (found["accuracy"], *found.get("detected", {}).values()):
    for model, attacks in numbers.items():
      for attack, row in attacks.items():
        if len(row) != len(found["eps"]):
          raise ValueError(
            f"{path}: {model}, {attack} has {len(row)} numbers; one for each eps of {found['eps']}"
          )
  return found


def section(published: Mapping[str, Any], summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """Markdown tables of the published numbers, each above ours.

  Args:
    published: from `read`.
    summaries: title -> summary. A model of the paper is the one whose title starts with its name.

  Returns:
    Accuracy, then for each of our detectors the share of the successes that is detected.

  Raises:
    ValueError: if the data set is another one, or no model is in the paper.
  """
  own = next(iter(summaries.values()))["data"]["name"]
  if own != published["data"]:
    raise ValueError(f"the published numbers are of {published['data']}, the evaluations of {own}")
  pairs = {title: name for title in summaries if (name := _model(title, published["accuracy"]))}
  if not pairs:
    raise ValueError(
      f"none of {', '.join(summaries)} is in {published['source']}: "
      f"{', '.join(published['accuracy'])}"
    )
  n = next(iter(summaries.values()))["num_images"]
  rows = []
  for title, name in pairs.items():
    # As papers do: the image that the attack returned, not the worse of it and the untouched one.
    ours = {_at(row): row.get("as_returned") for row in summaries[title]["rows"]}
    rows += _two_rows(published, title, published["accuracy"][name], lambda at, o=ours: o.get(at))
  notes = [f"Beside {published['source']} ({published['images']}); ours: n = {n}, of the images as "
           "the attacks returned them.", *published.get("notes", ())]  # fmt: skip
  other = [text for title in pairs for text in _differences(published, title, summaries[title])]
  if other:
    notes.append(f"**Not as published: {'; '.join(other)}.**")
  text = f"{' '.join(notes)}\n\n{grid(_header(published, 'accuracy, %'), rows)}\n\n"
  for detector, numbers in published.get("detected", {}).items():
    text += _detected(published, detector, numbers, pairs, summaries)
  return text


def _detected(
  published: Mapping[str, Any],
  detector: str,
  numbers: Numbers,
  pairs: Mapping[str, str],
  summaries: Mapping[str, Mapping[str, Any]],
) -> str:
  rows = []
  for title, name in pairs.items():
    found = summaries[title].get("detection")
    if found is not None and found["detector"]["name"] == detector:
      ours = {_at(row): row["detected"] for row in found["rows"] if row["against"] == "classifier"}
      rows += _two_rows(published, title, numbers.get(name, {}), lambda at, o=ours: o.get(at))
  if not rows:
    return ""
  header = _header(published, f"detected by {detector}, % of successes")
  return f"{grid(header, rows)}\n\n"


def _differences(published: Mapping[str, Any], title: str, summary: Mapping[str, Any]) -> list[str]:
  """The settings of an evaluation that are not the paper's; what it has not is passed over."""
  found = []
  for path, wanted in published.get("settings", {}).items():
    value: Any = summary
    for name in path.split("."):
      value = value.get(name) if isinstance(value, Mapping) else None
    if value is not None and value != wanted:
      found.append(f"{title}, {path}: {value} ({wanted})")
  return found


def _two_rows(
  published: Mapping[str, Any],
  title: str,
  numbers: Mapping[str, list[float | None]],
  ours: Callable[[tuple[str, str, float]], Mapping[str, Any] | None],
) -> list[list[str]]:
  """The paper's row, then ours; a dash where there is no number."""
  columns = _columns(published)
  nothing = [None] * len(published["eps"])
  theirs = [value for label in _labels(published) for value in numbers.get(label, nothing)]
  own = [ours(column) for column in columns]
  return [
    [f"{title}, paper", *["-" if value is None else f"{value:.1f}" for value in theirs]],
    [f"{title}, ours", *["-" if found is None else percent(found) for found in own]],
  ]


def _columns(published: Mapping[str, Any]) -> list[tuple[str, str, float]]:
  return [
    (label, published["norm"], eps) for label in _labels(published) for eps in published["eps"]
  ]


def _labels(published: Mapping[str, Any]) -> list[str]:
  return list(dict.fromkeys(label for each in published["accuracy"].values() for label in each))


def _header(published: Mapping[str, Any], what: str) -> list[str]:
  return [what, *[f"{label} {norm} {eps:g}" for label, norm, eps in _columns(published)]]


def _at(row: Mapping[str, Any]) -> tuple[str, str, float]:
  return row["label"], row["norm"], row["eps"]


def _model(title: str, names: Mapping[str, Any]) -> str | None:
  """The paper's name of a model that we call `title`; "GFZ (run 2)" is GFZ too."""
  first = title.split(" ", 1)[0]
  return first if first in names else None
