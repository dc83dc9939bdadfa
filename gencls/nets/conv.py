"""Strided SAME convolutions and their transposes, in the form that is fast on each backend.

Accelerators run XLA's own convolutions; on CPU, strided ones run as the matrix products of
`conv_cpu`. The choice is made when the program is lowered, per direction: the three directions of
a convolution (forward, gradient in the input, gradient in the kernel) are tied by `custom_vjp`, and
a transposed convolution is the same three in another order. Reverse mode only, first order;
forward mode raises JAX's error for `custom_vjp` functions. Under one `jit` a gradient that nobody
asks for is removed by the compiler; outside `jit` it is computed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from gencls.nets import conv_cpu
from gencls.types import Array

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Initializer = Callable[..., Any]


def conv2d(x: Array, kernel: Array, *, stride: int) -> Array:
  """SAME convolution (cross-correlation), equal to `lax.conv_general_dilated`.

  Args:
    x: [B, H, W, I].
    kernel: [kh, kw, I, O].
    stride: of both axes, static.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), O].

  Raises:
    ValueError: if ranks or channels do not fit, or `stride` < 1.
  """
  _check(x, kernel, stride)
  return _conv(x, kernel, stride)


def conv2d_transpose(
  x: Array, kernel: Array, *, stride: int, output_shape: tuple[int, int]
) -> Array:
  """The adjoint in x of the SAME convolution whose input has spatial size `output_shape`.

  With K the kernel of that convolution this is `K.swapaxes(2, 3)`; odd sizes (4 -> 7) are exact.

  Args:
    x: [B, h, w, I].
    kernel: [kh, kw, I, O], channels in the order of this operation.
    stride: of both axes, static.
    output_shape: (H, W) with ceil(H / stride) = h and ceil(W / stride) = w.

  Returns:
    [B, H, W, O].

  Raises:
    ValueError: if ranks, channels or sizes do not fit, or `stride` < 1.
  """
  _check(x, kernel, stride)
  height, width = output_shape
  small = (-(-height // stride), -(-width // stride))
  if small != x.shape[1:3]:
    raise ValueError(
      f"output_shape {(height, width)} with stride {stride} needs an input of spatial size "
      f"{small}, got {x.shape[1:3]}"
    )
  return _conv_transpose(x, kernel, stride, (height, width))


class Conv(nn.Module):
  """Strided SAME convolution with an optional bias: [B, H, W, I] -> [B, h, w, features]."""

  features: int
  kernel_size: tuple[int, int] = (5, 5)
  strides: int = 2
  use_bias: bool = True
  kernel_init: Initializer = nn.initializers.he_normal()
  bias_init: Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """X [B, H, W, I] -> [B, ceil(H / strides), ceil(W / strides), features]."""
    kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
    y = conv2d(x, kernel, stride=self.strides)
    if self.use_bias:
      y += self.param("bias", self.bias_init, (self.features,)).reshape(1, 1, 1, -1)
    return y


class ConvTranspose(nn.Module):
  """Transpose of a strided SAME convolution whose input has spatial size `output_shape`."""

  features: int
  output_shape: tuple[int, int]
  kernel_size: tuple[int, int] = (5, 5)
  strides: int = 2
  use_bias: bool = False
  kernel_init: Initializer = nn.initializers.he_normal()
  bias_init: Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """X [B, h, w, I] -> [B, *output_shape, features]."""
    kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
    y = conv2d_transpose(x, kernel, stride=self.strides, output_shape=self.output_shape)
    if self.use_bias:
      y += self.param("bias", self.bias_init, (self.features,)).reshape(1, 1, 1, -1)
    return y


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, stride: int) -> Array:
  return _forward(x, kernel, stride)


def _conv_fwd(x, kernel, stride):
  return _forward(x, kernel, stride), (x, kernel)


def _conv_bwd(stride, residuals, g):
  x, kernel = residuals
  return (
    _input_grad(g, kernel, stride, x.shape[1:3]),
    _kernel_grad(x, g, kernel.shape[:2], stride),
  )


_conv.defvjp(_conv_fwd, _conv_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_transpose(x: Array, kernel: Array, stride: int, shape: tuple[int, int]) -> Array:
  return _input_grad(x, kernel.swapaxes(2, 3), stride, shape)


def _conv_transpose_fwd(x, kernel, stride, shape):
  return _conv_transpose(x, kernel, stride, shape), (x, kernel)


def _conv_transpose_bwd(stride, shape, residuals, g):
  del shape
  x, kernel = residuals
  grad = _kernel_grad(g, x, kernel.shape[:2], stride)
  return _forward(g, kernel.swapaxes(2, 3), stride), grad.swapaxes(2, 3)


_conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)


def _forward(x: Array, kernel: Array, stride: int) -> Array:
  plain = partial(_plain_forward, stride=stride)
  if stride == 1:
    return plain(x, kernel)
  fast = partial(conv_cpu.forward, stride=stride)
  return lax.platform_dependent(x, kernel, cpu=fast, default=plain)


def _input_grad(g: Array, kernel: Array, stride: int, shape: tuple[int, int]) -> Array:
  plain = partial(_plain_input_grad, stride=stride, shape=shape)
  if stride == 1:
    return plain(g, kernel)
  fast = partial(conv_cpu.input_grad, stride=stride, shape=shape)
  return lax.platform_dependent(g, kernel, cpu=fast, default=plain)


def _kernel_grad(x: Array, g: Array, kernel_size: tuple[int, ...], stride: int) -> Array:
  plain = partial(_plain_kernel_grad, kernel_size=kernel_size, stride=stride)
  if stride == 1:
    return plain(x, g)
  fast = partial(conv_cpu.kernel_grad, kernel_size=kernel_size, stride=stride)
  return lax.platform_dependent(x, g, cpu=fast, default=plain)


def _plain_forward(x: Array, kernel: Array, stride: int) -> Array:
  strides = (stride, stride)
  return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=_DIMENSIONS)


def _plain_input_grad(g: Array, kernel: Array, stride: int, shape: tuple[int, int]) -> Array:
  x = jax.ShapeDtypeStruct((g.shape[0], *shape, kernel.shape[2]), g.dtype)
  (grad,) = jax.linear_transpose(lambda x: _plain_forward(x, kernel, stride), x)(g)
  return grad


def _plain_kernel_grad(x: Array, g: Array, kernel_size: tuple[int, ...], stride: int) -> Array:
  kernel = jax.ShapeDtypeStruct((*kernel_size, x.shape[3], g.shape[3]), g.dtype)
  (grad,) = jax.linear_transpose(lambda kernel: _plain_forward(x, kernel, stride), kernel)(g)
  return grad


def _check(x: Array, kernel: Array, stride: int) -> None:
  if x.ndim != 4 or kernel.ndim != 4:
    raise ValueError(
      f"x must be [B, H, W, I] and kernel [kh, kw, I, O], got shapes {x.shape} and {kernel.shape}"
    )
  if x.shape[3] != kernel.shape[2]:
    raise ValueError(
      f"the channels of x and axis 2 of the kernel must agree, got {x.shape} and {kernel.shape}"
    )
  if stride < 1:
    raise ValueError(f"stride must be >= 1, got {stride}")
