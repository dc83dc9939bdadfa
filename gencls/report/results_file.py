"""The numbers of a comparison in one JSON file, and that file in the place of the runs behind it.

  {"GFZ": {...}, "CNN": {...}}         title -> summary, as `compare.write` leaves it

A long comparison is written as short as can be, see `compact`. Nothing is lost: models can be put
beside those of the file when their runs are gone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gencls import json_files
from gencls.names import unknown_name
from gencls.report import compact, reading
from gencls.summary import shares
from gencls.workdir import to_json

SUFFIX = ".json"
_ROUNDING = 1e-5
_INDENTED_ROWS = 200  # with more, whoever reads it is a program
_NEEDS = ("name", "title", "data", "model", "protocol", "attacks", "config", "record", "made_by",
          "rows", "worst", "checks", "clean", "untouched", "num_images")  # fmt: skip
_FIX = "restore it, or write it anew with launch/report.py from the runs"


def split(text: str | Path) -> tuple[Path, str | None]:
  """The file and the title of "file.json" (all models, None) or "file.json:title"."""
  path, found, title = str(text).partition(SUFFIX + ":")
  return (Path(path + SUFFIX), title) if found else (Path(text), None)


def is_one(text: str | Path) -> bool:
  """Whether this names such a file, or a model in it, and not a run's folder."""
  path, _ = split(text)
  return path.suffix == SUFFIX and not path.is_dir()


def to_text(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """The file's content: indented as it is, or as short as can be where there are many rows.

  Args:
    summaries: title -> summary, JSON-able.

  Raises:
    ValueError: if a key or a title is "$columns", "$ref" or "$shared".
  """
  compact.check(summaries)
  if sum(len(summary["rows"]) for summary in summaries.values()) <= _INDENTED_ROWS:
    return to_json(summaries)
  return to_json(compact.pack(summaries), compact=True)


def load(path: str | Path) -> dict[str, dict[str, Any]]:
  """Title -> summary of every model in the file.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or not the numbers of a comparison.
  """
  if not Path(path).is_file():
    raise FileNotFoundError(f"there is no results file {path}: launch/report.py writes <name>.json")
  found = json_files.read_object(Path(path), fix=_FIX)
  try:
    summaries = compact.unpack(found)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is damaged ({error}); {_FIX}") from error
  if not summaries:
    raise ValueError(f"{path} holds no model; {_FIX}")
  for title, summary in summaries.items():
    lacking = [n for n in _NEEDS if not isinstance(summary, dict) or n not in summary]
    if lacking:
      raise ValueError(
        f"{path} is not the numbers of a comparison that launch/report.py wrote (<name>.json): "
        f"{title!r} has no {', '.join(lacking)}; {_FIX}"
      )
    try:
      _check(summary)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise ValueError(f"{path} is damaged ({title!r}: {error!r}); {_FIX}") from error
  return summaries


def _check(summary: Mapping[str, Any]) -> None:
  """Raises the error of whatever reads a field where there is none."""
  for row in [*summary["rows"], *summary["worst"], *summary.get("minimum", ())]:
    where = (row["label"], row["norm"], row["eps"] if row["eps"] is None else float(row["eps"]))
    if row.get("accuracy") is not None:
      _check_interval(row["accuracy"], *where)
  for row in summary["worst"]:
    list(row.get("missing", []))
    if row["accuracy"] is not None:
      sum(row["chosen"].values())
  _check_images(summary)
  for check in summary["checks"]:
    _need(check, "name", "status", "detail")
  for each in summary.get("missing", ()):
    _need(each, "label", "norm", "eps", "state")
  for record in (summary["record"], summary.get("training", summary["record"])):
    _need(record, "versions", "git", "devices", "command")
    _need(record["git"], "revision", "dirty")
    _need(record["devices"], "kind", "platform")
  for name in ("model", "attack_model"):
    _need(summary["config"][name], "num_samples")
  _need(summary["protocol"], "threat", "seed", "clean_draws")
  for name in ("clean", "untouched"):
    if summary[name] is not None:
      _check_interval(summary[name]["accuracy"], name)
      float(summary["largest_class_share"])
      _need(summary["made_by"], "device")
  if summary["clean"] is not None:
    for metric in summary["clean"]["metrics"].values():
      _need(metric, "value")


def _check_images(summary: Mapping[str, Any]) -> None:
  """Raises ValueError where the images of a row are not those of its interval."""
  rows = [(row, row["accuracy"]) for row in [summary["clean"], *summary["worst"]] if row]
  rows += [(row, row["evading"]) for row in (summary.get("detection") or {}).get("worst", ())]
  for row, interval in rows:
    if "counted" not in row:  # an older file
      continue
    values = shares.unpack(row["counted"])
    if len(values) != summary["num_images"]:
      raise ValueError(f"{len(values)} images under counted, of {summary['num_images']}")
    if abs(float(np.mean(values)) - interval["mean"]) > _ROUNDING:
      raise ValueError(f"the images under counted have another mean than {interval['mean']}")


def _need(values: Mapping[str, Any], *names: str) -> None:
  missing = [name for name in names if name not in values]
  if missing:
    raise KeyError(*missing)


def _check_interval(interval: Mapping[str, Any], *where: Any) -> None:
  if any(not isinstance(interval[name], int | float) for name in ("mean", "low", "high", "n")):
    raise ValueError(f"the accuracy of {where} is no interval")
  _need(interval, "method")


def entries(text: str | Path) -> list[reading.Entry]:
  """Every model of "file.json" under its title there, or that of "file.json:title".

  The cells behind the numbers are not there.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or has no such model.
  """
  path, wanted = split(text)
  summaries = load(path)
  if wanted is not None and wanted not in summaries:
    raise ValueError(f"{path}: {unknown_name('model', wanted, summaries)}")
  return [
    reading.Entry(title, path, summary["name"], _complete(summary), [], [], [])
    for title, summary in summaries.items()
    if wanted in (None, title)
  ]


def _complete(summary: Mapping[str, Any]) -> dict[str, Any]:
  """With what files older than half-finished evaluations do not say."""
  worst = [{**row, "missing": row.get("missing", [])} for row in summary["worst"]]
  return {**summary, "worst": worst, "missing": summary.get("missing", [])}


def kept(entry: reading.Entry) -> bool:
  """Whether an entry comes from such a file."""
  return is_one(entry.workdir)
