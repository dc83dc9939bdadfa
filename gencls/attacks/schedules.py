"""Schedules: the share of a step size by the share of the moves already made, [B] -> [B]."""

import jax.numpy as jnp

from gencls.types import Array


def constant(progress: Array) -> Array:
  """1."""
  return jnp.ones_like(progress)


def cosine(progress: Array) -> Array:
  """From 1 to 0 along half a wave."""
  return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


SCHEDULES = {"constant": constant, "cosine": cosine}
