"""Fitting: from a classifier that takes no steps, and data, to a checkpoint in a work directory.

The counterpart of `train.train` for closed forms, EM and L-BFGS. A fit takes seconds or minutes: a
killed one starts again, a finished one is not repeated.
"""

import logging
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gencls import checkpoint, sharding
from gencls.data import Dataset, to_float
from gencls.logs import Writer, check_finite_row
from gencls.train import abstract_state, device_data
from gencls.training import settings as train_settings
from gencls.training.loop import FINISHED, Outcome, Progress
from gencls.training.step import TrainState, init_key, metric_names
from gencls.training.validation import make_validator
from gencls.types import Classifier, FitData, Params

_LOG = logging.getLogger(__name__)

STEP = 1  # of the one checkpoint


def fitted_state(classifier: Classifier, image_shape: tuple[int, ...], mesh: Mesh) -> TrainState:
  """Shapes, dtypes and shardings of what a fit saves, without computing it."""
  return abstract_state(classifier, optax.identity(), image_shape, mesh, ema=False)


def fit(
  classifier: Classifier,
  train_data: Dataset,
  validation_data: Dataset,
  *,
  workdir: str | Path,
  seed: int,
  config: dict[str, Any] | None = None,
  batch_size: int = 100,
  num_validation_images: int = 1000,
) -> Outcome:
  """Fits a classifier into a work directory, or finds it fitted there.

  Args:
    classifier: what is fitted.
    train_data: its training split.
    validation_data: on the whole of it the fit makes its choices.
    workdir: where checkpoints/, metrics.jsonl and tensorboard/ are.
    seed: of everything random.
    config: plain dict, saved with the checkpoint.
    batch_size: images at once in the validation.
    num_validation_images: of the validation that is logged, from the first.

  Returns:
    `Outcome`; its state has the one step `STEP`.

  Raises:
    ValueError: if the classifier has no fit, or the fit returns other shapes than `init`.
    FloatingPointError: if a metric or a logit is not finite; names it.
  """
  train_settings.check_method("fit", classifier)
  assert classifier.fit is not None
  mesh = sharding.data_mesh()
  shapes = fitted_state(classifier, train_data.images.shape[1:], mesh)
  manager = checkpoint.open_manager(Path(workdir) / "checkpoints")
  writer = None
  try:
    if manager.all_steps():
      return Outcome(checkpoint.restore(manager, shapes).state, FINISHED)
    writer = Writer(workdir, step=0, total_steps=STEP)
    start = time.perf_counter()
    found = classifier.fit(init_key(seed), fit_data(train_data, validation_data))
    params = sharding.put(jax.device_get(found.params), sharding.replicated(mesh))
    _check_shapes(params, shapes.params)
    row = {f"fit/{name}": float(value) for name, value in found.metrics.items()}
    row["fit/seconds"] = round(time.perf_counter() - start, 3)
    state = TrainState(jnp.int32(STEP), params, None, optax.identity().init(params))
    validator = make_validator(
      classifier,
      classifier,
      metric_names(classifier, shapes.params, train_data.images.shape[1:]),
      device_data(validation_data, mesh, num_validation_images),
      mesh,
      batch_size=batch_size,
      seed=seed,
      num_levels=validation_data.num_levels,
    )
    row |= validator(state)
    check_finite_row(row, STEP)
    writer.write(STEP, row)
    writer.flush()
    accuracy = row["eval/accuracy"]
    progress = Progress(accuracy, STEP)._asdict()
    checkpoint.save(manager, STEP, state, config=config or {}, progress=progress, accuracy=accuracy)
    _LOG.info("%s", "; ".join(f"{name} {value:.6g}" for name, value in row.items()))
    return Outcome(state, FINISHED)
  finally:
    if writer is not None:
      writer.close()
    manager.close()


def fit_data(train_data: Dataset, validation_data: Dataset) -> FitData:
  """Whole splits as float32 images on the default device."""
  splits = [
    (jnp.asarray(to_float(each.images, each.num_levels)), jnp.asarray(each.labels, jnp.int32))
    for each in (train_data, validation_data)
  ]
  (x, y), (validation_x, validation_y) = splits
  return FitData(x, y, validation_x, validation_y)


def _check_shapes(params: Params, shapes: Params) -> None:
  """Raises ValueError where a fit's parameters could not be read back."""

  found, expected = checkpoint.leaf_kinds(params), checkpoint.leaf_kinds(shapes)
  if found != expected:
    raise ValueError(f"a fit must return parameters of the shapes of init, {expected}; got {found}")
