"""The discriminative counterpart: the encoder of the deep latent models with a soft-max head."""

from collections.abc import Sequence

import flax.linen as nn

from gencls.models import checks
from gencls.models.discriminative import discriminative
from gencls.nets.apply import apply
from gencls.nets.images import ConvFeatures
from gencls.nets.mlp import MLP
from gencls.types import Array, Classifier, Key, Keys, Params


class _Network(nn.Module):
  channels: Sequence[int]
  hidden_size: int
  num_classes: int
  dropout_rate: float

  @nn.compact
  def __call__(self, x: Array, keys: Keys | None = None) -> Array:
    h = ConvFeatures(self.channels, self.hidden_size, self.dropout_rate)(x, keys)
    return MLP((self.hidden_size,), self.num_classes, self.dropout_rate)([h], keys)


def cnn(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  hidden_size: int = 500,
  channels: Sequence[int] = (64, 64, 64),
  dropout_rate: float = 0.0,
) -> Classifier:
  """A convolutional network for p(y | x), trained by cross-entropy.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: checked and not used, the posterior learns it; every model is built alike.
    hidden_size: units of the dense layers.
    channels: of the stride-2 convolutions.
    dropout_rate: of the dense layers, in training only.

  Returns:
    A `Classifier` whose logits are "posterior" scores.
  """
  del image_shape
  checks.class_prior(class_prior, num_classes)
  checks.dropout_rate(dropout_rate)
  checks.sizes(hidden_size=hidden_size, channels=channels)
  network = _Network(tuple(channels), hidden_size, num_classes, dropout_rate)

  def init(key: Key, x: Array) -> Params:
    return network.init(key, x)["params"]

  def scores(params: Params, x: Array, keys: Keys | None) -> Array:
    return apply(network, params, x, keys)

  return discriminative(init, scores, num_classes)
