"""A trained run, read back from its work directory."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gencls import checkpoint, data, models, sharding
from gencls.fit import fitted_state
from gencls.keys import purpose_key
from gencls.models.ising import LINEAR_IN_SPINS
from gencls.train import abstract_state
from gencls.training import optimizers
from gencls.training.step import TrainState
from gencls.types import Classifier, LogitsFn, Params
from gencls.workdir import read_config


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained classifier and where it came from."""

  classifier: Classifier
  params: Params  # ready for `logits`: the moving average where there is one, and prepared
  config: dict[str, Any]  # as it was trained, with the overrides of the model
  record: dict[str, Any]  # the whole config.json: data split, class prior, versions, ...
  step: int  # of the checkpoint
  logits_fn: LogitsFn  # (keys, x) -> [B, C], a Partial whose leaves are the parameters
  raw_params: Params  # before `prepare`

  def redraw(self, draw: int) -> LogitsFn:
    """The logits with `prepare` drawn anew; draw 0 is `logits_fn`, as is all without `prepare`."""
    prepare = self.classifier.prepare
    if draw == 0 or prepare is None:
      return self.logits_fn
    key = jax.random.fold_in(purpose_key(self.config["seed"], "prepare"), draw)
    params = jax.jit(prepare)(self.raw_params, key)
    return jax.tree_util.Partial(self.classifier.logits, params)

  @functools.cached_property
  def dataset(self) -> data.Dataset:
    """The test split, read at the first use."""
    return self.split("test")

  def split(self, split: str) -> data.Dataset:
    """A split of the run's data set: "train", "validation" or "test"."""
    chosen = self.config["data"]
    return data.load(
      chosen["name"],
      split=split,
      data_dir=chosen["dir"],
      validation_size=chosen["validation_size"],
    )


def _model_of(record: dict[str, Any]) -> dict[str, Any]:
  """The model's config, with what a field was before there was one, or a choice of it."""
  model = record["config"]["model"]
  if model["name"] == "ising" and model.get("training") in LINEAR_IN_SPINS:
    return model | {"backward": None}  # a name was taken there, and changed nothing
  if model["name"] == "ising":
    return {"backward": "straight_through"} | model
  if model["name"] == "gaussian_naive_bayes" and model.get("binarized"):
    return {"backward": "straight_through"} | model
  if model["name"] == "cnn_denoised" and model.get("method") == "one_shot":
    return {"backward": "straight_through"} | model
  return model


def build_model(record: dict[str, Any], **overrides: Any) -> Classifier:
  """The classifier that a config.json describes.

  Args:
    record: from `workdir.read_config`.
    **overrides: hyperparameters that replace the config's.

  Returns:
    A `Classifier`.

  Raises:
    ValueError: if a hyperparameter is unknown or out of range.
  """
  return models.build(
    **(_model_of(record) | overrides),
    image_shape=record["data"]["image_shape"],
    num_classes=record["data"]["num_classes"],
    class_prior=record["class_prior"],
  )


def load(workdir: str | os.PathLike[str], step: int | str = "best", **overrides: Any) -> Run:
  """Reads a run's classifier and parameters back.

  Args:
    workdir: of `launch/train.py`.
    step: "best" (validation accuracy), "latest", or the number of a kept checkpoint.
    **overrides: hyperparameters of the model that do not change its parameters, for example
      num_samples=100.

  Returns:
    `Run`.

  Raises:
    FileNotFoundError: if the folder holds no run or no whole checkpoint.
    ValueError: if the step or a hyperparameter is unknown, or a hyperparameter changes parameters.
  """
  record = read_config(workdir)
  _check_record(workdir, record)
  config = record["config"] | {"model": _model_of(record) | overrides}
  classifier = build_model(record, **overrides)
  raw, found = _read_params(Path(workdir), record, classifier, step)
  params = raw
  if classifier.prepare is not None:
    key = purpose_key(config["seed"], "prepare")
    params = jax.jit(classifier.prepare)(raw, key)
  logits_fn = jax.tree_util.Partial(classifier.logits, params)
  return Run(classifier, params, config, record, found, logits_fn, raw)


def _check_record(workdir: str | os.PathLike[str], record: dict[str, Any]) -> None:
  """Raises ValueError for a config.json that does not say what a run needs."""
  needs = {"config": ("seed", "data", "model", "train"), "data": ("image_shape", "num_classes")}
  whole = "class_prior" in record and all(
    isinstance(record.get(part), dict) and all(name in record[part] for name in names)
    for part, names in needs.items()
  )
  if not whole:
    words = "; ".join(f"{part}: {', '.join(names)}" for part, names in needs.items())
    raise ValueError(
      f"{str(Path(workdir) / 'config.json')!r} must say class_prior; {words}. It does not: restore "
      "it, or train anew into another folder"
    )


def _state_shapes(
  classifier: Classifier, settings: dict[str, Any], image_shape: tuple[int, ...]
) -> TrainState:
  """Of what a training with these settings has saved; older configs do not have every setting."""
  mesh = sharding.data_mesh()
  if settings.get("method", "gradient") == "fit":
    return fitted_state(classifier, image_shape, mesh)
  kept = {name: settings[name] for name in ("optimizer", "momentum") if name in settings}
  tx = optimizers.build(
    learning_rate=settings["learning_rate"],
    weight_decay=settings["weight_decay"],
    grad_clip=settings["grad_clip"],
    schedule=settings["schedule"],
    warmup_steps=settings["warmup_steps"],
    **kept,
  )
  return abstract_state(classifier, tx, image_shape, mesh, ema=settings["ema_decay"] is not None)


def _read_params(
  workdir: Path, record: dict[str, Any], classifier: Classifier, step: int | str
) -> tuple[Params, int]:
  """The evaluated parameters of a checkpoint, on the first device, and its step."""
  folder = workdir / "checkpoints"
  if not folder.is_dir():
    raise FileNotFoundError(
      f"no checkpoints in {str(workdir)!r}: its training has saved none yet. Continue it with "
      f"launch/train.py --config=... --workdir={workdir}"
    )
  shapes = _state_shapes(
    classifier, record["config"]["train"], tuple(record["data"]["image_shape"])
  )
  manager = checkpoint.open_manager(folder, read_only=True)
  try:
    restored = checkpoint.restore(manager, shapes, step=step)
  finally:
    manager.close()
  # Plain arrays on the default device: evaluation places them as it likes.
  params = jax.device_get(restored.state.evaluated())
  return jax.tree.map(jnp.asarray, params), restored.step
