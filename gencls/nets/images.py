"""Convolutional features of an image, and images from features (Li et al. 2019, appendix B)."""

import math
from collections.abc import Sequence

import flax.linen as nn

from gencls.keys import fold
from gencls.nets.conv import Conv, ConvTranspose
from gencls.nets.mlp import ConcatDense, dropout, he_init
from gencls.types import Array, Keys


def halved_sizes(size: tuple[int, int], times: int) -> list[tuple[int, int]]:
  """Spatial sizes through `times` strided layers, (28, 28) -> (28, 14, 7, 4)²."""
  sizes = [size]
  for _ in range(times):
    sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
  return sizes


class ConvFeatures(nn.Module):
  """5×5 convolutions of stride 2 with ReLU, then a dense ReLU layer."""

  channels: Sequence[int]
  features: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x: Array, keys: Keys | None = None) -> Array:
    """[B, H, W, D] -> [B, features]; `keys` [B] switch dropout on."""
    for width in self.channels:
      x = nn.relu(Conv(width, kernel_size=(5, 5), strides=2, kernel_init=he_init)(x))
    h = nn.relu(ConcatDense(self.features)([x.reshape(x.shape[0], -1)]))
    if keys is not None and self.dropout_rate > 0:
      h = dropout(fold(keys, "features"), h, self.dropout_rate)
    return h


class ConvDecoder(nn.Module):
  """Two dense ReLU layers, then 5×5 transposed convolutions of stride 2 without bias.

  The mirror image of `ConvFeatures`: `channels` are those of the encoder, read backwards.
  """

  image_shape: tuple[int, int, int]
  channels: Sequence[int]
  hidden_size: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, inputs: Sequence[Array], keys: Keys | None = None) -> Array:
    """[B, ..., F_i] each -> [B, ..., H * W * D], before the sigmoid."""
    height, width, depth = self.image_shape
    sizes = halved_sizes((height, width), len(self.channels))[::-1]
    channels = [*self.channels[::-1], depth]
    h = nn.relu(ConcatDense(self.hidden_size)(inputs))
    if keys is not None and self.dropout_rate > 0:
      h = dropout(fold(keys, "decoder"), h, self.dropout_rate)
    h = nn.relu(ConcatDense(sizes[0][0] * sizes[0][1] * channels[0])([h]))
    lead = h.shape[:-1]
    h = h.reshape(-1, *sizes[0], channels[0])
    for layer, size in enumerate(sizes[1:], start=1):
      h = ConvTranspose(channels[layer], output_shape=size, kernel_size=(5, 5), strides=2)(h)
      if layer < len(self.channels):
        h = nn.relu(h)
    return h.reshape(*lead, height * width * depth)

  def floats_per_row(self) -> int:
    """Activations of one row, in floats: what the memory rule counts."""
    sizes = halved_sizes(self.image_shape[:2], len(self.channels))[::-1]
    channels = [*self.channels[::-1], self.image_shape[2]]
    maps = sum(h * w * c for (h, w), c in zip(sizes, channels, strict=True))
    return self.hidden_size + maps
