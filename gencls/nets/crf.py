"""A conditional random field of two labels on every pixel of a decoded image, by mean field.

All pairs of pixels at most five rows and five columns apart attract each other, by a Gaussian of
their distance. With a the decoder's logits, the two labels' Q differ by tanh(u / 2), and n updates

  u ← a + w Σ_j k(i, j) tanh(u_j / 2)
  k(i, j) = exp(−((r_i − r_j) / θ_r)² / 2 − ((c_i − c_j) / θ_c)² / 2)

leave u as the new logits. The kernel is a product over the two axes: it is applied as two banded
matrix products, because a convolution in a loop is slow on CPU. What it leaves out (`LEFT_OUT`):

  centre          the pixel itself, as the model of pairs asks for
  row_and_column  the published kernel: it is zero at distance 0 on each axis, so that a pixel sees
                  nothing of its own row and column, its four nearest neighbours included

Mean field is no exact marginal. Against enumeration of 3×3 images with logits a ~ N(0, 1), five
updates leave a pixel's probability off by at most (of 200 images)

  w               0.05    0.15    0.43   1
  centre          0.0002  0.0023  0.029  0.23
  row_and_column  0.0001  0.0006  0.005  0.027

so by 0.03 where training starts (`INITIAL_WEIGHT`), and by far more where w grows: there mean field
is sure of what is not. Pixels of larger images have more neighbours, which nobody can enumerate.

References:
  Krähenbühl, Koltun 2011, arXiv:1210.5644; Zheng et al. 2015, arXiv:1502.03240. The published
  kernel: crfseg, as used by "Exploring Generative Classifiers for Adversarial Robustness on MNIST".
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from gencls.names import unknown_name
from gencls.nets.images import ConvDecoder
from gencls.settings import at_least
from gencls.types import Array, Keys

LEFT_OUT = ("centre", "row_and_column")
REACH = 5  # rows and columns: a filter of 11 on each axis
# Published: 1, for a kernel that sums to 2.270. The one without its centre sums to 5.284, and is to
# start as strong: at 1 it starts deep among states that hold themselves (w Σ k > 2), and training
# on digits ends at a higher loss.
INITIAL_WEIGHT = {"centre": 0.43, "row_and_column": 1.0}


def band(size: int, inverse_width: Array) -> Array:
  """exp(−((i − j) / θ)² / 2) where |i − j| <= `REACH`, else 0: [size, size]."""
  distance = jnp.abs(jnp.arange(size)[:, None] - jnp.arange(size)[None])
  kernel = jnp.exp(-0.5 * (distance.astype(jnp.float32) * inverse_width) ** 2)
  return jnp.where(distance <= REACH, kernel, 0.0)


def filtered(t: Array, inverse_widths: Array, left_out: str) -> Array:
  """Σ_j k(i, j) t_j, zero outside the image.

  Args:
    t: [N, H, W].
    inverse_widths: [2], 1/θ of rows and columns.
    left_out: one of `LEFT_OUT`.

  Returns:
    [N, H, W].
  """
  rows, columns = (
    band(size, width) for size, width in zip(t.shape[1:], inverse_widths, strict=True)
  )
  if left_out == "row_and_column":
    rows, columns = (axis * (1 - jnp.eye(len(axis))) for axis in (rows, columns))
    return jnp.einsum("ij,njc->nic", rows, t @ columns)
  return jnp.einsum("ij,njc->nic", rows, t @ columns) - t


class MeanFieldCRF(nn.Module):
  """Mean field from logits to logits; each channel is an image of its own.

  Three numbers are trained: the weight, from `INITIAL_WEIGHT`, and the inverse width of each axis,
  from 1.
  """

  image_shape: tuple[int, int, int]
  num_updates: int = 5
  left_out: str = "centre"

  def __post_init__(self) -> None:
    """Raises ValueError for a name or number out of its range."""
    if self.left_out not in LEFT_OUT:
      raise ValueError(unknown_name("crf", self.left_out, LEFT_OUT))
    at_least(1, num_updates=self.num_updates)
    super().__post_init__()

  @nn.compact
  def __call__(self, logits: Array) -> Array:
    """[..., H · W · D] -> [..., H · W · D]."""
    weight = self.param("weight", nn.initializers.constant(INITIAL_WEIGHT[self.left_out]), ())
    widths = self.param("inverse_widths", nn.initializers.ones, (2,))
    height, width, depth = self.image_shape
    a = logits.reshape(-1, height, width, depth)
    a = jnp.moveaxis(a, -1, 1).reshape(-1, height, width)
    u = a
    for _ in range(self.num_updates):
      u = a + weight * filtered(jnp.tanh(0.5 * u), widths, self.left_out)
    u = jnp.moveaxis(u.reshape(-1, depth, height, width), 1, -1)
    return u.reshape(logits.shape)


class CRFDecoder(nn.Module):
  """A decoder whose logits go through a CRF."""

  decoder: ConvDecoder
  crf: MeanFieldCRF

  def __call__(self, inputs: Sequence[Array], keys: Keys | None = None) -> Array:
    """[B, ..., F_i] each -> [B, ..., H · W · D], before the sigmoid."""
    return self.crf(self.decoder(inputs, keys))

  def floats_per_row(self) -> int:
    """Activations of one row, in floats: what the memory rule counts."""
    height, width, depth = self.crf.image_shape
    return self.decoder.floats_per_row() + height * width * depth * self.crf.num_updates
