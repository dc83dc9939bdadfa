"""The classifier of a density of images given the class: logits_c = log p(y = c) + log p(x | c)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gencls.types import Array, Classifier, Key, Keys, Loss, Params


def joint(
  init: Callable[[Key, Array, Array], Params],
  log_likelihood: Callable[[Params, Array], Array],
  sample: Callable[[Params, Keys, Array], Array],
  prior: tuple[float, ...],
) -> Classifier:
  """A classifier without randomness by Bayes' rule.

  Args:
    init: (key, x, y) -> params.
    log_likelihood: (params, x) -> [B, C], log p(x | y = c) in nats with every constant.
    sample: (params, keys, y) -> x.
    prior: p(y).

  Returns:
    A `Classifier` of "exact" scores whose loss is −log p(x, y).
  """

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    del keys
    return log_likelihood(params, x) + log_prior()[None]

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del keys, step
    one_hot = jax.nn.one_hot(y, len(prior), dtype=bool)
    log_p_x = jnp.sum(jnp.where(one_hot, log_likelihood(params, x), 0.0), axis=1)
    log_p_y = log_prior()[y]
    return Loss(-log_p_x - log_p_y, {"log_p_x": log_p_x, "log_p_y": log_p_y})

  def log_prior() -> Array:
    return jnp.log(jnp.asarray(prior, jnp.float32))

  return Classifier(init=init, loss=loss, logits=logits, score="exact", sample=sample)
