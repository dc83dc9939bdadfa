"""Small data sets for models that are fitted, and what every fit must hold to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gencls.data import load, to_float
from gencls.types import FitData


def as_data(x, y, validation_x, validation_y, shape):
  image = lambda x: jnp.asarray(np.reshape(x, (-1, *shape)), jnp.float32)  # noqa: E731
  label = lambda y: jnp.asarray(y, jnp.int32)  # noqa: E731
  return FitData(image(x), label(y), image(validation_x), label(validation_y))


def images(shape, num_classes, number, seed=0):
  """Noisy images of random class templates, half as many for validation."""
  rng = np.random.default_rng(seed)
  templates = rng.uniform(0, 1, (num_classes, *shape))
  y = np.arange(number + number // 2) % num_classes
  x = np.clip(templates[y] + 0.3 * rng.normal(size=(len(y), *shape)), 0, 1)
  return as_data(x[:number], y[:number], x[number:], y[number:], shape)


def same_structure(classifier, fitted, data):
  """Whether a checkpoint of a fit can be restored into the shapes of `init`."""
  wanted = jax.eval_shape(classifier.init, jax.random.key(0), data.x[:7], data.y[:7])
  got = jax.eval_shape(lambda: fitted.params)
  same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), wanted, got)
  return jax.tree.all(same) and all(isinstance(v, float) for v in fitted.metrics.values())


@functools.cache
def digits():
  """(x, y) of the training, validation and test split."""
  splits = [load("digits", split=name) for name in ("train", "validation", "test")]
  return [(to_float(d.images, d.num_levels), d.labels.astype(np.int32)) for d in splits]
