"""Convolutions as matrix products: the forms that are fast on XLA:CPU.

XLA:CPU runs a convolution of fewer than about 128 output channels on one thread, and dilated inputs
or outputs of odd size leave its fast path altogether; matrix products use every thread. Here the
taps of a kernel are split: those along the height are gathered into the contracted axis of a
product, those along the width become output columns, which are shifted and added (or, for the
kernel's gradient, gathered from the other side). Each side then grows about kw / 2 times in memory,
not kh * kw times as with im2col, and XLA fuses the gathers and the sums. With few channels, where
im2col is cheap, all taps are gathered. benchmarks/layers.py measures each form beside XLA's own: at
64 channels on two cores forward and input gradient are about 1.5 times as fast, 10 times at odd
sizes (4 -> 7). Inside a loop XLA's own convolutions lose their threads in every direction, which is
why the others are replaced too. Batches of 25 to 100 rows keep the gathered rows in the cache.

One table serves all directions. Tap a of an axis joins output o with input s * (o + t) + p; it
belongs to phase p and shifts by t. Letters: h, w are the small (strided) sizes, H, W the large.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from gencls.types import Array

# Up to this many channels I every tap is gathered or shifted: patches cost less than the products.
FEW_CHANNELS = 8
# With stride 1, XLA's input gradient needs this many channels I to be fast (20: 27 ms of one core
# against 12 ms with every tap shifted; 64: 52 against 149; 5x5 kernels, batch 128).
MANY_CHANNELS = 32


class Window(NamedTuple):
  """How a kernel moves over an image."""

  stride: int = 1
  padding: str = "SAME"

  def outputs(self, size: int, kernel: int) -> int:
    """The outputs along an axis of `size` inputs."""
    reach = size if self.padding == "SAME" else size - kernel + 1
    return -(-reach // self.stride)

  def low(self, size: int, kernel: int) -> int:
    """The zeros before the first input of an axis."""
    if self.padding == "VALID":
      return 0
    return max((self.outputs(size, kernel) - 1) * self.stride + kernel - size, 0) // 2


def taps_by_phase(size: int, kernel: int, window: Window) -> list[list[tuple[int, int]]]:
  """For every phase p of an axis its taps [(a, t)]: output o reads input stride * (o + t) + p."""
  stride, low = window.stride, window.low(size, kernel)
  taps: list[list[tuple[int, int]]] = [[] for _ in range(stride)]
  for a in range(kernel):
    taps[(a - low) % stride].append((a, (a - low) // stride))
  return taps


def forward(x: Array, kernel: Array, window: Window) -> Array:
  """The convolution; x [B, H, W, I], kernel [kh, kw, I, O] -> [B, h, w, O]."""
  kh, kw, channels, features = kernel.shape
  if channels <= FEW_CHANNELS:
    columns = kernel.swapaxes(0, 1).reshape(-1, features)
    return jnp.tensordot(_patches(x, (kh, kw), window), columns, 1)
  w = window.outputs(x.shape[2], kw)
  terms = []
  for q, taps in enumerate(taps_by_phase(x.shape[2], kw, window)):
    if not taps:
      continue
    rows = _gather(x[:, :, q :: window.stride], 1, kh, window)
    columns = jnp.concatenate([kernel[:, b] for b, _ in taps], axis=-1)
    out = jnp.tensordot(rows, columns.reshape(kh * channels, -1), 1)
    parts = jnp.split(out, len(taps), axis=-1)
    terms += [_shift(part, t, 2, w) for part, (_, t) in zip(parts, taps, strict=True)]
  return _sum(terms)


def kernel_grad(x: Array, g: Array, kernel_size: tuple[int, ...], window: Window) -> Array:
  """Gradient of `forward` in its kernel; g [B, h, w, O] -> [kh, kw, I, O]."""
  kh, kw = kernel_size
  channels, features = x.shape[3], g.shape[3]
  if channels <= FEW_CHANNELS:
    patches = _patches(x, kernel_size, window)
    grad = patches.reshape(-1, patches.shape[-1]).T @ g.reshape(-1, features)
    return grad.reshape(kw, kh, channels, features).swapaxes(0, 1)
  columns: list[Array] = [jnp.zeros((kh, channels, features), g.dtype)] * kw
  for q, taps in enumerate(taps_by_phase(x.shape[2], kw, window)):
    if not taps:
      continue
    rows = _gather(x[:, :, q :: window.stride], 1, kh, window)
    shifted = jnp.concatenate([_shift(g, -t, 2, rows.shape[2]) for _, t in taps], axis=-1)
    # Flat and transposed: XLA:CPU reads the factors in place, which it does not with tensordot.
    grad = rows.reshape(-1, kh * channels).T @ shifted.reshape(-1, len(taps) * features)
    parts = jnp.split(grad, len(taps), axis=-1)
    for (b, _), part in zip(taps, parts, strict=True):
      columns[b] = part.reshape(kh, channels, features)
  return jnp.stack(columns, axis=1)


def input_grad(g: Array, kernel: Array, window: Window, shape: tuple[int, int]) -> Array:
  """Gradient of `forward` in x, spatial sizes `shape`; g [B, h, w, O] -> [B, *shape, I]."""
  kh, kw, channels, features = kernel.shape
  if channels <= FEW_CHANNELS or window.stride == 1:
    return _input_grad_col2im(g, kernel, window, shape)
  terms = []
  for p, taps in enumerate(taps_by_phase(shape[0], kh, window)):
    if not taps:
      continue
    height = _phase_size(shape[0], p, window.stride)
    rows = jnp.concatenate([_shift(g, -t, 1, height) for _, t in taps], axis=-1)
    # [kh, kw, I, O] -> [taps, O, kw, I]: contracted axes first
    weights = jnp.stack([kernel[a] for a, _ in taps]).transpose(0, 3, 1, 2)
    out = jnp.tensordot(rows, weights.reshape(len(taps) * features, kw * channels), 1)
    parts = jnp.split(out, kw, axis=-1)
    for q, columns in enumerate(taps_by_phase(shape[1], kw, window)):
      width = _phase_size(shape[1], q, window.stride)
      shifted = [_shift(parts[b], -t, 2, width) for b, t in columns]
      if shifted and shifted[0].size:  # an axis of size 1 has no second phase
        terms.append(_scatter(_sum(shifted), (p, q), window.stride, shape))
  return _sum(terms)


def _input_grad_col2im(g: Array, kernel: Array, window: Window, shape: tuple[int, int]) -> Array:
  """`input_grad` with every tap an output column, for a few channels I."""
  kh, kw = kernel.shape[:2]
  # [kh, kw, I, O] -> [O, kw, kh, I]: first along the width, all rows of the kernel at once.
  weights = kernel.transpose(3, 1, 0, 2).reshape(kernel.shape[3], -1)
  parts = jnp.split(jnp.tensordot(g, weights, 1), kw, axis=-1)
  terms = []
  for q, columns in enumerate(taps_by_phase(shape[1], kw, window)):
    width = _phase_size(shape[1], q, window.stride)
    if not columns or not width:  # an axis of size 1 has no second phase
      continue
    rows = jnp.split(_sum([_shift(parts[b], -u, 2, width) for b, u in columns]), kh, axis=-1)
    for p, taps in enumerate(taps_by_phase(shape[0], kh, window)):
      height = _phase_size(shape[0], p, window.stride)
      if taps and height:
        shifted = [_shift(rows[a], -t, 1, height) for a, t in taps]
        terms.append(_scatter(_sum(shifted), (p, q), window.stride, shape))
  return _sum(terms)


def _patches(x: Array, kernel_size: tuple[int, ...], window: Window) -> Array:
  """[B, H, W, I] -> [B, h, w, kw * kh * I]: all pixels that an output reads (im2col)."""
  return _gather(_gather(x, 1, kernel_size[0], window), 2, kernel_size[1], window)


def _gather(x: Array, axis: int, kernel: int, window: Window) -> Array:
  """Joins to the channels what each output reads along one axis, [..., kernel * I] tap by tap."""
  size, channels = x.shape[axis], x.shape[3]
  out, stride = window.outputs(size, kernel), window.stride
  terms = []
  for p, taps in enumerate(taps_by_phase(size, kernel, window)[:size]):
    phase = lax.slice_in_dim(x, p, None, stride, axis)
    for a, t in taps:
      # A sum of zero-padded pieces fuses into one loop; a concatenation of slices does not.
      pads = [(0, 0, 0)] * 4
      pads[axis] = (-t, out + t - phase.shape[axis], 0)
      pads[3] = (a * channels, (kernel - 1 - a) * channels, 0)
      terms.append(_pad(phase, pads))
  return _sum(terms)


def _phase_size(size: int, phase: int, stride: int) -> int:
  return max(-(-(size - phase) // stride), 0)


def _shift(x: Array, by: int, axis: int, size: int) -> Array:
  """Out[i] = x[i + by] along one axis, i < size, zero outside."""
  pads = [(0, 0, 0)] * x.ndim
  pads[axis] = (-by, by + size - x.shape[axis], 0)
  return _pad(x, pads)


def _scatter(x: Array, phase: tuple[int, int], stride: int, shape: tuple[int, int]) -> Array:
  """Puts x at the pixels of one phase of an image of spatial size `shape`, zero elsewhere."""
  pads = [(0, 0, 0)] * 4
  for axis in (0, 1):
    last = phase[axis] + stride * (x.shape[1 + axis] - 1)
    pads[1 + axis] = (phase[axis], shape[axis] - 1 - last, stride - 1)
  return _pad(x, pads)


def _pad(x: Array, pads) -> Array:
  return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _sum(terms: list[Array]) -> Array:
  total = terms[0]
  for term in terms[1:]:
    total = total + term
  return total
