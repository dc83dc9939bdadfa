"""What a classifier's functions refuse: images and labels of another kind or shape.

Values cannot be seen while a function is traced; `data.to_float` and `attacks.run` look at them. A
fit is not traced, and looks at them itself.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gencls import few_classes, images
from gencls.models import fitting
from gencls.types import Array, Classifier, FitData, Fitted, Key, Keys, Loss, Params


def checked(classifier: Classifier, image_shape: tuple[int, ...], num_classes: int) -> Classifier:
  """The classifier whose init, loss, logits and fit look at what they are given.

  Args:
    classifier: what a model's factory returns.
    image_shape: (H, W, D) of its images.
    num_classes: C.
  """

  def looked_at(keys: Keys, x: Array) -> Array:
    _images(x, image_shape)
    _keys(keys, x)
    return x

  return classifier._replace(
    init=functools.partial(_init, classifier.init, image_shape),
    loss=functools.partial(_loss, classifier.loss, image_shape),
    logits=few_classes.after(classifier.logits, looked_at),
    fit=classifier.fit and functools.partial(_fit, classifier.fit, image_shape, num_classes),
  )


def _init(init: Callable[..., Params], shape: Any, key: Key, x: Array, y: Array) -> Params:
  _images(x, shape)
  _labels(y, x)
  return init(key, x, y)


def _loss(
  loss: Callable[..., Loss], shape: Any, params: Params, keys: Keys, x: Array, y: Array, step: Array
) -> Loss:
  _images(x, shape)
  _labels(y, x)
  _keys(keys, x)
  return loss(params, keys, x, y, step)


def _fit(
  fit: Callable[..., Fitted], shape: Any, num_classes: int, key: Key, data: FitData
) -> Fitted:
  for split, x, y in (
    ("x", data.x, data.y),
    ("validation_x", data.validation_x, data.validation_y),
  ):
    if len(x):
      images.checked(split, x)
    _images(x, shape, split)
    _labels(y, x, split.replace("x", "y"))
    fitting.check_labels(y, num_classes, split.replace("x", "y"))
  return fit(key, data)


def _images(x: Any, shape: tuple[int, ...], name: str = "x") -> None:
  if jnp.shape(x)[1:] != tuple(shape) or not jnp.issubdtype(jnp.result_type(x), jnp.floating):
    raise ValueError(
      f"{name} must be [B, {', '.join(map(str, shape))}] floats in [0, 1], got shape "
      f"{jnp.shape(x)} and dtype {jnp.result_type(x)}; gencls.data.to_float turns grey levels "
      "into floats"
    )


def _labels(y: Any, x: Any, name: str = "y") -> None:
  if jnp.shape(y) != jnp.shape(x)[:1] or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
    raise ValueError(
      f"{name} must be [{len(x)}] integers, one label for each image, got shape {jnp.shape(y)} and "
      f"dtype {jnp.result_type(y)}"
    )


def _keys(keys: Any, x: Any) -> None:
  """None will do where a model has no randomness."""
  if keys is None:
    return
  typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
  if not typed or keys.shape != jnp.shape(x)[:1]:
    raise ValueError(
      f"keys must be [{len(x)}] typed keys, one for each image (gencls.example_keys), got "
      f"{getattr(keys, 'dtype', type(keys).__name__)} of shape {jnp.shape(keys)}"
    )
