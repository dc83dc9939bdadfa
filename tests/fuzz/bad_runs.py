"""Work directories that are damaged: checkpoints, config.json, metrics.jsonl, notes of sweeps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input import Case, flip, write
from finished import Scene, module, toy_data, train_config

import gencls
from gencls import checkpoint, sweep, sweep_cells, workdir
from gencls.logs import read_metrics


def _steps(at: Scene) -> list[Path]:
  return sorted((at.run / "checkpoints").iterdir(), key=lambda path: int(path.name))


def _load(at: Scene, **options: Any) -> None:
  gencls.load(at.run, **options)


def _loading(**options: Any) -> Callable[[Scene], None]:
  return lambda at: _load(at, **options)


def _every(change: Callable[[bytes], bytes], steps: slice, pattern: str) -> Callable[[Scene], None]:
  """Damages files of some of the checkpoints, from the oldest."""

  def damage(at: Scene) -> None:
    for folder in _steps(at)[steps]:
      files = [path for path in folder.glob(pattern) if path.is_file()]
      assert files, f"nothing to damage: {pattern}"
      for path in files:
        path.write_bytes(change(path.read_bytes()))

  return damage


def _config(change: Callable[[dict], Any]) -> Callable[[Scene], None]:
  def content(before: bytes) -> bytes:
    made = change(json.loads(before))
    return made if isinstance(made, bytes) else json.dumps(made).encode()

  return write(lambda at: at.run / "config.json", content)


def _without(*path: str) -> Callable[[dict], dict]:
  def change(record: dict) -> dict:
    if len(path) > 1:
      return {**record, path[0]: _without(*path[1:])(record[path[0]])}
    return {name: value for name, value in record.items() if name != path[0]}

  return change


def _metrics(name: str, line: bytes, *words: str) -> Case:
  """The second of three lines is another."""

  def change(before: bytes) -> bytes:
    rows = before.splitlines()
    return b"\n".join([rows[0], line, *rows]) + b"\n"

  damage = write(lambda at: at.run / "metrics.jsonl", change)
  return Case("metrics", name, lambda at: read_metrics(at.run), ("line 2 is damaged", *words),
              damage=damage)  # fmt: skip


def _train(at: Scene, **fields: Any) -> None:
  with toy_data():
    module("launch.train").run(train_config(**fields), str(at.run))


def _unlink(name: str) -> Callable[[Scene], None]:
  return lambda at: (at.run / name).unlink()


def _no_checkpoints(at: Scene) -> None:
  shutil.rmtree(at.run / "checkpoints")


def _half_written(at: Scene) -> None:
  for folder in _steps(at):
    shutil.rmtree(folder / "state")
    (folder / checkpoint.SEAL).unlink()


def _note(content: bytes) -> Callable[[Scene], None]:
  def damage(at: Scene) -> None:
    (at.empty / "cells").mkdir()
    (at.empty / "cells" / "a-train.json").write_bytes(content)

  return damage


def _open_sweep(at: Scene) -> None:
  cell = sweep.Cell("a-train", "a", "train", "train.py", (), (), "config.json")
  sweep_cells.open_sweep(at.empty, [cell], list, 0)


def _list(content: bytes) -> Callable[[Scene], None]:
  return lambda at: (at.empty / sweep.LIST).write_bytes(content)


def _report_on_sweep(at: Scene) -> None:
  sweep.workdirs(str(at.empty), None)


def _claim(at: Scene) -> None:
  workdir.claim(at.run, {"config": {}, "data": {}})


_ALL, _LAST, _ARRAYS = slice(None), slice(-1, None), "state/**/d/*"
_WHOLE = "no whole checkpoint in"
CASES: list[Case] = [
  Case("run", "a folder without one", lambda at: gencls.load(at.empty), ("no config.json",),
       FileNotFoundError),
  Case("run", "a folder that is not there", lambda at: gencls.load(at.empty / "a"),
       ("no config.json",), FileNotFoundError),
  Case("run", "another number of units", _loading(hidden_size=5), ("holds other arrays", "5")),
  Case("run", "a misspelt hyperparameter", _loading(hiden_size=5), ("did you mean 'hidden_size'",)),
  Case("run", "an unknown step", _loading(step=3), ("no checkpoint of step 3", "[4, 2]")),
  Case("run", "a step that is a word", _loading(step="newest"), ("'newest'",)),
  Case("run", "a step that is a fraction", _loading(step=2.5), ("got 2.5",)),
  Case("config.json", "not there", _load, ("no config.json",), FileNotFoundError,
       _unlink("config.json")),
  Case("config.json", "not there, and trained again", _train, ("checkpoints but no config.json",),
       damage=_unlink("config.json")),
  Case("config.json", "cut off", _load, ("config.json is damaged", "restore or delete it"),
       damage=_config(lambda r: json.dumps(r).encode()[:200])),
  Case("config.json", "empty", _load, ("config.json is damaged",), damage=_config(lambda r: b"")),
  Case("config.json", "no text", _load, ("config.json is damaged",),
       damage=_config(lambda r: b"\xff\xfe\x00\xd8")),
  Case("config.json", "a list", _load, ("config.json is damaged", "JSON list"),
       damage=_config(lambda r: [r])),
  Case("config.json", "without its config", _claim, ("has no config",),
       damage=_config(_without("config"))),
  Case("config.json", "without its data", _load, ("config.json", "must say", "num_classes"),
       damage=_config(_without("data"))),
  Case("config.json", "without its model", _load, ("config.json", "must say", "model"),
       damage=_config(_without("config", "model"))),
  Case("config.json", "of a model that is not there", _load, ("unknown model 'cnnn'",),
       damage=_config(lambda r: {**r, "config": {**r["config"], "model": {"name": "cnnn"}}})),
  Case("config.json", "of another config", lambda at: _train(at, **{"train.max_steps": 5}),
       ("belongs to a run with another config", "train.max_steps: 4 -> 5")),
  Case("checkpoint", "not there", _load, ("no checkpoints in",), FileNotFoundError,
       _no_checkpoints),
  Case("checkpoint", "all cut off", _load, (_WHOLE,), FileNotFoundError,
       _every(lambda c: c[: len(c) // 2], _ALL, _ARRAYS)),
  Case("checkpoint", "all with a flipped byte", _load, (_WHOLE,), FileNotFoundError,
       _every(flip, _ALL, _ARRAYS)),
  Case("checkpoint", "half-written", _load, (_WHOLE,), FileNotFoundError, _half_written),
  Case("checkpoint", "the last one cut off", _loading(step="latest"),
       ("is damaged", "trying an older one"), UserWarning,
       _every(lambda c: c[: len(c) // 2], _LAST, _ARRAYS)),
  Case("checkpoint", "the last one's text flipped", _loading(step="latest"),
       ("is damaged", "trying an older one"), UserWarning, _every(flip, _LAST, "config/metadata")),
  Case("checkpoint", "an accuracy that is cut off", _load, ("metrics is damaged", "delete"),
       damage=_every(lambda c: c[:5], _LAST, "metrics/metrics")),
  Case("checkpoint", "an accuracy that is a text", _load, ("its accuracy is '1'", "delete"),
       damage=_every(lambda c: b'{"accuracy": "1"}', _LAST, "metrics/metrics")),
  Case("checkpoint", "a seal that is a list", _loading(step="latest"),
       ("seal.json", "JSON list"), UserWarning, _every(lambda c: b"[]", _LAST, "seal.json")),
  Case("checkpoint", "a seal of other things", _loading(step="latest"), ("a is missing",),
       UserWarning, _every(lambda c: b'{"a": 3}', _LAST, "seal.json")),
  Case("checkpoint", "a seal that is no text", _loading(step="latest"), ("seal.json",),
       UserWarning, _every(lambda c: b"\xff\xfe\x00\xd8", _LAST, "seal.json")),
  _metrics("cut off", b'{"step": 1, "tr', "not valid JSON", "delete that line"),
  _metrics("a number", b"7", "JSON int"),
  _metrics("no step", b'{"a": 1}', "its step is None"),
  _metrics("a step that is a text", b'{"step": "1"}', "its step is '1'"),
  _metrics("no text", b"\xff\xfe\x00\xd8", "delete that line"),
  Case("sweep", "a note that is cut off", _open_sweep, ("a-train.json is damaged", "delete it"),
       damage=_note(b'{"status": "fin')),
  Case("sweep", "a note that is a list", _open_sweep, ("a-train.json is damaged", "JSON list"),
       damage=_note(b"[]")),
  Case("sweep", "a note without a status", _open_sweep, ("a-train.json is damaged", "no status"),
       damage=_note(b"{}")),
  Case("sweep", "a list that is cut off", _report_on_sweep, ("sweep.json is damaged",),
       damage=_list(b'{"cells": [')),
  Case("sweep", "a list without cells", _report_on_sweep, ("sweep.json is damaged", "no cells"),
       damage=_list(b"{}")),
  Case("sweep", "a list of numbers", _report_on_sweep, ("sweep.json is damaged", "no run"),
       damage=_list(b'{"cells": [1]}')),
]  # fmt: skip
