"""A small run, trained and evaluated by the functions behind the launch scripts, and copies of it.

What a bad input may never touch is there already: checkpoints, cells, tables.
"""

import contextlib
import hashlib
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import toy
from absl import flags

from gencls import data, runs

ROOT = Path(__file__).resolve().parents[2]
NAME = "toy"  # of the finished evaluation
# What counts as finished; logs, locks and figures do not.
_FINISHED = ("config.json", "metrics.jsonl", "checkpoints/**/*", "results/**/*.npz",
             "results/**/*.json", "*.gz", "sweep.json", "cells/*.json")  # fmt: skip


class Scene(NamedTuple):
  """Where one bad input is tried."""

  run: Path  # a copy of the finished run
  empty: Path  # a folder with nothing in it
  loaded: runs.Run  # the finished run, read once


def module(name: str) -> Any:
  """A module of configs/ or launch/, which lie beside the package."""
  if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
  _forget_flags()  # each command has a --config of its own
  try:
    return importlib.import_module(name)
  finally:
    _forget_flags()


def _forget_flags() -> None:
  for name in ("config", "workdir", "progress", "out"):
    if name in flags.FLAGS:
      delattr(flags.FLAGS, name)


def changed(config: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
  """A copy of a plain config with dotted fields set."""
  found = {k: changed(v, {}) if isinstance(v, dict) else v for k, v in config.items()}
  for name, value in fields.items():
    *groups, last = name.split(".")
    inner = found
    for each in groups:
      inner = inner[each]
    inner[last] = value
  return found


def train_config(**fields: Any) -> dict[str, Any]:
  """A CNN of a few units and four steps."""
  config = module("configs.cnn_digits").get_config("smoke").to_dict()
  small = {"model.channels": (2,), "model.hidden_size": 4, "validate.num_images": 20}
  steps = {"train.batch_size": 10, "train.max_steps": 4, "train.validate_every": 2}
  return changed(config, {**small, **steps, **fields})


def evaluation_config(**fields: Any) -> dict[str, Any]:
  """FGSM on eight images."""
  base = module("configs.attacks.base")
  attacks = {"fgsm": base.attack("fgsm", (0.1, 0.3)), "pgd": base.attack("pgd", (), num_steps=2)}
  config = base.get_config(NAME, attacks, arg="smoke").to_dict()
  few = {"num_images": 8, "clean_draws": 1, "clean": ("accuracy",), "keep_images": 2}
  return changed(config, {**few, **fields})


@contextlib.contextmanager
def toy_data():
  """The data set "digits" is a toy, unless a folder or a size is asked for."""
  load, sizes = data.load, {"train": 60, "validation": 20, "test": 12}

  def either(name, split="test", *, data_dir=None, validation_size=None):
    if (name, data_dir, validation_size) != ("digits", None, None) or split not in sizes:
      return load(name, split, data_dir=data_dir, validation_size=validation_size)
    return toy.dataset(sizes[split], split, seed=len(split))

  with mock.patch.object(data, "load", either):
    yield


def make(folder: Path) -> runs.Run:
  """Trains and evaluates into an empty folder; returns the run."""
  with toy_data():
    module("launch.train").run(train_config(), str(folder))
    module("launch.evaluate").run(evaluation_config(), str(folder), progress=False)
    loaded = runs.load(folder)
    assert loaded.dataset.name == "toy"
  return loaded


def scene(finished: Path, loaded: runs.Run, folder: Path) -> Scene:
  """A place for one bad input, below an empty folder."""
  found = Scene(folder / "run", folder / "empty", loaded)
  shutil.copytree(finished, found.run)
  found.empty.mkdir()
  return found


def train(at: Scene, **fields: Any) -> None:
  """launch/train.py into the empty folder, which must stay free where it fails."""
  try:
    with toy_data():
      module("launch.train").run(train_config(**fields), str(at.empty))
  finally:
    assert not list(at.empty.iterdir()), "a config that cannot be trained has claimed the folder"


@contextlib.contextmanager
def _loaded(at: Scene):
  """The model is not read again where it is the same."""
  load = runs.load

  def cached(workdir, step="best", **overrides):
    return load(workdir, step, **overrides) if overrides or step != "best" else at.loaded

  with toy_data(), mock.patch.object(runs, "load", cached):
    yield


def evaluate(at: Scene, **fields: Any) -> dict[str, Any]:
  """launch/evaluate.py on the finished run."""
  with _loaded(at):
    evaluator = module("launch.evaluate")
    return evaluator.run(evaluation_config(**fields), str(at.run), progress=False)


def analyse(at: Scene, **fields: Any) -> str:
  """launch/analyse.py on the finished run."""
  with _loaded(at):
    config = module("configs.analyses.all").get_config("smoke").to_dict()
    few = {"run": ("class_gap",), "num_images": 8, "num_fitting_images": 16, "detectors": ("kl",)}
    analyser = module("launch.analyse")
    return analyser.run(changed(config, {**few, **fields}), str(at.run), progress=False)


def digests(at: Scene) -> dict[str, str]:
  """Every finished file and the hash of its content."""
  found = {}
  for root in (at.run, at.empty):
    files = {path for pattern in _FINISHED for path in root.glob(pattern) if path.is_file()}
    found |= {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
  return found
