"""From nats of a density over [0, 1]^D to bits per dimension of integer images."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from gencls.types import Array, Classifier, Keys


def dequantise(keys: Keys, levels: Array, num_levels: int) -> Array:
  """Uniformly dequantised images x' = (v + u) / num_levels with u ~ U[0, 1).

  The expected log-density of x', less D log num_levels, is a lower bound of log P(v).

  Args:
    keys: [B] typed keys.
    levels: [B, H, W, D] integers 0 .. num_levels - 1.
    num_levels: number of grey levels, >= 2.

  Returns:
    [B, H, W, D] float32 in [0, 1).

  Raises:
    ValueError: if `num_levels` < 2.

  References:
    Theis et al. 2016, arXiv:1511.01844, section 3.1.
  """
  if num_levels < 2:
    raise ValueError(f"num_levels must be >= 2, got {num_levels}")
  noise = jax.vmap(lambda key: jax.random.uniform(key, levels.shape[1:]))(keys)
  # float32 rounds 255 + 0.99999999 up to 256: keep x' below 1.
  top = np.nextafter(np.float32(1), np.float32(0))
  return jnp.minimum((levels.astype(jnp.float32) + noise) / num_levels, top)


def density_levels(classifier: Classifier, num_levels: int) -> int:
  """The grey levels that one value of a model's log p(x) is spread over, for `bits_per_dimension`.

  Those of the images for a density over [0, 1]^D; 1 for the probability of a binary image, which is
  one already.
  """
  return 1 if classifier.binary else num_levels


def bits_per_dimension(log_density: np.ndarray, dims: int, num_levels: int) -> np.ndarray:
  """Bits per dimension of integer images, from the density of the dequantised ones.

  −(log p(x') − D log num_levels) / (D log 2), with p a density over [0, 1]^D.

  Args:
    log_density: [N] log p(x'), nats.
    dims: D, the number of pixels times channels.
    num_levels: number of grey levels of the integer image.

  Returns:
    [N] float64, bits per dimension.
  """
  nats = np.asarray(log_density, np.float64) - dims * math.log(num_levels)
  return -nats / (dims * math.log(2))
