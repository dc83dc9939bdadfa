"""What an array of images must be, wherever values can be seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencls.types import Array


def checked(name: str, x: Any) -> Array:
  """Checks that x is [B, H, W, D] float32 in [0, 1] and finite."""
  dtype = getattr(x, "dtype", None)
  if dtype != np.float32 or np.ndim(x) != 4:
    got = type(x).__name__ if dtype is None else f"shape {np.shape(x)} and dtype {dtype}"
    fix = "divide 8-bit images by 255, cast others with .astype(np.float32)"
    raise ValueError(
      f"{name} must be an array [B, H, W, D] of float32 in [0, 1], got {got} ({fix})"
    )
  x = jnp.asarray(x, jnp.float32)  # no weak type either
  if not x.size:
    return x
  low, high = (float(v) for v in _range(x))  # NaN anywhere makes both NaN
  if not (low >= 0.0 and high <= 1.0):
    values = np.asarray(x).reshape(len(x), -1)
    bad = np.flatnonzero(~np.all((values >= 0) & (values <= 1), axis=1))  # NaN is neither
    numbers = values[~np.isnan(values)]
    span = f"from {numbers.min():g} to {numbers.max():g}" if numbers.size else "of no number"
    raise ValueError(
      f"{name} must be finite and in [0, 1], got values {span}"
      f"{', and NaN' if numbers.size < values.size else ''} in {len(bad)} of {len(x)} images, "
      f"first in {bad[0]}; divide 8-bit images by 255, clip or drop others"
    )
  return x


@jax.jit
def _range(x: Array) -> tuple[Array, Array]:
  return jnp.min(x), jnp.max(x)
