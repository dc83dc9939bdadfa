"""The plain CNN that every library attacks: two 5x5 convolutions with pooling, two dense layers.

conv 5x5x20 (valid), ReLU, max-pool 2, conv 5x5x70 (valid), ReLU, max-pool 2, dense 256, ReLU,
dense 10. `logits` has our operations, `plain_logits` those that a user of JAX would write.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.tree_util import Partial

from gencls import data
from gencls.keys import example_keys
from gencls.nets.conv import conv2d
from gencls.nets.pool import max_pool
from gencls.types import Array, Keys, LogitsFn

SHAPES = {
  "conv1": (5, 5, 1, 20),
  "conv2": (5, 5, 20, 70),
  "dense1": (1120, 256),
  "dense2": (256, 10),
}
LEARNING_RATE, BATCH = 1e-3, 128

Weights = dict[str, Array]


class Victim(NamedTuple):
  """What all libraries attack."""

  weights: Weights
  x: np.ndarray  # [N, 28, 28, 1] float32, all predicted rightly
  labels: np.ndarray  # [N] int32
  keys: Keys  # [N]
  dataset: str
  accuracy: float  # on the test images

  @property
  def logits_fn(self) -> LogitsFn:
    """Our form of the network."""
    return Partial(logits, self.weights)


def logits(weights: Weights, keys: Keys, x: Array) -> Array:
  """[B, 28, 28, 1] -> [B, 10]; bias and ReLU behind the pooling, which changes nothing."""
  del keys
  for name in ("conv1", "conv2"):
    x = max_pool(conv2d(x, weights[name], stride=1, padding="VALID"))
    x = jax.nn.relu(x + weights[f"{name}_bias"].reshape(1, 1, 1, -1))
  return _dense(weights, x)


def plain_logits(weights: Weights, x: Array) -> Array:
  """The same function in plain JAX: XLA's convolutions and `reduce_window`."""
  for name in ("conv1", "conv2"):
    dimensions = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, weights[name], (1, 1), "VALID", dimension_numbers=dimensions)
    x = jax.nn.relu(x + weights[f"{name}_bias"].reshape(1, 1, 1, -1))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
  return _dense(weights, x)


def _dense(weights: Weights, x: Array) -> Array:
  h = x.reshape(len(x), -1) @ weights["dense1"] + weights["dense1_bias"].reshape(1, -1)
  return jax.nn.relu(h) @ weights["dense2"] + weights["dense2_bias"].reshape(1, -1)


def initial(rng: np.random.Generator) -> Weights:
  """He-initialised weights, zero biases."""
  weights = {}
  for name, shape in SHAPES.items():
    scale = np.sqrt(2 / np.prod(shape[:-1]))
    weights[name] = jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)
    weights[f"{name}_bias"] = jnp.zeros(shape[-1])
  return weights


def digits_as_mnist(images: np.ndarray) -> np.ndarray:
  """[N, 8, 8, 1] -> [N, 28, 28, 1]: every pixel three times, and a border of 2."""
  large = images.repeat(3, axis=1).repeat(3, axis=2)
  return np.pad(large, ((0, 0), (2, 2), (2, 2), (0, 0)))


def load(dataset: str, split: str) -> tuple[np.ndarray, np.ndarray]:
  """(images [N, 28, 28, 1] float32 in [0, 1], labels [N])."""
  chosen = data.load(dataset, split=split)
  images = np.asarray(data.to_float(chosen.images, chosen.num_levels))
  return (digits_as_mnist(images) if dataset == "digits" else images), chosen.labels


def train(x: np.ndarray, y: np.ndarray, *, num_steps: int, seed: int) -> Weights:
  """Adam on the cross-entropy."""
  adam = optax.adam(LEARNING_RATE)

  @jax.jit
  def step(weights, state, x, y):
    def loss(weights):
      scores = logits(weights, None, x)  # pyright: ignore[reportArgumentType]
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))

    updates, state = adam.update(jax.grad(loss)(weights), state)
    return optax.apply_updates(weights, updates), state

  rng = np.random.default_rng(seed)
  weights = initial(rng)
  state = adam.init(weights)
  for _ in range(num_steps):
    rows = rng.integers(len(x), size=BATCH)
    weights, state = step(weights, state, x[rows], y[rows])
  return jax.block_until_ready(weights)


def predict(weights: Weights, x: np.ndarray) -> np.ndarray:
  """[N] classes."""
  rows = np.arange(-(-len(x) // BATCH) * BATCH).reshape(-1, BATCH) % len(x)
  found = [np.argmax(_plain(weights, jnp.asarray(x[r])), axis=1) for r in rows]
  return np.concatenate(found)[: len(x)]


_plain = jax.jit(plain_logits)


def build(dataset: str, *, num_images: int, train_steps: int, seed: int) -> Victim:
  """Trains the network; the images are the first test images that it classifies rightly."""
  weights = train(*load(dataset, "train"), num_steps=train_steps, seed=seed)
  x, labels = load(dataset, "test")
  right = predict(weights, x) == labels
  chosen = np.flatnonzero(right)[:num_images]
  return Victim(
    weights=weights,
    x=np.ascontiguousarray(x[chosen], np.float32),
    labels=labels[chosen].astype(np.int32),
    keys=example_keys(seed, chosen.astype(np.int32)),
    dataset=dataset,
    accuracy=float(np.mean(right)),
  )
