"""Max pooling in the form that is fast on each backend.

XLA:CPU's gradient of `reduce_window` costs ten times the pooling itself. There the pixels of a
window are compared as strided slices, and the gradient goes to the first largest of each window, as
XLA's own does. The pooling itself stays XLA's, which it joins to a convolution before it: both
together take half the time of the convolution alone. Reverse mode only, first order. ReLU and a
bias per channel commute with max pooling exactly: apply them behind it, to a quarter of the values.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from gencls.names import unknown_name
from gencls.nets.conv import PADDINGS
from gencls.types import Array


def max_pool(x: Array, *, window: int = 2, padding: str = "VALID") -> Array:
  """Largest value of every window x window square; squares do not overlap.

  Args:
    x: [B, H, W, D].
    window: side of the squares, static.
    padding: "VALID" drops what fills no square, "SAME" pads with -inf.

  Returns:
    [B, h, w, D]; h = H // window under "VALID", ceil(H / window) under "SAME".

  Raises:
    ValueError: if x is not of rank 4, `window` < 1 or the padding is unknown.
  """
  if x.ndim != 4 or window < 1:
    raise ValueError(f"x must be [B, H, W, D] and window >= 1, got shape {x.shape} and {window}")
  if padding not in PADDINGS:
    raise ValueError(unknown_name("padding", padding, PADDINGS))
  height, width = (_whole(size, window, padding) for size in x.shape[1:3])
  # One exact multiple of the window: lax.pad crops where it is given negative sizes.
  pads = [(0, 0, 0), (0, height - x.shape[1], 0), (0, width - x.shape[2], 0), (0, 0, 0)]
  return _pool(lax.pad(x, jnp.array(-jnp.inf, x.dtype), pads), window)


def _whole(size: int, window: int, padding: str) -> int:
  return size // window * window if padding == "VALID" else -(-size // window) * window


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _pool(x: Array, window: int) -> Array:
  return _plain_forward(x, window)


def _pool_fwd(x, window):
  y = _plain_forward(x, window)
  return y, (x, y)


def _pool_bwd(window, residuals, g):
  fast, plain = partial(_cpu_gradient, window=window), partial(_plain_gradient, window=window)
  return (lax.platform_dependent(*residuals, g, cpu=fast, default=plain),)


_pool.defvjp(_pool_fwd, _pool_bwd)


def _plain_forward(x: Array, window: int) -> Array:
  square = (1, window, window, 1)
  return lax.reduce_window(x, -jnp.inf, lax.max, square, square, "VALID")


def _plain_gradient(x: Array, y: Array, g: Array, window: int) -> Array:
  del y
  return jax.vjp(partial(_plain_forward, window=window), x)[1](g)[0]


def _cpu_gradient(x: Array, y: Array, g: Array, window: int) -> Array:
  parts, free = [], jnp.ones(y.shape, bool)
  for pixel in _pixels(x, window):
    largest = free & (pixel == y)
    parts.append(jnp.where(largest, g, 0.0))
    free &= ~largest
  batch, height, width, depth = y.shape
  squares = jnp.stack(parts, axis=3).reshape(batch, height, width, window, window, depth)
  return squares.swapaxes(2, 3).reshape(x.shape)


def _pixels(x: Array, window: int) -> list[Array]:
  """The pixels of all windows by their place in it, row by row, each [B, h, w, D]."""
  return [x[:, i::window, j::window] for i in range(window) for j in range(window)]
