"""Networks of dense layers, none of them in logistic regression, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from fit_problems import images

from gencls import models
from gencls.keys import example_keys

SHAPE, CLASSES = (4, 4, 1), 3


def build(name, **hyperparameters):
  return models.build(name, image_shape=SHAPE, num_classes=CLASSES, **hyperparameters)


@pytest.mark.parametrize("name", ["logistic_regression", "mlp"])
def test_the_loss_is_the_cross_entropy_of_numpy(name):
  data = images(SHAPE, CLASSES, 12)
  classifier = build(name, **({"hidden_sizes": (5, 4)} if name == "mlp" else {}))
  params = classifier.init(jax.random.key(0), data.x, data.y)
  noise = np.random.default_rng(0)
  params = jax.tree.map(lambda a: a + jnp.float32(noise.normal(size=a.shape)), params)
  h = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
  if name == "mlp":
    for layer in range(3):
      dense = params[f"ConcatDense_{layer}"]
      h = h @ np.float64(dense["kernel"]) + np.float64(dense["bias"])
      h = np.maximum(h, 0) if layer < 2 else h
  else:
    h = h @ np.float64(params["weights"]) + np.float64(params["bias"])
  keys = example_keys(0, jnp.arange(len(data.x)))
  loss = classifier.loss(params, keys, data.x, data.y, jnp.int32(0))
  expected = -scipy.special.log_softmax(h, axis=1)[np.arange(len(h)), data.y]
  np.testing.assert_allclose(classifier.logits(params, keys, data.x), h, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(loss.total, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_has_units():
  with pytest.raises(ValueError, match="hidden_sizes must be >= 1"):
    build("mlp", hidden_sizes=(0,))
