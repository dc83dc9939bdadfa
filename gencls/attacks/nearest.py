"""The nearest success so far, which is the result of every attack of minimum norm."""

from typing import NamedTuple

import jax.numpy as jnp

from gencls.attacks.broadcast import choose
from gencls.types import Array


class Nearest(NamedTuple):
  """The nearest success of each example."""

  x_adv: Array  # [B, H, W, D], x where there is none
  distance: Array  # [B], +inf where there is none


def none_yet(x: Array) -> Nearest:
  """No success."""
  return Nearest(x_adv=x, distance=jnp.full(x.shape[:1], jnp.inf, x.dtype))


def keep(nearest: Nearest, hit: Array, x_adv: Array, distance: Array) -> Nearest:
  """With the images that are successes and nearer than what there was.

  Args:
    nearest: what there was.
    hit: [B] bool, whether `x_adv` is a success.
    x_adv: [B, H, W, D].
    distance: [B], from x, in the attack's norm.

  Returns:
    The nearer of the two.
  """
  nearer = hit & (distance < nearest.distance)
  return choose(nearer, Nearest(x_adv, distance), nearest)
