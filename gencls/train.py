"""Training: from a classifier, data and settings to checkpoints in a work directory."""

import functools
import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gencls import checkpoint, sharding
from gencls.data import Dataset, batches
from gencls.logs import Meter, Writer
from gencls.training import optimizers, rungs
from gencls.training import settings as train_settings
from gencls.training.loop import FINISHED, INTERRUPTED, STOPPED_EARLY, Loop, Outcome, Progress, run
from gencls.training.step import (
  DeviceData,
  Sums,
  TrainState,
  gather,
  init_key,
  initial_state,
  log_names,
  make_step,
  metric_names,
)
from gencls.training.validation import make_validator
from gencls.types import Array, Classifier
from gencls.workdir import differences

_LOG = logging.getLogger(__name__)

__all__ = ["FINISHED", "INTERRUPTED", "STOPPED_EARLY", "Outcome", "train"]


def num_steps(
  num_examples: int, *, batch_size: int, num_epochs: int, max_steps: int | None
) -> tuple[int, int]:
  """(steps per epoch, steps of the whole training)."""
  steps_per_epoch = num_examples // batch_size
  total = num_epochs * steps_per_epoch
  return steps_per_epoch, total if max_steps is None else min(total, max_steps)


def device_data(data: Dataset, mesh: Mesh, limit: int | None = None) -> DeviceData:
  """The first `limit` examples of a split (all where None) on every device, uint8."""
  arrays = data.images[:limit], data.labels[:limit], data.indices[:limit]
  return DeviceData(*sharding.put(arrays, sharding.replicated(mesh)))


def abstract_state(
  classifier: Classifier,
  tx: optax.GradientTransformation,
  image_shape: tuple[int, ...],
  mesh: Mesh,
  *,
  ema: bool,
) -> TrainState:
  """Shapes, dtypes and shardings of the training state, without computing it."""
  x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  y = jax.ShapeDtypeStruct((2,), jnp.int32)
  init = functools.partial(initial_state, classifier, tx, ema=ema)
  shapes = jax.eval_shape(init, jax.eval_shape(init_key, 0), x, y)
  place = sharding.replicated(mesh)
  return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes)


def _initial_state(
  classifier: Classifier,
  tx: optax.GradientTransformation,
  data: DeviceData,
  positions: np.ndarray,
  mesh: Mesh,
  *,
  seed: int,
  num_levels: int,
  ema: bool,
) -> TrainState:
  def compute(data: DeviceData, positions: Array) -> TrainState:
    x, y, _ = gather(data, positions, num_levels)
    return initial_state(classifier, tx, init_key(seed), x, y, ema=ema)

  whole = sharding.replicated(mesh)
  return jax.jit(compute, out_shardings=whole)(data, sharding.put(positions, whole))


def train(
  classifier: Classifier,
  train_data: Dataset,
  validation_data: Dataset,
  *,
  workdir: str | Path,
  seed: int,
  predictor: Classifier | None = None,
  config: dict[str, Any] | None = None,
  batch_size: int,
  num_epochs: int,
  max_steps: int | None = None,
  learning_rate: float,
  optimizer: str = "adam",
  momentum: float = 0.0,
  schedule: str = "constant",
  warmup_steps: int = 0,
  weight_decay: float = 0.0,
  grad_clip: float | None = None,
  ema_decay: float | None = None,
  micro_batch_size: int | None = None,
  early_stop_patience: int | None = None,
  log_every: int = 100,
  validate_every: int | None = None,
  stuck_after: int | None = None,
  num_validation_images: int = 1000,
  keep: int = 2,
) -> Outcome:
  """Trains a classifier in a work directory, or continues where it was stopped.

  Randomness and the order of the batches follow from the seed and the step alone, so that a run
  that was killed anywhere ends with the same parameters, bit for bit, on the same kind of device.

  Args:
    classifier: what is trained.
    train_data: its training split.
    validation_data: the split that decides which checkpoint is the best.
    workdir: where checkpoints/, metrics.jsonl and tensorboard/ are.
    seed: of everything random.
    predictor: the classifier whose accuracy is validated (another number of samples); None: the
      same.
    config: plain dict, saved with each checkpoint.
    batch_size: examples per step over all devices; a multiple of their number.
    num_epochs: passes over the training split; each drops what does not fill a batch.
    max_steps: a limit on the number of steps, or None.
    learning_rate: see `optimizers.build`, as `optimizer`, `momentum`, `schedule`, `warmup_steps`,
      `weight_decay` (decoupled) and `grad_clip`.
    schedule: "constant" or "cosine".
    warmup_steps: steps of linear rise.
    weight_decay: >= 0.
    grad_clip: largest gradient norm, or None.
    ema_decay: of a moving average of the parameters, which is then what is evaluated; or None.
    micro_batch_size: most examples whose gradient is computed at once, over all devices: less
      memory, and on CPU faster where convolutions rule; None: the whole batch. The largest number
      that divides the batch evenly is used.
    early_stop_patience: stop after so many validations without a better accuracy; None: never.
    log_every: steps between two rows.
    validate_every: steps between two validations, each followed by a checkpoint; None: an epoch.
    stuck_after: from this step on a validation with a reconstruction error not below the mean
      image's stops the run; None: never.
    num_validation_images: how many validation images to use, from the first.
    keep: how many of the latest checkpoints to keep besides the best.

  Returns:
    `Outcome`.

  Raises:
    ValueError: if a setting is out of its range.
    FloatingPointError: if a loss term, a gradient or a logit is not finite; names it and the step.
    rungs.StuckError: see `stuck_after`.
  """
  given = {name: value for name, value in locals().items() if name in train_settings.SETTINGS}
  train_settings.check(given, len(train_data.labels))
  mesh = sharding.data_mesh()
  if micro_batch_size is not None:
    micro_batch_size = sharding.part_size(batch_size, micro_batch_size, mesh)
  num_examples = len(train_data.labels)
  steps_per_epoch, total_steps = num_steps(
    num_examples, batch_size=batch_size, num_epochs=num_epochs, max_steps=max_steps
  )
  tx = optimizers.build(
    learning_rate=learning_rate,
    optimizer=optimizer,
    momentum=momentum,
    schedule=schedule,
    warmup_steps=warmup_steps,
    total_steps=total_steps,
    weight_decay=weight_decay,
    grad_clip=grad_clip,
  )
  num_levels, ema = train_data.num_levels, ema_decay is not None
  data = device_data(train_data, mesh)
  shapes = abstract_state(classifier, tx, train_data.images.shape[1:], mesh, ema=ema)
  names = metric_names(classifier, shapes.params, train_data.images.shape[1:])
  ladder = _ladder(train_data, names, classifier)

  manager = checkpoint.open_manager(Path(workdir) / "checkpoints", keep=keep)
  if manager.all_steps():
    restored = checkpoint.restore(manager, shapes, delete_broken=True)
    start, state, progress = restored.step, restored.state, Progress(**restored.progress)
    _LOG.info("continuing at step %d of %d", start, total_steps)
    changed = differences(restored.config, json.loads(json.dumps(config or {})))
    if changed:
      _LOG.warning("the checkpoint was made with another config: %s", "; ".join(changed))
  else:
    first = next(batches(seed, num_examples, batch_size))
    state = _initial_state(
      classifier, tx, data, first, mesh, seed=seed, num_levels=num_levels, ema=ema
    )
    start, progress = 0, Progress()

  step_fn = make_step(
    names,
    num_levels=num_levels,
    classifier=classifier,
    optimizer=tx,
    seed=seed,
    steps_per_epoch=steps_per_epoch,
    ema_decay=ema_decay,
    micro_batch_size=micro_batch_size,
  )
  loop = Loop(
    step=jax.jit(step_fn, donate_argnums=0, out_shardings=sharding.replicated(mesh)),
    batches=batches(seed, num_examples, batch_size, start_step=start),
    data=data,
    mesh=mesh,
    validate=make_validator(
      classifier,
      predictor or classifier,
      names,
      device_data(validation_data, mesh, num_validation_images),
      mesh,
      batch_size=batch_size,
      seed=seed,
      num_levels=num_levels,
    ),
    save=functools.partial(checkpoint.save, manager, config=config or {}),
    writer=Writer(workdir, step=start, total_steps=total_steps),
    meter=Meter(log_names("train", names), batch_size, start),
    zeros=sharding.put(
      Sums(jnp.zeros(len(names)), jnp.zeros(len(names), jnp.int32)),
      sharding.replicated(mesh),
    ),
    total_steps=total_steps,
    log_every=log_every,
    validate_every=validate_every or steps_per_epoch,
    patience=early_stop_patience,
    stuck_after=stuck_after,
    ladder=ladder,
  )
  try:
    return run(loop, state, start, progress)
  finally:
    loop.writer.close()
    manager.close()


def _ladder(data: Dataset, names: tuple[str, ...], classifier: Classifier) -> rungs.Ladder | None:
  """The rungs of the training split, told in the log; None for models without such an error."""
  errors = [name for name in rungs.ERRORS if name in names]
  if not errors:
    return None
  ladder = rungs.ladder(
    data.images,
    data.labels,
    num_levels=data.num_levels,
    num_classes=data.num_classes,
    error=errors[0],
    threshold=classifier.pixel_threshold,
  )
  _LOG.info("%s", rungs.describe(ladder))
  return ladder
