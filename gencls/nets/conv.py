"""Strided SAME convolutions and their transposes, with the forms that are fast on each backend."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from gencls.types import Array

_DIMS = ("NHWC", "HWIO", "NHWC")


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
  """(low, high) zero padding of one axis of a SAME convolution."""
  total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
  return total // 2, total - total // 2


def _plain_conv(x: Array, kernel: Array, stride: int) -> Array:
  return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=_DIMS)


def _plain_transpose(x: Array, kernel: Array, stride: int, output_shape: tuple[int, int]) -> Array:
  """The adjoint in x of `_plain_conv`; kernel is that convolution's, [kh, kw, out, in]."""
  big = jax.ShapeDtypeStruct((x.shape[0], *output_shape, kernel.shape[2]), x.dtype)
  (y,) = jax.linear_transpose(partial(_plain_conv, kernel=kernel, stride=stride), big)(x)
  return y


def conv2d(x: Array, kernel: Array, *, stride: int) -> Array:
  """SAME convolution; x [B, H, W, I], kernel [kh, kw, I, O] -> [B, ceil(H/s), ceil(W/s), O]."""
  return _plain_conv(x, kernel, stride)


def conv2d_transpose(
  x: Array, kernel: Array, *, stride: int, output_shape: tuple[int, int]
) -> Array:
  """The adjoint of the SAME convolution of that stride whose input is `output_shape`.

  x [B, h, w, I], kernel [kh, kw, I, O] -> [B, *output_shape, O], h = ceil(H / stride).
  """
  return _plain_transpose(x, kernel.swapaxes(2, 3), stride, output_shape)


class Conv(nn.Module):
  """Strided SAME convolution with an optional bias."""

  features: int
  kernel_size: tuple[int, int] = (5, 5)
  strides: int = 2
  use_bias: bool = True
  kernel_init: Callable[..., Any] = nn.initializers.he_normal()
  bias_init: Callable[..., Any] = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """X [B, H, W, I] -> [B, ceil(H/s), ceil(W/s), features]."""
    kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
    y = conv2d(x, kernel, stride=self.strides)
    if self.use_bias:
      y += jnp.expand_dims(self.param("bias", self.bias_init, (self.features,)), (0, 1, 2))
    return y


class ConvTranspose(nn.Module):
  """Transpose of a strided SAME convolution whose input has spatial size `output_shape`."""

  features: int
  output_shape: tuple[int, int]
  kernel_size: tuple[int, int] = (5, 5)
  strides: int = 2
  use_bias: bool = False
  kernel_init: Callable[..., Any] = nn.initializers.he_normal()
  bias_init: Callable[..., Any] = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """X [B, h, w, I] -> [B, *output_shape, features]."""
    kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
    y = conv2d_transpose(x, kernel, stride=self.strides, output_shape=self.output_shape)
    if self.use_bias:
      y += jnp.expand_dims(self.param("bias", self.bias_init, (self.features,)), (0, 1, 2))
    return y
