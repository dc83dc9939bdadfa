"""The memory rule: the B·M·K rows of a decoder are processed in pieces, never all at once."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gencls.types import Array

PerImage = Any  # a pytree of arrays with the batch as leading axis


def _even(total: int, largest: int) -> int:
  # The piece size of the fewest equal pieces: padding stays below one piece.
  return math.ceil(total / math.ceil(total / largest))


def _split(tree: Any, size: int, axis: int = 0) -> Any:
  # [..., N, ...] -> [ceil(N / size), ..., size, ...], padded with copies of the last row.
  def leaf(x: Array) -> Array:
    pieces = math.ceil(x.shape[axis] / size)
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, pieces * size - x.shape[axis])
    x = jnp.pad(x, pad, mode="edge")
    x = x.reshape(*x.shape[:axis], pieces, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)

  return jax.tree.map(leaf, tree)


def map_rows(
  f: Callable[[PerImage, Array], Any],
  per_image: PerImage,
  z: Array,
  *,
  max_rows: int,
  remat: bool,
) -> Any:
  """f(per_image, z) over at most `max_rows` rows at a time.

  Pieces are whole images where all M·K rows of one fit, else slices of one image's samples.

  Args:
    f: maps arrays of b images and z [b, M, k, L] to a pytree of [b, M, k], row by row.
    per_image: pytree of [B, ...] arrays, what `f` needs to know of each image.
    z: [B, M, K, L] latents.
    max_rows: largest b·M·k of one piece.
    remat: recompute a piece in the backward pass instead of keeping its activations.

  Returns:
    A pytree of [B, M, K].

  Raises:
    ValueError: if one sample of one image does not fit.
  """
  batch, classes, samples = z.shape[:3]
  if batch * classes * samples <= max_rows:
    return f(per_image, z)
  if classes > max_rows:
    raise ValueError(
      f"the memory budget must hold one sample of every class: {classes} rows of one image, got "
      f"room for {max_rows}; raise memory_budget_gib"
    )
  body = jax.checkpoint(f) if remat else f
  b = _even(batch, max(1, max_rows // (classes * samples)))
  k = _even(samples, max(1, min(samples, max_rows // (b * classes))))

  def images(piece: tuple[PerImage, Array]) -> Any:
    some, z_piece = piece
    if k == samples:
      return body(some, z_piece)
    out = jax.lax.map(lambda z_slice: body(some, z_slice), _split(z_piece, k, axis=2))
    merge = lambda x: jnp.moveaxis(x, 0, 2).reshape(b, classes, -1)[:, :, :samples]  # noqa: E731
    return jax.tree.map(merge, out)

  out = jax.lax.map(images, _split((per_image, z), b))
  return jax.tree.map(lambda x: x.reshape(-1, classes, samples)[:batch], out)
