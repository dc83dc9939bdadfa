"""One title for each model of a report."""

import re
from collections.abc import Sequence

from gencls.report import results_file
from gencls.report.reading import Entry

_SEED = re.compile(r"(?:^|[_-])seed\d+$")


def of(entries: Sequence[Entry]) -> list[str]:
  """The models' own titles, with the variants that their folders name.

  gaussian_mixture_wide_mnist-seed0 is a "Gaussian mixture (wide)", whichever models stand beside
  it. Those that are still called alike are told apart by their seeds, or else by their folders, or
  as evaluations of one run by the names of these. In a results file a model keeps the title that it
  has there.
  """
  found = [entry.title if results_file.kept(entry) else _titled(entry) for entry in entries]
  for title in dict.fromkeys(found):
    alike = [i for i, each in enumerate(found) if each == title]
    own = [i for i in alike if not results_file.kept(entries[i])]
    if len(alike) == 1 or not own:
      continue
    seeded = [_titled(entries[i], seed=True) for i in own]
    if len(set(seeded)) < len(own) or set(seeded) & set(found):
      seeded = [_of_folder(entries[i], [entries[j] for j in own]) for i in own]
    for i, name in zip(own, seeded, strict=True):
      found[i] = name
  return found


def _of_folder(entry: Entry, alike: Sequence[Entry]) -> str:
  """The title with what tells it apart: the folder, the evaluation, or both."""
  folders = [each.workdir for each in alike]
  names = [entry.workdir.name] if len(set(folders)) > 1 or len(alike) == 1 else []
  names += [entry.name] if folders.count(entry.workdir) > 1 else []
  return f"{entry.summary['title']} ({', '.join(names)})"


def _titled(entry: Entry, seed: bool = False) -> str:
  """The title, and what the folder's name says beside the model, the data set, and the seed."""
  title, rest = entry.summary["title"], _rest(entry)
  rest = rest if seed else _SEED.sub("", rest)
  return f"{title} ({rest})" if rest else title


def _rest(entry: Entry) -> str:
  """The name of a folder without those of the model and the data set; "" if it is another one."""
  name, summary = entry.workdir.name, entry.summary
  rest = name.removeprefix(summary["model"]["name"])
  if rest == name or (rest and rest[0] not in "_-"):
    return ""
  rest = rest.replace(summary["data"]["name"], "")
  return re.sub(r"[_-]{2,}", "-", rest).strip("_-").replace("_", " ")
