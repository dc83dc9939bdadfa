"""A classifier behind a map of its images: what binarisation and denoising have in common."""

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp

from gencls import few_classes
from gencls.types import (
  NORMALISED_SCORES,
  Array,
  Classifier,
  FitData,
  Fitted,
  Gradient,
  Key,
  Keys,
  Loss,
  Params,
)

FIT_PIECE = 1000  # images at once where a whole split is mapped

# (keys [B], x [B, H, W, D]) -> x. The keys are the model's own: a transform that draws folds them.
Transform = Callable[[Keys, Array], Array]


def preprocess(
  classifier: Classifier, transform: Transform, gradient: Gradient = "exact"
) -> Classifier:
  """The classifier of transformed images.

  What takes images (init, loss, logits, log_weights, reconstruct, fit) gets them transformed; what
  makes them (sample, decoder) makes them as before.

  Args:
    classifier: the inner model.
    transform: an image's result must depend on its own key only.
    gradient: how gradients pass the transform.

  Returns:
    A `Classifier` with the parameters of the inner one. Its score is at most "unnormalised": the
    density of a transformed image is none of the image. Whether it sees grey levels is for the
    caller to say.
  """

  def init(key: Key, x: Array, y: Array) -> Params:
    own, rest = jax.random.split(key)
    return classifier.init(own, transform(jax.random.split(rest, len(x)), x), y)

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    return classifier.loss(params, keys, transform(keys, x), y, step)

  def log_weights(params: Params, keys: Keys, x: Array) -> Array:
    assert classifier.log_weights
    return classifier.log_weights(params, keys, transform(keys, x))

  def reconstruct(params: Params, keys: Keys, x: Array, y: Array) -> Array:
    assert classifier.reconstruct
    return classifier.reconstruct(params, keys, transform(keys, x), y)

  def fit(key: Key, data: FitData) -> Fitted:
    assert classifier.fit
    train, validation, own = jax.random.split(key, 3)
    x, validation_x = (
      _whole(transform, k, x) for k, x in ((train, data.x), (validation, data.validation_x))
    )
    return classifier.fit(own, data._replace(x=x, validation_x=validation_x))

  return classifier._replace(
    init=init,
    loss=loss,
    logits=few_classes.after(classifier.logits, transform),
    log_weights=log_weights if classifier.log_weights else None,
    reconstruct=reconstruct if classifier.reconstruct else None,
    fit=fit if classifier.fit else None,
    score="unnormalised" if classifier.score in NORMALISED_SCORES else classifier.score,
    binary=False,
    pixel_threshold=None,
    gradient=max(gradient, classifier.gradient, key=get_args(Gradient).index),
  )


def _whole(transform: Transform, key: Key, x: Array) -> Array:
  """A split, transformed piece by piece; an empty one as it is."""
  if not len(x):
    return x
  keys = jax.random.split(key, len(x))
  apply = jax.jit(transform)
  pieces = [
    apply(keys[i : i + FIT_PIECE], x[i : i + FIT_PIECE]) for i in range(0, len(x), FIT_PIECE)
  ]
  return jnp.concatenate(pieces)
