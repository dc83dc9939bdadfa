"""Additive noise of a given size: many draws per image, the first that succeeds.

References:
  Rauber et al. 2017, arXiv:1707.04131 (Foolbox's repeated additive noise).
"""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import first_success
from gencls.attacks import geometry as geometries
from gencls.attacks.broadcast import expand, pixels
from gencls.attacks.geometry import Geometry
from gencls.keys import fold
from gencls.types import Array, Attack, Key, Keys, Objective


def uniform_noise(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_repeats: int = 100,
  rescale: bool = False,
  by_largest: bool = False,
  check_clean: bool = True,
  block_size: int | None = None,
) -> Attack:
  """Uniform noise in the ball, clipped to the box.

  Args:
    objective: what to maximise, see `objective.build`.
    norm: a name in `geometry.GEOMETRIES`.
    eps: radius of the ball.
    num_repeats: draws per example, >= 1.
    rescale: if not, a draw is uniform in the ball. If so, it is uniform in the cube [−1, 1] and
      scaled to a norm of exactly eps before the clipping, as Foolbox does.
    by_largest: of ℓ∞ and `rescale`: scaled by the largest entry and not the largest absolute one,
      and then clipped to the ball, as Foolbox's ℓ∞ noise is. One pixel of every image then gains
      all of eps: a black one at eps 0.5 passes a threshold of one half.
    check_clean: whether x itself is tried before the draws, as Foolbox's repeated noise does and
      its single draw does not.
    block_size: draws per example and model call; None chooses by backend. No result depends on it,
      but the images of a block share the draws of a model with fresh randomness.

  Returns:
    A fixed-budget `Attack`; without a success the result is the image of the largest loss.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  ball = geometries.build(norm, eps)
  if by_largest and not (rescale and norm == "linf"):
    raise ValueError(
      "by_largest=True scales noise of the cube by its largest entry: it needs rescale=True and "
      f"norm='linf', got rescale={rescale} and norm={norm!r}"
    )
  draw = Partial(_cube, ball, jnp.bool_(by_largest)) if rescale else ball.random
  return _repeated(objective, ball, draw, num_repeats, check_clean, block_size)


def gaussian_noise(
  objective: Objective,
  *,
  norm: str = "l2",
  eps: float,
  num_repeats: int = 100,
  check_clean: bool = True,
  block_size: int | None = None,
) -> Attack:
  """Gaussian noise scaled to a norm of exactly eps, then clipped to the box.

  The arguments are those of `uniform_noise`.

  Returns:
    A fixed-budget `Attack`; without a success the result is the image of the largest loss.

  Raises:
    ValueError: if the norm is unknown or a number is out of its range.
  """
  ball = geometries.build(norm, eps)
  return _repeated(objective, ball, Partial(_gauss, ball), num_repeats, check_clean, block_size)


def _repeated(
  objective: Objective,
  ball: Geometry,
  draw: Partial,
  num_repeats: int,
  check_clean: bool,
  block_size: int | None,
) -> Attack:
  if num_repeats < 1:
    raise ValueError(f"num_repeats must be >= 1 (1 is a single draw), got {num_repeats}")
  return first_success.search(
    objective,
    # The clean image is number 0 in either case, so that a draw does not depend on `check_clean`.
    Partial(_propose, draw, jnp.int32(0 if check_clean else 1)),
    num_images=num_repeats + bool(check_clean),
    block_size=block_size,
    keep_best=True,
  )


def _propose(draw: Partial, first: Array, keys: Keys, x: Array, numbers: Array) -> Array:
  """All draws in one row each: faster than one more `vmap`."""
  each = numbers.shape[1]
  number, keys = (numbers + first).reshape(-1), jnp.repeat(keys, each)
  clean = jnp.repeat(x, each, axis=0)
  noisy = draw(fold(keys, "noise", number), clean)
  images = jnp.where(expand(number == 0, clean), clean, noisy)
  return images.reshape(*numbers.shape, *x.shape[1:])


def _cube(ball: Geometry, by_largest: Array, keys: Keys, x: Array) -> Array:
  def draw(key: Key) -> Array:
    return jax.random.uniform(key, x.shape[1:], minval=-1.0, maxval=1.0)

  noise = jax.vmap(draw)(keys)
  size = jnp.where(by_largest, jnp.max(noise, axis=pixels(noise)), ball.norm(noise))
  return ball.project(_scaled(ball, noise, size, x), x)


def _gauss(ball: Geometry, keys: Keys, x: Array) -> Array:
  noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
  return _scaled(ball, noise, ball.norm(noise), x)


def _scaled(ball: Geometry, noise: Array, size: Array, x: Array) -> Array:
  """Noise whose size becomes eps, which the clipping to the box can but shorten."""
  return jnp.clip(x + expand(ball.eps / jnp.where(size > 0, size, 1.0), x) * noise, 0.0, 1.0)
