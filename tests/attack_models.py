"""Small models that the attack tests share, and their keys."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls.keys import example_keys


def keys(num, seed=0):
  return example_keys(seed, np.arange(num))


def linear_logits(weights, bias, keys, x):
  del keys
  return x.reshape(len(x), -1) @ weights + bias[None, :]


def linear(seed=0, size=6, num_classes=3):
  """A linear classifier of `size` pixels, undecided at the grey image."""
  rng = np.random.default_rng(seed)
  weights = jnp.asarray(rng.normal(size=(size, num_classes)), jnp.float32)
  return Partial(linear_logits, weights, -0.5 * jnp.sum(weights, axis=0))


def noisy_logits(scale, weights, keys, x):
  """A linear model whose weights are disturbed by a draw per example."""
  noise = jax.vmap(lambda key: jax.random.normal(key, weights.shape))(keys)
  disturbed = weights[None] + scale * noise
  return jnp.einsum("bp,bpc->bc", x.reshape(len(x), -1), disturbed)


def curved_logits(weights, readout, keys, x):
  """A small smooth network, so that iterating pays."""
  del keys
  return jnp.tanh((x.reshape(len(x), -1) - 0.5) @ weights) @ readout


def curved(seed=0, size=6, num_classes=3, width=16):
  rng = np.random.default_rng(seed)
  weights = jnp.asarray(4 * rng.normal(size=(size, width)), jnp.float32)
  return Partial(curved_logits, weights, jnp.asarray(rng.normal(size=(width, num_classes)), "f4"))


def images(num, seed=1, shape=(2, 3, 1), low=0.3, high=0.7):
  """Images that no ball of eps <= 0.3 takes out of the box."""
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(low, high, size=(num, *shape)), jnp.float32)


def predictions(logits_fn, x):
  return np.argmax(np.asarray(logits_fn(keys(len(x)), x)), axis=1)
