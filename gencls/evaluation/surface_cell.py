"""The margin over a plane through an image, for a few images: what attacks climb, to be looked at.

The plane is spanned by t, the signs of the margin's input gradient, and r, a random direction
orthogonal to it (Rademacher, its part along t removed), both of size 1 in ℓ∞:

  margin(clip(x + α t + β r)),   α, β in [−eps, eps].

A sound model rises evenly along t. A surface that is flat at x, or jagged, or as high along r as
along t says that the gradient leads attacks nowhere.

References:
  Engstrom et al. 2018, arXiv:1807.10272 (loss landscapes of a defence that was broken); Carlini et
  al. 2019, arXiv:1902.06705.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks import objective as objectives
from gencls.attacks.broadcast import expand, pixels
from gencls.attacks.norms import linf
from gencls.evaluation.batch_loop import Arrays, Turn, Work, over_batches, size_of_batches
from gencls.evaluation.grading import attack_keys
from gencls.keys import fold
from gencls.types import Array, Goal, Keys, LogitsFn


class Surface(NamedTuple):
  """How much of the loss surface is looked at."""

  num_images: int = 4  # the first ones
  eps: float = 0.3  # the plane reaches so far, in ℓ∞
  points: int = 21  # along each axis, odd: the image itself is in the middle


def check_surface(surface: Surface) -> None:
  """Raises ValueError where there is nothing to look at."""
  if surface.num_images < 1:
    raise ValueError(f"surface.num_images must be >= 1, got {surface.num_images}")
  if not (math.isfinite(surface.eps) and surface.eps > 0):
    raise ValueError(f"surface.eps must be a finite number > 0, got {surface.eps}")
  if surface.points < 3 or surface.points % 2 == 0:
    raise ValueError(
      f"surface.points must be odd and >= 3, so that the image is in the middle, got "
      f"{surface.points}"
    )


def surface_cell(work: Work, surface: Surface) -> tuple[Arrays, dict[str, Any]]:
  """ "margin", [M, P, P] of the images of `work`, rows along t; the header says how far."""
  protocol, subject = work.protocol, work.subject

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    keys = attack_keys(protocol.threat, protocol.seed, batch.indices)
    x, y = jnp.asarray(batch.x), jnp.asarray(batch.labels)
    found = np.asarray(
      margins(subject.attack_logits_fn, keys, x, y, jnp.float32(surface.eps), surface.points)
    )
    middle = surface.points // 2
    return {"margin": found, "correct": np.asarray(found[:, middle, middle] <= 0, np.float32)}

  # As few images at once as the evaluation's memory has room for, every one with its plane.
  size = size_of_batches(work.dataset, protocol.batch_size) // surface.points**2
  smaller = work._replace(protocol=protocol._replace(batch_size=max(1, size)))
  return over_batches(smaller, "surface", make), {"surface": surface._asdict()}


@functools.partial(jax.jit, static_argnames="points")
def margins(
  logits_fn: LogitsFn, keys: Keys, x: Array, labels: Array, eps: Array, points: int
) -> Array:
  """The margin max_{c≠y} z_c − z_y over the plane, in one model call.

  Args:
    logits_fn: (keys, x) -> [B, C], a `jax.tree_util.Partial`; every point of an image has its key.
    keys: [B].
    x: [B, H, W, D].
    labels: [B].
    eps: how far the plane reaches.
    points: P, static.

  Returns:
    [B, P, P] nats, positive where misclassified; rows along the gradient's signs.
  """
  objective = objectives.build(logits_fn, loss="margin")
  first, labels = jnp.zeros(len(x), jnp.int32), labels.astype(jnp.int32)
  goal = Goal(labels, jnp.full_like(labels, -1))
  toward = jnp.sign(objectives.query(objective, keys, first, x, goal).gradient)
  across = orthogonal(fold(keys, "surface"), toward)
  at = jnp.linspace(-eps, eps, points)
  along, aside = (expand(v.ravel(), x)[None] for v in jnp.meshgrid(at, at, indexing="ij"))
  plane = jnp.clip(x[:, None] + along * toward[:, None] + aside * across[:, None], 0.0, 1.0)
  losses, _ = objectives.candidates(objective, keys, first, plane, goal)
  return losses.reshape(len(x), points, points)


def orthogonal(keys: Keys, direction: Array) -> Array:
  """[B, …] random signs without their part along `direction`, of size 1 in ℓ∞."""
  shape = direction.shape[1:]
  signs = jax.vmap(lambda key: jax.random.rademacher(key, shape, direction.dtype))(keys)
  along = jnp.sum(signs * direction, axis=pixels(direction))
  size = jnp.sum(direction**2, axis=pixels(direction))
  rest = signs - expand(along / jnp.maximum(size, 1.0), direction) * direction
  return rest / expand(jnp.maximum(linf(rest), 1e-6), direction)
