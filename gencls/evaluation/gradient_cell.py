"""The gradient that attacks follow, held against the loss: one small cell of an evaluation.

For every image, with g the gradient of the margin in x and short steps of length h along the unit
vector u of g, and along random signs,

  x± = clip(x ± h u),   predicted = ⟨g, x₊ − x₋⟩,   measured = margin(x₊) − margin(x₋).

Along random signs g is the mean of the gradients at midpoints of the segment from x₋ to x₊: their
integral is the change whatever the loss does on the way, where a deep model of many kinks bends
within the step. What the gradient at x alone says of it, which attacks that step so far go by, is
kept too.

Where part of the way from the input to the logits is detached, or is no function of the input that
can be differentiated, the two differ: attacks then climb another function than they are graded by.
Along g a part that is orthogonal to it goes unnoticed, however large it is. Along random signs the
mean square of measured − predicted is (2h)² / D times the squared length of what is missing of the
gradient, where nothing is clipped.

Of a model that thresholds its input no short step changes anything: its gradient stands for what
flips of pixels do. There the steps are flips of one pixel, that of the largest predicted gain and
random ones, predicted = ±g_i, and the margin is that to the nearest rival of x.

References:
  Carlini et al. 2019, arXiv:1902.06705, section 4 (gradients that are checked numerically).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks import norms
from gencls.attacks import objective as objectives
from gencls.attacks.broadcast import expand, pixels
from gencls.evaluation.batch_loop import Arrays, Turn, Work, over_batches
from gencls.evaluation.grading import attack_keys
from gencls.keys import fold
from gencls.types import Array, Goal, Keys, LogitsFn

STEP = 0.02  # h in ℓ2: far above the rounding of the loss, and short against any budget
# Random directions, and their h: the loss changes less along them, and its rounding does not.
DIRECTIONS, ASIDE = 8, 0.1
MIDPOINTS = 4  # of each segment along them
FLIPS = 32  # random ones: many pixels matter little


def gradient_cell(work: Work) -> tuple[Arrays, dict[str, Any]]:
  """What `probe` or `probe_flips` says of every image, float32; the header says the step."""
  protocol, subject = work.protocol, work.subject
  at = None if subject.attacked is None else subject.attacked[0].pixel_threshold

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    keys = attack_keys(protocol.threat, protocol.seed, batch.indices)
    given = (subject.attack_logits_fn, keys, jnp.asarray(batch.x), jnp.asarray(batch.labels))
    found = probe(*given) if at is None else probe_flips(*given, jnp.float32(at))
    return {name: np.asarray(value)[: batch.valid] for name, value in found.items()}

  return over_batches(work, "gradient", make), {} if at is not None else {"step": STEP}


@jax.jit
def probe(logits_fn: LogitsFn, keys: Keys, x: Array, labels: Array) -> dict[str, Array]:
  """ "gradient_norm" (NaN where not finite), "predicted" and "measured", each [B].

  As the module has them; "predicted_aside" and "measured_aside", [B, DIRECTIONS], are along random
  signs, "linear_aside" what the gradient at x predicts of them, and "correct" is whether the image
  is right under its key.

  Args:
    logits_fn: (keys, x) -> [B, C], a `jax.tree_util.Partial`.
    keys: [B].
    x: [B, H, W, D].
    labels: [B].
  """
  objective = objectives.build(logits_fn, loss="margin")
  first, labels = jnp.zeros(len(x), jnp.int32), labels.astype(jnp.int32)
  goal = Goal(labels, jnp.full_like(labels, -1))
  query = lambda x: objectives.query(objective, keys, first, x, goal)  # noqa: E731
  at = query(x)
  size = norms.l2(at.gradient)
  along = expand(STEP / jnp.where(size > 0, size, 1.0), x) * at.gradient
  draw = lambda key: jax.random.rademacher(key, (DIRECTIONS, *x.shape[1:]), x.dtype)  # noqa: E731
  aside = ASIDE / math.sqrt(x[0].size) * jax.vmap(draw)(fold(keys, "directions"))
  steps = jnp.concatenate([along[:, None], aside], axis=1)
  up, down = jnp.clip(x[:, None] + steps, 0.0, 1.0), jnp.clip(x[:, None] - steps, 0.0, 1.0)
  margin = lambda x: objective(keys, first, x, goal)[0]  # noqa: E731
  losses = _each(margin, jnp.concatenate([up, down], axis=1))
  measured = losses[:, : steps.shape[1]] - losses[:, steps.shape[1] :]
  linear = _dot(at.gradient[:, None], up - down)
  mean = _integral(lambda x: query(x).gradient, down[:, 1:], up[:, 1:])
  gradient = jnp.where(expand(at.nonfinite, x), jnp.nan, at.gradient)
  predicted = jnp.concatenate([linear[:, :1], mean], axis=1)
  found = _found(gradient, at.success, predicted, measured)
  return {**found, "linear_aside": linear[:, 1:]}


@jax.jit
def probe_flips(
  logits_fn: LogitsFn, keys: Keys, x: Array, labels: Array, threshold: Array
) -> dict[str, Array]:
  """The same of flips across the threshold; "…_aside" are [B, FLIPS], of random pixels."""
  labels = labels.astype(jnp.int32)[:, None]
  logits = logits_fn(keys, x)
  own = jnp.take_along_axis(logits, labels, axis=1)
  rival = jnp.argmax(jnp.where(jnp.arange(logits.shape[1])[None] == labels, -jnp.inf, logits), 1)

  def gap(x: Array) -> Array:  # to one rival: flips change which is the nearest
    pair = jnp.take_along_axis(logits_fn(keys, x), jnp.stack([rival, labels[:, 0]], axis=1), axis=1)
    return pair[:, 0] - pair[:, 1]

  value, pullback = jax.vjp(gap, x)
  (gradient,) = pullback(jnp.ones_like(value))
  bright = x >= threshold
  gain = (gradient * jnp.where(bright, -1.0, 1.0)).reshape(len(x), -1)
  draw = lambda key: jax.random.randint(key, (FLIPS,), 0, gain.shape[1])  # noqa: E731
  chosen = jnp.concatenate(
    [jnp.argmax(gain, axis=1)[:, None], jax.vmap(draw)(fold(keys, "directions"))], axis=1
  )
  flip = jax.nn.one_hot(chosen, gain.shape[1], dtype=bool).reshape(*chosen.shape, *x.shape[1:])
  flipped = jnp.where(flip, 1.0 - bright[:, None], x[:, None])
  measured = _each(gap, flipped) - value[:, None]
  success = jnp.max(logits, axis=1) > own[:, 0]
  return _found(gradient, success, jnp.take_along_axis(gain, chosen, axis=1), measured)


def _dot(gradient: Array, step: Array) -> Array:
  """[B, S] of steps [B, S, H, W, D]."""
  return jnp.sum(gradient * step, axis=pixels(step)[1:])


def _integral(gradient: Callable[[Array], Array], start: Array, end: Array) -> Array:
  """∫ ⟨gradient, dx⟩ along segments [B, S, H, W, D], by the midpoint rule: [B, S]."""
  times = (jnp.arange(MIDPOINTS) + 0.5) / MIDPOINTS
  over = lambda t: _dot(_each(gradient, start + t * (end - start)), end - start)  # noqa: E731
  return jnp.mean(jax.lax.map(over, times), axis=0)


def _each(function: Callable[[Array], Array], images: Array) -> Array:
  """[B, S] of images [B, S, H, W, D], one for each example at a time: as much memory as one."""
  return jnp.moveaxis(jax.lax.map(function, jnp.moveaxis(images, 1, 0)), 0, 1)


def _found(gradient: Array, success: Array, predicted: Array, measured: Array) -> dict[str, Array]:
  """The arrays of the cell, from changes [B, 1 + M] of which the first is along the gradient."""
  finite = jnp.all(jnp.isfinite(gradient), axis=pixels(gradient))
  return {
    "gradient_norm": jnp.where(finite, norms.l2(gradient), jnp.nan),
    "predicted": predicted[:, 0],
    "measured": measured[:, 0],
    "predicted_aside": predicted[:, 1:],
    "measured_aside": measured[:, 1:],
    "correct": jnp.float32(~success),
  }
