"""Runs and results files together: what a path stands for, and which of two same models counts.

A run stands in the place of the same model in a results file where both were evaluated alike, or
the run by the same attacks and more, unless it is less finished: what is in the file is never lost
to a run that has just been started.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.evaluation import stored
from gencls.names import unknown_name
from gencls.report import reading, results_file
from gencls.report.reading import Entry

_LOG = logging.getLogger(__name__)

# What configs of trainings did not say at first, and meant.
_AT_FIRST = {"loss": "model", "method": "gradient", "optimizer": "adam", "momentum": 0.0}
# Models are compared only where these agree: everything else makes a different experiment.
MUST_AGREE = ("data", "num_images", "protocol", "attacks")
_NONE = float("inf")  # missing cells of what has not been graded at all


def folder(text: str | Path, name: str) -> tuple[Path, str]:
  """The work directory and the evaluation of "workdir" or "workdir:evaluation"."""
  path, colon, own = str(text).rpartition(":")
  return (Path(path), own) if colon and "/" not in own else (Path(text), name)


def evaluations(path: str | Path) -> list[str]:
  """The evaluations of a run, or the one that a results file is of (its first model's).

  Raises:
    FileNotFoundError, ValueError: if a results file is missing or damaged.
  """
  if results_file.is_one(path):
    return [results_file.entries(path)[0].name]
  return stored.names(folder(path, "")[0])


def gather(paths: Sequence[str | Path], name: str) -> list[Entry]:
  """One evaluation of every run and of every model in results files, the same model once.

  Raises:
    FileNotFoundError: if an evaluation is missing.
    ValueError: if a file is damaged.
  """
  return _once([entry for path in paths for entry in _read(path, name)])


def _read(path: str | Path, name: str) -> list[Entry]:
  if not results_file.is_one(path):
    return [reading.read(*folder(path, name))]
  found = results_file.entries(path)
  there = dict.fromkeys(entry.name for entry in found)
  if name not in there:
    raise FileNotFoundError(f"{path}: {unknown_name('evaluation', name, there)}")
  return found  # the others were compared with these under names of their own


def beside(entries: Sequence[Entry], name: str, paths: Sequence[str | Path]) -> list[Entry]:
  """Another evaluation of the same models, under the same titles; of those that have it.

  Args:
    entries: from `gather`.
    name: of the other evaluation.
    paths: what `entries` were gathered from. The other evaluation of a results file is looked for
      in <name>.json in the same folder; models there that are not among `entries` are kept under
      the titles that they have.

  Raises:
    ValueError: if a run and a results file have it of one model with other settings.
  """
  given_files = [results_file.split(path) for path in paths if results_file.is_one(path)]
  files = dict.fromkeys(
    (path.with_name(name + results_file.SUFFIX), title) for path, title in given_files
  )
  kept = [
    each
    for path, title in files
    if path.is_file()
    for each in _read(path, name)
    if title in (None, each.title)
  ]
  found, used = [], []
  for entry in entries:
    own = [] if results_file.kept(entry) or name not in stored.names(entry.workdir) else [
      reading.read(entry.workdir, name)]  # fmt: skip
    same = [i for i in _alike(entry, kept) if i not in used][:1]
    used += same
    of_both = _once([*own, *(kept[i] for i in same)])
    if len(of_both) > 1:
      raise ValueError(
        f"{name!r} of {entry.title!r} is another evaluation in {of_both[0].workdir} than in "
        f"{of_both[1].workdir}: evaluate all models with the same config, or leave one out"
      )
    found += [each._replace(title=entry.title) for each in of_both]
  taken = {entry.title for entry in entries}
  for each in (each for i, each in enumerate(kept) if i not in used):
    if each.title in taken:  # its numbers must not stand beside those of another model
      _LOG.warning("%s of %s is another model than the one given: left out", each.title,
                   each.workdir)  # fmt: skip
    else:
      found.append(each)
  if not found:
    _LOG.warning("none of the models has the evaluation %r yet", name)
  return found


def _alike(entry: Entry, others: Sequence[Entry]) -> list[int]:
  """Which of the others are the same model: those of the same parameters first."""
  same = [i for i, other in enumerate(others) if same_model(other.summary, entry.summary)]
  params = entry.summary.get("params")
  return sorted(same, key=lambda i: others[i].summary.get("params") != params)


def _once(entries: Sequence[Entry]) -> list[Entry]:
  """Of a run and the same model in a results file, evaluated as hard, the one that counts."""
  out: set[int] = set()
  for i, new in enumerate(entries):
    if results_file.kept(new):
      continue
    for k in _alike(new, entries):
      old = entries[k]
      if not results_file.kept(old) or k in out or not evaluated_as_hard(new.summary, old.summary):
        continue
      behind = _missing(new) > _missing(old)
      out.add(i if behind else k)
      stands, gone = (old, new) if behind else (new, old)
      _LOG.warning("%s: %s stands in the place of %s", old.title, _place(stands), _place(gone))
      break
  return [entry for i, entry in enumerate(entries) if i not in out]


def _place(entry: Entry) -> str:
  count = _missing(entry)
  state = "finished" if not count else "not graded yet" if count == _NONE else f"{count:g} to do"
  return f"{entry.workdir} ({state})"


def _missing(entry: Entry) -> float:
  """The cells that are not there; infinite where nothing is graded."""
  return len(entry.summary["missing"]) if entry.summary["untouched"] else _NONE


def evaluated_as_hard(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
  """Whether a summary is of the same images and grading as an older one, and of all its attacks."""
  more = {**old, "attacks": {**new["attacks"], **old["attacks"]}}
  two = [{**each, "attacks": {k: decisive(v) for k, v in each["attacks"].items()}}
         for each in (new, more)]  # fmt: skip
  return all(given(two[0][field]) == given(two[1][field]) for field in MUST_AGREE)


def same_model(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
  """Whether two summaries are of one model: called and built alike, trained alike and as long.

  Where a training is not known the parameters decide.
  """
  if one["title"] != two["title"] or not _agree(one["model"], two["model"]):
    return False
  trained = [_training(summary) for summary in (one, two)]
  if None in trained:
    return "params" in one and one["params"] == two.get("params")
  return trained[0] == trained[1] and one.get("step") == two.get("step")


def _training(summary: Mapping[str, Any]) -> Any:
  """The config of the training, older ones as newer ones say the same."""
  config = summary.get("training", {}).get("config")
  if config is None:
    return None
  train = {**_AT_FIRST, **config.get("train", {})}
  used = {name: value for name, value in config.items() if name not in ("train", "adversarial")}
  if train["loss"] == "adversarial":
    used["adversarial"] = config.get("adversarial")
  return given({**used, "train": train})


def given(value: Any) -> Any:
  """Without the settings that are None: older files do not have them all."""
  if not isinstance(value, Mapping):
    return value
  return {name: given(item) for name, item in value.items() if item is not None}


def decisive(attack: Mapping[str, Any]) -> dict[str, Any]:
  """What decides the worst case of an attack: not whether broken images were attacked again."""
  return {name: value for name, value in given(attack).items() if name != "after"}


def _agree(one: Any, two: Any) -> bool:
  """Whether what both say is the same: hyperparameters have been added to models."""
  if isinstance(one, Mapping) and isinstance(two, Mapping):
    return all(_agree(one[name], two[name]) for name in one.keys() & two.keys())
  return one == two
