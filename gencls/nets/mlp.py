"""Fully connected networks over several inputs, each evaluated only as often as it changes."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from gencls.keys import fold
from gencls.types import Array, Keys

he_init = nn.initializers.he_normal()


def dropout(keys: Keys, x: Array, rate: float) -> Array:
  """Inverted dropout with one mask per example: the batch never shares a mask.

  Args:
    keys: [B] typed keys.
    x: [B, ...].
    rate: share of units set to zero, in [0, 1).

  Returns:
    [B, ...], scaled by 1 / (1 − rate).
  """
  keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
  return jnp.where(keep, x / (1.0 - rate), 0.0)


class ConcatDense(nn.Module):
  """A dense layer over the concatenation of its inputs, without concatenating.

  Inputs broadcast against each other in all axes but the last: features of x enter as
  [B, 1, 1, F] and latents as [B, C, K, L], and the product with the features is computed once
  per x instead of once per (x, y, z). The parameters are those of a dense layer on [F + L].
  """

  features: int
  kernel_init: nn.initializers.Initializer = he_init

  @nn.compact
  def __call__(self, inputs: Sequence[Array]) -> Array:
    """[..., F_i] each -> [..., features]."""
    sizes = [x.shape[-1] for x in inputs]
    kernel = self.param("kernel", self.kernel_init, (sum(sizes), self.features))
    total = self.param("bias", nn.initializers.zeros, (self.features,))
    total = total.reshape((1,) * (inputs[0].ndim - 1) + (-1,))
    start = 0
    for x, size in zip(inputs, sizes, strict=True):
      total = total + x @ kernel[start : start + size]
      start += size
    return total


class MLP(nn.Module):
  """ReLU layers of the given sizes over several inputs, then a linear layer."""

  hidden_sizes: Sequence[int]
  features: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, inputs: Sequence[Array], keys: Keys | None = None) -> Array:
    """[B, ..., F_i] each -> [B, ..., features]; `keys` [B] switch dropout on."""
    hidden = inputs
    for layer, size in enumerate(self.hidden_sizes):
      h = nn.relu(ConcatDense(size)(hidden))
      if keys is not None and self.dropout_rate > 0:
        h = dropout(fold(keys, layer), h, self.dropout_rate)
      hidden = [h]
    return ConcatDense(self.features, kernel_init=nn.initializers.lecun_normal())(hidden)
