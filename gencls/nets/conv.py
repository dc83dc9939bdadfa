"""Convolutions and their transposes, in the form that is fast on each backend.

Accelerators run XLA's own convolutions; on CPU, strided ones and the input gradient of those of
stride 1 with a few input channels run as the matrix products of `conv_cpu`. The choice is made when
the program is lowered, per direction: the three directions of a convolution (forward, gradient in
the input, gradient in the kernel) are tied by `custom_vjp`, and a transposed convolution is the
same three in another order. Reverse mode only, first order; forward mode raises JAX's error for
`custom_vjp` functions. Under one `jit` a gradient that nobody asks for is removed by the compiler;
outside `jit` it is computed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from gencls.names import unknown_name
from gencls.nets import conv_cpu
from gencls.nets.conv_cpu import Window
from gencls.types import Array

PADDINGS = ("SAME", "VALID")
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Initializer = Callable[..., Any]


def conv2d(x: Array, kernel: Array, *, stride: int, padding: str = "SAME") -> Array:
  """Convolution (cross-correlation), equal to `lax.conv_general_dilated`.

  Args:
    x: [B, H, W, I].
    kernel: [kh, kw, I, O].
    stride: of both axes, static.
    padding: "SAME" or "VALID".

  Returns:
    [B, h, w, O], h and w being ceil(H / stride) and ceil(W / stride) under "SAME".

  Raises:
    ValueError: if ranks, channels or sizes do not fit, `stride` < 1 or the padding is unknown.
  """
  _check(x, kernel, stride)
  if padding not in PADDINGS:
    raise ValueError(unknown_name("padding", padding, PADDINGS))
  if padding == "VALID" and (x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]):
    raise ValueError(
      f"padding='VALID' needs images as large as the kernel, got {x.shape[1:3]} and "
      f"{kernel.shape[:2]}"
    )
  return _conv(x, kernel, Window(stride, padding))


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
  return _conv_transpose(x, kernel, Window(stride), (height, width))


class Conv(nn.Module):
  """Convolution with an optional bias: [B, H, W, I] -> [B, h, w, features]."""

  features: int
  kernel_size: tuple[int, int] = (5, 5)
  strides: int = 2
  padding: str = "SAME"
  use_bias: bool = True
  kernel_init: Initializer = nn.initializers.he_normal()
  bias_init: Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """X [B, H, W, I] -> [B, h, w, features]; "SAME": h = ceil(H / strides), and so w."""
    kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
    y = conv2d(x, kernel, stride=self.strides, padding=self.padding)
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
def _conv(x: Array, kernel: Array, window: Window) -> Array:
  return _forward(x, kernel, window)


def _conv_fwd(x, kernel, window):
  return _forward(x, kernel, window), (x, kernel)


def _conv_bwd(window, residuals, g):
  x, kernel = residuals
  return (
    _input_grad(g, kernel, window, x.shape[1:3]),
    _kernel_grad(x, g, kernel.shape[:2], window),
  )


_conv.defvjp(_conv_fwd, _conv_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_transpose(x: Array, kernel: Array, window: Window, shape: tuple[int, int]) -> Array:
  return _input_grad(x, kernel.swapaxes(2, 3), window, shape)


def _conv_transpose_fwd(x, kernel, window, shape):
  return _conv_transpose(x, kernel, window, shape), (x, kernel)


def _conv_transpose_bwd(window, shape, residuals, g):
  del shape
  x, kernel = residuals
  grad = _kernel_grad(g, x, kernel.shape[:2], window)
  return _forward(g, kernel.swapaxes(2, 3), window), grad.swapaxes(2, 3)


_conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)


def _forward(x: Array, kernel: Array, window: Window) -> Array:
  plain = partial(_plain_forward, window=window)
  if window.stride == 1:
    return plain(x, kernel)
  fast = partial(conv_cpu.forward, window=window)
  return lax.platform_dependent(x, kernel, cpu=fast, default=plain)


def _input_grad(g: Array, kernel: Array, window: Window, shape: tuple[int, int]) -> Array:
  plain = partial(_plain_input_grad, window=window, shape=shape)
  if window.stride == 1 and kernel.shape[2] >= conv_cpu.MANY_CHANNELS:
    return plain(g, kernel)
  fast = partial(conv_cpu.input_grad, window=window, shape=shape)
  return lax.platform_dependent(g, kernel, cpu=fast, default=plain)


def _kernel_grad(x: Array, g: Array, kernel_size: tuple[int, ...], window: Window) -> Array:
  plain = partial(_plain_kernel_grad, kernel_size=kernel_size, window=window)
  if window.stride == 1:
    return plain(x, g)
  fast = partial(conv_cpu.kernel_grad, kernel_size=kernel_size, window=window)
  return lax.platform_dependent(x, g, cpu=fast, default=plain)


def _plain_forward(x: Array, kernel: Array, window: Window) -> Array:
  strides, padding = (window.stride, window.stride), window.padding
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_DIMENSIONS)


def _plain_input_grad(g: Array, kernel: Array, window: Window, shape: tuple[int, int]) -> Array:
  x = jax.ShapeDtypeStruct((g.shape[0], *shape, kernel.shape[2]), g.dtype)
  (grad,) = jax.linear_transpose(lambda x: _plain_forward(x, kernel, window), x)(g)
  return grad


def _plain_kernel_grad(x: Array, g: Array, kernel_size: tuple[int, ...], window: Window) -> Array:
  kernel = jax.ShapeDtypeStruct((*kernel_size, x.shape[3], g.shape[3]), g.dtype)
  (grad,) = jax.linear_transpose(lambda kernel: _plain_forward(x, kernel, window), kernel)(g)
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
