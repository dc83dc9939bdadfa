"""Every model of the registry, small enough for tests, at parameters as after training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import models
from gencls.keys import example_keys
from gencls.models.factorisations import FACTORISATIONS

SHAPE, CLASSES, BATCH = (8, 8, 1), 3, 6
SMALL = {
  "latent_size": 3,
  "hidden_size": 16,
  "channels": (4, 4),
  "num_samples": 5,
  "max_rows": 10**6,
}
HYPERPARAMETERS = {
  **dict.fromkeys(FACTORISATIONS, SMALL),
  "cvae": {"latent_size": 3, "hidden_sizes": (16,), "num_samples": 5},
  "cnn": {"hidden_size": 16, "channels": (4, 4)},
  "vae_classifier": {"latent_size": 3, "channels": (4, 4)},
  "pretrained_vae_classifier": {"latent_size": 3, "channels": (4, 4), "decoder_size": 16},
  "cnn_binary": {"hidden_size": 16, "channels": (4, 4)},
  "cnn_denoised": {"hidden_size": 16, "channels": (4, 4)},
  "gfz_binary": SMALL,
  "gfz_crf": SMALL,
  "ising": {"num_sweeps": 3},
  "gaussian_naive_bayes": {},
  "bernoulli_naive_bayes": {},
  "gaussian_mixture": {"num_components": 2, "covariance": "diagonal"},
  "logistic_regression": {},
  "logistic_regression_binary": {},
  "mlp": {"hidden_sizes": (16,)},
}


def slow(*values):
  """A parameter that waits for `make test-all`."""
  return pytest.param(*values, marks=pytest.mark.slow)


ALL = sorted(models.REGISTRY)
# One of each kind on every run, their siblings with the slow tests: decoder, no decoder, neither.
CLASSICAL = (
  *("gaussian_naive_bayes", "bernoulli_naive_bayes", "gaussian_mixture"),
  *("logistic_regression", "mlp"),
)
EVERY_RUN = ("gfz", "dfx", "cvae", "cnn", "ising", *CLASSICAL)
FEW = [name if name in EVERY_RUN else slow(name) for name in ALL]


def build(name, **changes):
  hyperparameters = HYPERPARAMETERS[name] | changes
  return models.build(name, image_shape=SHAPE, num_classes=CLASSES, **hyperparameters)


@functools.cache
def problem(name, **changes):
  classifier = build(name, **changes)
  x = jax.random.uniform(jax.random.key(0), (BATCH, *SHAPE))
  y = jnp.arange(BATCH) % CLASSES
  leaves, tree = jax.tree.flatten(jax.jit(classifier.init)(jax.random.key(1), x, y))
  # Biases away from zero, as after training: no unit sits exactly on the kink of its ReLU.
  noise = [0.03 * np.random.default_rng(i).normal(size=leaf.shape) for i, leaf in enumerate(leaves)]
  params = jax.tree.unflatten(
    tree, [a + jnp.float32(b) for a, b in zip(leaves, noise, strict=True)]
  )
  if classifier.prepare:
    params = classifier.prepare(params, jax.random.key(2))
  return classifier, params, example_keys(0, jnp.arange(BATCH)), x, y
