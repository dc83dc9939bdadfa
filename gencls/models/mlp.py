"""A fully connected network for p(y | x)."""

from collections.abc import Sequence

from gencls.models import checks
from gencls.models.discriminative import discriminative
from gencls.nets.apply import apply
from gencls.nets.mlp import MLP
from gencls.types import Array, Classifier, Key, Keys, Params


def mlp(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  hidden_sizes: Sequence[int] = (512, 512),
  dropout_rate: float = 0.0,
) -> Classifier:
  """A fully connected network with ReLU units, trained by cross-entropy.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: checked and not used, the posterior learns it; every model is built alike.
    hidden_sizes: units of the hidden layers.
    dropout_rate: of the hidden layers, in training only.

  Returns:
    A `Classifier` whose logits are "posterior" scores.
  """
  del image_shape
  checks.class_prior(class_prior, num_classes)
  checks.dropout_rate(dropout_rate)
  checks.sizes(hidden_sizes=hidden_sizes)
  network = MLP(tuple(hidden_sizes), num_classes, dropout_rate)

  def init(key: Key, x: Array) -> Params:
    return network.init(key, [x.reshape(len(x), -1)])["params"]

  def scores(params: Params, x: Array, keys: Keys | None) -> Array:
    return apply(network, params, [x.reshape(len(x), -1)], keys)

  return discriminative(init, scores, num_classes)
