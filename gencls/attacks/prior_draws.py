"""The images that a decoder draws from its prior, and which of them are near."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gencls.keys import fold
from gencls.types import Array, Key, Keys

DecodeFn = Callable[[Keys, Array, Array], Array]  # (keys [B], z [B, L], y [B]) -> images


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sizes:
  """Numbers that shapes depend on: static, where others are leaves."""

  latent_size: int
  num_classes: int
  num_restarts: int


def nearest_draws(
  keys: Keys,
  x: Array,
  decode: DecodeFn,
  norm: Callable[[Array], Array],
  sizes: Sizes,
  num_draws: Array,
) -> tuple[Array, Array]:
  """For every class, of some draws z ~ N(0, I) the one whose image is nearest to x.

  Args:
    keys: [B] typed keys.
    x: [B, H, W, D].
    decode: of z and class, clipped to the box.
    norm: (delta [B, ...]) -> [B].
    sizes: latent size and number of classes.
    num_draws: [] int32, draws per class, shared by the classes of an example as in the CVAE.

  Returns:
    (z [B, C, L], its distance [B, C], inf where no image was finite).
  """
  latent_size, num_classes = sizes.latent_size, sizes.num_classes
  repeated = jnp.repeat(keys, num_classes)
  y = jnp.tile(jnp.arange(num_classes, dtype=jnp.int32), len(x))

  def normal(key: Key) -> Array:
    return jax.random.normal(key, (1, latent_size))

  # One draw at a time: B·C images of a decoder are many.
  def draw(m: Array, nearest: tuple[Array, Array]) -> tuple[Array, Array]:
    z = jnp.repeat(jax.vmap(normal)(fold(keys, "latent", m)), num_classes, axis=1)
    images = jnp.clip(decode(repeated, z.reshape(-1, latent_size), y), 0.0, 1.0)
    images = images.reshape(len(x), num_classes, *x.shape[1:])
    distance = jax.vmap(norm, in_axes=1, out_axes=1)(images - x[:, None])
    nearer = distance < nearest[1]  # not where it is NaN
    return jnp.where(nearer[:, :, None], z, nearest[0]), jnp.where(nearer, distance, nearest[1])

  shape = (len(x), num_classes)
  nothing = jnp.zeros((*shape, latent_size), x.dtype), jnp.full(shape, jnp.inf, x.dtype)
  return jax.lax.fori_loop(0, num_draws, draw, nothing)
