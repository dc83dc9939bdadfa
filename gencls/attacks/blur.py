"""Gaussian blur of growing width, the first that fools the model.

With mirrored edges a blur is diagonal in the cosine basis c_k(i) ∝ cos(π k (i + ½) / n): its kernel
w has the eigenvalues Σ_t w_t cos(π k t / n). The cosine transform of an image is taken once, each
width multiplies it by the eigenvalues of rows and columns, and one transform leads back, so that
all widths share two small matrices.

References:
  Rauber et al. 2017, arXiv:1707.04131 (Foolbox's GaussianBlurAttack); Martucci 1994,
  doi:10.1109/78.295213 (symmetric convolution and the cosine transforms).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls.attacks import first_success
from gencls.types import Array, Attack, Keys, Objective

TRUNCATE = 4.0  # standard deviations at which the kernel ends, SciPy's default


def gaussian_blur(
  objective: Objective,
  *,
  num_steps: int = 1000,
  rel_max_sigma: float = 1.0,
  block_size: int | None = None,
) -> Attack:
  """The first failure among blurs of the widths k / num_steps · rel_max_sigma · max(H, W).

  k runs from 0, the image as it is, to num_steps. Edges are mirrored (the edge pixel twice) and the
  kernel ends at four standard deviations, as in `scipy.ndimage.gaussian_filter`, which Foolbox
  uses; channels are blurred alone. (At odd sizes the rounding of the kernel's length can fall the
  other way, a difference of about 1e-4.)

  Args:
    objective: what to attack, see `objective.build`.
    num_steps: number of widths, >= 1.
    rel_max_sigma: the largest standard deviation over max(H, W), in (0, 1].
    block_size: images per example and model call; None chooses by backend.

  Returns:
    A minimum-norm `Attack`: of the widths that fool the model it returns the smallest.

  Raises:
    ValueError: if a number is out of its range.
  """
  if num_steps < 1:
    raise ValueError(f"num_steps must be >= 1, got {num_steps}")
  if not 0 < rel_max_sigma <= 1:
    raise ValueError(f"rel_max_sigma must be in (0, 1], got {rel_max_sigma}")
  widths = np.append(0.0, np.cumsum(np.full(num_steps, 1.0 / num_steps))) * rel_max_sigma
  return first_success.search(
    objective,
    Partial(_propose, jnp.asarray(widths, jnp.float32)),
    num_images=num_steps + 1,
    block_size=block_size,
    keep_best=False,
  )


def _propose(widths: Array, keys: Keys, x: Array, numbers: Array) -> Array:
  del keys
  sigma = widths[numbers] * max(x.shape[1:3])
  blurred = jnp.clip(blur(x, sigma), 0.0, 1.0)
  # Number 0 is x itself, not x after two transforms.
  return jnp.where(jnp.expand_dims(numbers == 0, (2, 3, 4)), x[:, None], blurred)


def blur(x: Array, sigma: Array) -> Array:
  """Every image blurred by several widths.

  Args:
    x: [B, H, W, D].
    sigma: [B, M] standard deviations in pixels, 0 <= sigma <= max(H, W).

  Returns:
    [B, M, H, W, D].
  """
  height, width = x.shape[1:3]
  reach = int(TRUNCATE * max(height, width) + 0.5)
  rows, columns = _cosine_basis(height), _cosine_basis(width)
  exact = jax.lax.Precision.HIGHEST
  spectrum = jnp.einsum("kh,lw,bhwd->bkld", rows, columns, x, precision=exact)
  kernel = _kernel(sigma, reach)
  gain = jnp.einsum("bmk,bml->bmkl", _eigenvalues(kernel, height), _eigenvalues(kernel, width))
  damped = spectrum[:, None] * gain[..., None]
  return jnp.einsum("kh,lw,bmkld->bmhwd", rows, columns, damped, precision=exact)


def _cosine_basis(size: int) -> Array:
  """The orthonormal cosine basis, [frequency, pixel]."""
  k, i = np.arange(size)[:, None], np.arange(size)[None, :]
  basis = np.cos(np.pi * k * (i + 0.5) / size) * np.sqrt(np.where(k == 0, 1, 2) / size)
  return jnp.asarray(basis, jnp.float32)


def _kernel(sigma: Array, reach: int) -> Array:
  """Weights at the distances 0 … reach, [B, M, reach + 1], that sum to 1 over both sides."""
  distance = jnp.arange(reach + 1, dtype=jnp.float32)[None, None, :]
  sigma = sigma[..., None]
  radius = jnp.floor(TRUNCATE * sigma + 0.5)
  weight = jnp.exp(-0.5 * jnp.square(distance / jnp.where(sigma > 0, sigma, 1.0)))
  weight = jnp.where(distance <= radius, weight, 0.0)
  return weight / (2.0 * jnp.sum(weight, axis=-1, keepdims=True) - 1.0)


def _eigenvalues(kernel: Array, size: int) -> Array:
  """The factor of every frequency, [B, M, size]: w_0 + 2 Σ_{t>=1} w_t cos(π k t / size)."""
  t, k = np.arange(kernel.shape[-1])[:, None], np.arange(size)[None, :]
  waves = np.where(t == 0, 1.0, 2.0) * np.cos(np.pi * k * t / size)
  waves = jnp.asarray(waves, jnp.float32)
  return jnp.einsum("bmt,tk->bmk", kernel, waves, precision=jax.lax.Precision.HIGHEST)
