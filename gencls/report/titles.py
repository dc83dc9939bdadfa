"""One title for each model of a report."""

import re
from collections.abc import Sequence

from gencls.report import results_file
from gencls.report.reading import Entry


def of(entries: Sequence[Entry]) -> list[str]:
  """The models' own titles; where several are called alike, with what their folders say of them.

  In a results file a model keeps the title that it has there. The others that are called alike are
  told apart by the least that does it: their variants (none is the title alone), their variants and
  seeds, the names of their folders.
  """
  found = [entry.title if results_file.kept(entry) else "" for entry in entries]
  for title in dict.fromkeys(entry.summary["title"] for entry in entries):
    alike = [i for i, entry in enumerate(entries) if entry.summary["title"] == title]
    own = [i for i in alike if not found[i]]
    taken = {found[i] for i in alike} - {""}
    for i, name in zip(own, _apart(title, [entries[i] for i in own], taken), strict=True):
      found[i] = name
  return found


def _apart(title: str, entries: Sequence[Entry], taken: set[str]) -> list[str]:
  if len(entries) == 1 and not taken:
    return [title]
  for way in (_variant, _variant_and_seed):
    names = [f"{title} ({rest})" if (rest := way(entry)) else title for entry in entries]
    if len(set(names)) == len(names) and not taken & set(names):
      return names
  return [f"{title} ({entry.workdir.name})" for entry in entries]


def _variant_and_seed(entry: Entry) -> str:
  """The name of a folder without those of the model and the data set, or all of it."""
  name, summary = entry.workdir.name, entry.summary
  rest = name.removeprefix(summary["model"]["name"])
  if rest and (rest == name or not rest.startswith(("_", "-"))):
    return name
  rest = rest.replace(summary["data"]["name"], "")
  return re.sub(r"[_-]{2,}", "-", rest).strip("_-")


def _variant(entry: Entry) -> str:
  return re.sub(r"(^|[_-])seed\d+$", "", _variant_and_seed(entry))
