"""A small classifier with all that training must serve, and data for it."""

import jax
import jax.numpy as jnp
import numpy as np

from gencls.data import Dataset
from gencls.keys import fold
from gencls.types import Classifier, Loss

SHAPE = (4, 4, 1)
CLASSES = 3


def dataset(n=60, split="train", seed=0):
  """Images whose class is the brightest of three rows."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, CLASSES, n).astype(np.int32)
  images = rng.integers(0, 100, (n, *SHAPE)).astype(np.uint8)
  images[np.arange(n), labels] += 150
  return Dataset("toy", split, "made", images, labels, np.arange(n, dtype=np.int32), CLASSES, 256)


def classifier(*, bad_term_from=None, bad_logits_from=None, error=None):
  """Linear soft-max regression on noisy images, with a running mean that no gradient trains.

  Args:
    bad_term_from: step from which the term "log_p_y" is NaN.
    bad_logits_from: number of seen batches from which logits are NaN.
    error: name and value of a constant term.
  """

  def init(key, x, y):
    weights = 0.1 * jax.random.normal(key, (x[0].size, CLASSES))
    return {"linear": {"w": weights, "b": jnp.zeros(CLASSES)}, "seen": jnp.float32(0)}

  def logits(params, keys, x):
    noise = jax.vmap(lambda key: 0.1 * jax.random.normal(key, (x[0].size,)))(fold(keys, "noise"))
    out = (x.reshape(len(x), -1) + noise) @ params["linear"]["w"] + params["linear"]["b"][None]
    if bad_logits_from is not None:
      out = jnp.where(params["seen"] >= bad_logits_from, jnp.nan, out)
    return out

  def loss(params, keys, x, y, step):
    log_p = jax.nn.log_softmax(logits(params | {"seen": jnp.float32(-1)}, keys, x))
    log_p_y = jnp.take_along_axis(log_p, y[:, None], axis=-1)[:, 0]
    if bad_term_from is not None:
      log_p_y = jnp.where(step + 1 >= bad_term_from, jnp.nan, log_p_y)
    terms = {"log_p_y": log_p_y, "a_term": jnp.ones(len(x))}
    if error is not None:
      terms[error[0]] = jnp.full(len(x), error[1])
    return Loss(-log_p_y, terms, {"seen": params["seen"] + 1})

  return Classifier(init, loss, logits, "posterior")


SETTINGS = {
  "seed": 3,
  "batch_size": 12,
  "num_epochs": 4,
  "learning_rate": 0.05,
  "log_every": 2,
  "validate_every": 5,
  "num_validation_images": 25,
}
