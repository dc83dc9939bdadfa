"""Validation during training: loss terms and accuracy over a fixed set of images."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gencls import classify, sharding
from gencls.keys import example_keys, fold, purpose_key
from gencls.training.step import DeviceData, TrainState, gather, log_names
from gencls.types import Array, Classifier, Params


def make_validation(
  classifier: Classifier,
  names: Sequence[str],
  predictor: Classifier,
  *,
  seed: int,
  num_levels: int,
) -> Callable[[Params, Params, Array, DeviceData, Array, Array], Array]:
  """Sums over one validation batch; not jitted.

  Args:
    classifier: whose loss is reported.
    names: from `metric_names`.
    predictor: whose accuracy is reported, the same model with its own number of samples.
    seed: of the run; the noise of an image is the same at every validation.
    num_levels: grey levels of the images.

  Returns:
    (params, prepared params, step, data, positions [B], weights [B] 0 or 1) -> [M + 1] sums over
    the images of weight 1: the terms and the loss in the order of `names` less "grad_norm", the
    number of right answers, and last the number of images with a non-finite logit.
  """
  kept = [name for name in names if name not in ("grad_norm", "loss")]

  def sums(
    params: Params, prepared: Params, step: Array, data: DeviceData, positions: Array, w: Array
  ) -> Array:
    x, y, indices = gather(data, positions, num_levels)
    keys = example_keys(seed, indices, "validate")
    loss = classifier.loss(params, fold(keys, "loss"), x, y, step)
    logits = predictor.logits(prepared, fold(keys, "logits"), x)
    bad = ~jnp.all(jnp.isfinite(logits), axis=-1)
    columns = [loss.terms[name] for name in kept] + [loss.total]
    columns += [classify.correct(logits, y), bad]
    # where, not a product: a padded image's NaN times zero would still be NaN.
    return jnp.stack([jnp.sum(jnp.where(w > 0, column, 0.0)) for column in columns])

  return sums


def make_validator(
  classifier: Classifier,
  predictor: Classifier,
  names: tuple[str, ...],
  data: DeviceData,
  mesh: Mesh,
  *,
  batch_size: int,
  seed: int,
  num_levels: int,
) -> Callable[[TrainState], dict[str, float]]:
  """Validation of a training state, jitted.

  Args:
    classifier: whose loss is reported.
    predictor: whose accuracy is reported, the same model with its own number of samples.
    names: from `metric_names`.
    data: the validation images, on the device.
    mesh: from `data_mesh`.
    batch_size: images at once, rounded up to a multiple of the devices.
    seed: of the run.
    num_levels: grey levels of the images.

  Returns:
    state -> {"eval/loss_nats", the terms, "eval/accuracy"}, means over the images, and a NaN in
    "eval/logits" where a logit was not finite.
  """
  num = len(data.labels)
  size = -(-min(batch_size, num) // mesh.size) * mesh.size
  positions = np.arange(-(-num // size) * size, dtype=np.int32).reshape(-1, size)
  weights = (positions < num).astype(np.float32)
  positions = np.minimum(positions, num - 1)
  pieces = sharding.put(
    [(positions[i], weights[i]) for i in range(len(positions))], sharding.split(mesh)
  )
  whole = sharding.replicated(mesh)
  batch_sums = jax.jit(
    make_validation(classifier, names, predictor, seed=seed, num_levels=num_levels),
    out_shardings=whole,
  )
  kept = [name for name in names if name != "grad_norm"]

  @functools.partial(jax.jit, out_shardings=whole)
  def prepare(params: Params) -> Params:
    return predictor.prepare(params, purpose_key(seed, "prepare")) if predictor.prepare else params

  def validate(state: TrainState) -> dict[str, float]:
    params = state.evaluated()
    prepared = params if predictor.prepare is None else prepare(params)
    sums = [batch_sums(params, prepared, state.step, data, at, w) for at, w in pieces]
    table = np.asarray(jax.device_get(sums), np.float64)
    *terms, right, bad = (table.sum(axis=0) / num).tolist()
    row = dict(zip(log_names("eval", kept), terms, strict=True))
    row["eval/accuracy"] = right
    if bad:
      row["eval/logits"] = float("nan")  # reported by check_finite_row, never logged
    return row

  return validate
