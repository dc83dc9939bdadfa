"""Runs and results files together: what a path stands for, and which of two same models counts.

A run stands in the place of the same model in a results file, unless it is less finished: what is
in the file is never lost to a run that has just been started.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls import stored
from gencls.names import unknown_name
from gencls.report import reading, results_file
from gencls.report.reading import Entry

_LOG = logging.getLogger(__name__)


def folder(text: str | Path, name: str) -> tuple[Path, str]:
  """The work directory and the evaluation of "workdir" or "workdir:evaluation"."""
  path, colon, own = str(text).rpartition(":")
  return (Path(path), own) if colon and "/" not in own else (Path(text), name)


def evaluations(given: str | Path) -> list[str]:
  """The evaluations of a run, or the one that a results file is of (its first model's).

  Raises:
    FileNotFoundError, ValueError: if a results file is missing or damaged.
  """
  if results_file.is_one(given):
    return [results_file.entries(given)[0].name]
  return stored.names(folder(given, "")[0])


def gather(given: Sequence[str | Path], name: str) -> list[Entry]:
  """One evaluation of every run and of every model in results files, the same model once.

  Raises:
    FileNotFoundError: if an evaluation is missing.
    ValueError: if a file is damaged.
  """
  return _once([entry for path in given for entry in _read(path, name)])


def _read(given: str | Path, name: str) -> list[Entry]:
  if not results_file.is_one(given):
    return [reading.read(*folder(given, name))]
  found = results_file.entries(given)
  there = dict.fromkeys(entry.name for entry in found)
  if name not in there:
    raise FileNotFoundError(f"{given}: {unknown_name('evaluation', name, there)}")
  return found  # the others were compared with these under names of their own


def beside(entries: Sequence[Entry], name: str, given: Sequence[str | Path]) -> list[Entry]:
  """Another evaluation of the same models, under the same titles; of those that have it.

  Args:
    entries: from `gather`.
    name: of the other evaluation.
    given: what `entries` were gathered from. The other evaluation of a results file is looked for
      in <name>.json in the same folder.
  """
  paths = [results_file.split(path)[0] for path in given if results_file.is_one(path)]
  files = dict.fromkeys(path.with_name(name + results_file.SUFFIX) for path in paths)
  kept = [entry for path in files if path.is_file() for entry in results_file.entries(path)]
  found = []
  for entry in entries:
    own = [] if results_file.kept(entry) or name not in stored.names(entry.workdir) else [
      reading.read(entry.workdir, name)]  # fmt: skip
    same = [each for each in kept if same_model(each.summary, entry.summary)]
    found += [each._replace(title=entry.title) for each in _once([*own, *same[:1]])]
  if not found:
    _LOG.warning("none of the models has the evaluation %r yet", name)
  return found


def _once(entries: Sequence[Entry]) -> list[Entry]:
  """Of a run and the same model in a results file the one that counts."""
  out: list[int] = []
  for i, new in enumerate(entries):
    for k, old in enumerate(entries):
      if results_file.kept(new) or not results_file.kept(old):
        continue
      if not same_model(new.summary, old.summary):
        continue
      behind = _missing(new) > _missing(old)
      _LOG.warning(
        "%s: %s, which is %s finished, stands in the place of %s",
        *(old.title, *((old.workdir, "more", new.workdir) if behind
                       else (new.workdir, "as far", old.workdir))),
      )  # fmt: skip
      out.append(i if behind else k)
  return [entry for i, entry in enumerate(entries) if i not in out]


def _missing(entry: Entry) -> float:
  """The cells that are not there; infinite where nothing is graded."""
  return len(entry.summary["missing"]) if entry.summary["untouched"] else float("inf")


def same_model(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
  """Whether two summaries are of one model: called and built alike, and trained by one config.

  Settings that only one of them has are no difference: configs have grown. Where a config is not
  known the parameters decide.
  """
  if one["title"] != two["title"] or not _agree(one["model"], two["model"]):
    return False
  configs = [summary.get("training", {}).get("config") for summary in (one, two)]
  if None in configs:
    return "params" in one and one["params"] == two.get("params")
  return _agree(*configs)


def _agree(one: Any, two: Any) -> bool:
  if isinstance(one, Mapping) and isinstance(two, Mapping):
    return all(_agree(one[name], two[name]) for name in one.keys() & two.keys())
  return one == two
