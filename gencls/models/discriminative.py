"""The classifier of a network for p(y | x): cross-entropy of its scores."""

from collections.abc import Callable

import jax

from gencls import densities
from gencls.keys import fold
from gencls.types import Array, Classifier, Key, Keys, Loss, Params


def discriminative(
  init: Callable[[Key, Array], Params],
  scores: Callable[[Params, Array, Keys | None], Array],
  num_classes: int,
) -> Classifier:
  """A classifier trained by cross-entropy.

  Args:
    init: (key, x) -> params.
    scores: (params, x, keys) -> [B, C], log p(y | x) up to a constant per image; keys only in
      training, for dropout.
    num_classes: C.

  Returns:
    A `Classifier` of "posterior" scores whose loss is −log p(y | x).
  """

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del step
    logits = scores(params, x, fold(keys, "dropout"))
    log_p_y = densities.categorical(jax.nn.one_hot(y, num_classes), logits)
    return Loss(-log_p_y, {"log_p_y": log_p_y})

  return Classifier(
    init=lambda key, x, y: init(key, x),
    loss=loss,
    logits=lambda params, keys, x: scores(params, x, None),
    score="posterior",
  )
