"""One title for each model of a report."""

import re
from collections.abc import Sequence

from gencls.report import results_file
from gencls.report.reading import Entry


def of(entries: Sequence[Entry]) -> list[str]:
  """The models' own titles; where several are called alike, with what their folders say of them.

  In a results file a model keeps the title that it has there. What a folder's name says besides
  the model and the data set does not depend on the other models, so that the evaluations of one
  run have one title.
  """
  plain = [entry.summary["title"] for entry in entries]
  short = [_short(entry) for entry in entries]
  found = []
  for entry, title, own in zip(entries, plain, short, strict=True):
    if results_file.kept(entry):
      found.append(entry.title)
    elif plain.count(title) == 1:
      found.append(title)
    else:
      alike = [each for each, other in zip(short, plain, strict=True) if other == title]
      found.append(f"{title} ({own if alike.count(own) == 1 else entry.workdir.name})")
  return found


def _short(entry: Entry) -> str:
  """The name of a folder without those of the model and the data set, or all of it."""
  name, summary = entry.workdir.name, entry.summary
  rest = name.removeprefix(summary["model"]["name"])
  if rest == name or not rest.startswith(("_", "-")):
    return name
  rest = rest.replace(summary["data"]["name"], "")
  return re.sub(r"[_-]{2,}", "-", rest).strip("_-") or name
