"""What the commands write about a run beside its numbers: its title, how it was trained."""

import logging
from pathlib import Path
from typing import Any

from gencls.evaluation.results import portable_command
from gencls.logs import read_metrics
from gencls.runs import Run

_LOG = logging.getLogger(__name__)

_FIT = "fit/"  # metrics of `fit.fit`


def given(overrides: dict[str, Any]) -> dict[str, Any]:
  """The overrides that are not None."""
  return {name: value for name, value in overrides.items() if value is not None}


def title(model: str, overrides: dict[str, Any]) -> str:
  """For example "GFZ", "GFZ K=100", "CVAE nearest" or "Gaussian naive Bayes"."""
  names = {"num_samples": "K={}"}
  words = [_word(word) for word in model.split("_")]
  words[0] = words[0][0].upper() + words[0][1:]
  return " ".join([*words, *(names.get(n, "{}").format(v) for n, v in overrides.items())])


def _word(word: str) -> str:
  """Short words are acronyms, and Bayes was a man, as was Ising."""
  if word in ("bayes", "ising"):
    return word.capitalize()
  return word.upper() if len(word) <= 4 else word


def training(run: Run, workdir: str | Path) -> dict[str, Any]:
  """How the model was trained, without this machine's folders.

  Args:
    run: the model.
    workdir: where it was trained; of a fit "fit" has what it chose and how it went.
  """
  record = run.record
  names = ("config", "command", "versions", "git", "devices", "data")
  found = {**{name: record[name] for name in names}, "step": run.step}
  settings = record["config"]["data"]
  folder = None if settings["dir"] is None else Path(settings["dir"]).name
  found["config"] = record["config"] | {"data": settings | {"dir": folder}}
  found["command"] = portable_command(record["command"])
  found["data"] = record["data"] | {"source": portable_source(record["data"]["source"])}
  try:
    rows = read_metrics(workdir)
  except ValueError as error:  # of a log: the checkpoint is as good as it was
    _LOG.warning("how %s was fitted is not in the results: %s", workdir, error)
    rows = []
  fits = [
    {name.removeprefix(_FIT): value for name, value in row.items() if name.startswith(_FIT)}
    for row in rows
  ]
  if own := next((fit for fit in reversed(fits) if fit), None):
    found["fit"] = own
  return found


def portable_source(source: Any) -> str:
  """Where data came from, without the folders above its own."""
  words = str(source).split()
  return " ".join(Path(word).name if Path(word).is_absolute() else word for word in words)
