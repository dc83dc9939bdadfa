"""What a classifier's logits say: predictions, posteriors, marginals. Written once, here.

Class probabilities are softmax_c of the logits; the log-marginal is their logsumexp.
"""

import jax
import jax.numpy as jnp

from gencls.types import NORMALISED_SCORES, Array


def predict(logits: Array) -> Array:
  """The most probable class, [B, C] -> [B] int32."""
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def log_posterior(logits: Array) -> Array:
  """log p(y = c | x), [B, C] -> [B, C] nats."""
  return jax.nn.log_softmax(logits, axis=-1)


def log_marginal(logits: Array, score: str) -> Array:
  """log p(x) = logsumexp_c log p(x, y = c), [B, C] -> [B] nats.

  Args:
    logits: [B, C] from `Classifier.logits`.
    score: `Classifier.score`, what the logits are.

  Returns:
    [B] float32, nats.

  Raises:
    ValueError: if the logits are not log p(x, y) with every constant.
  """
  if score not in NORMALISED_SCORES:
    raise ValueError(
      f"a log-marginal needs logits that are log p(x, y), score one of {NORMALISED_SCORES}, "
      f"got score {score!r}: report accuracy and posteriors for this model instead"
    )
  return jax.nn.logsumexp(logits, axis=-1)


def correct(logits: Array, y: Array) -> Array:
  """Whether the prediction is right, [B] bool; a row with a non-finite logit is never right."""
  return (predict(logits) == y) & jnp.all(jnp.isfinite(logits), axis=-1)
