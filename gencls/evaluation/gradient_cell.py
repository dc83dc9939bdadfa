"""The gradient that attacks follow, held against the loss: one small cell of an evaluation.

For every image, with g the gradient of the margin in x and short steps of length h along the unit
vector u of g, and along random signs,

  x± = clip(x ± h u),   predicted = ⟨g, x₊ − x₋⟩,   measured = margin(x₊) − margin(x₋).

Where part of the way from the input to the logits is detached, or is no function of the input that
can be differentiated, the two differ: attacks then climb another function than they are graded by.
Along g a part that is orthogonal to it goes unnoticed, however large it is. Along random signs the
mean square of measured − predicted is (2h)² / D times that of what is missing of the gradient.

References:
  Carlini et al. 2019, arXiv:1902.06705, section 4 (gradients that are checked numerically).
"""

import math
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


def gradient_cell(work: Work) -> tuple[Arrays, dict[str, Any]]:
  """What `probe` says of every image, float32; the header says the step."""
  protocol, subject = work.protocol, work.subject

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    keys = attack_keys(protocol.threat, protocol.seed, batch.indices)
    found = probe(subject.attack_logits_fn, keys, jnp.asarray(batch.x), jnp.asarray(batch.labels))
    return {name: np.asarray(value)[: batch.valid] for name, value in found.items()}

  return over_batches(work, "gradient", make), {"step": STEP}


@jax.jit
def probe(logits_fn: LogitsFn, keys: Keys, x: Array, labels: Array) -> dict[str, Array]:
  """ "gradient_norm" (NaN where not finite), "predicted" and "measured", each [B].

  As the module has them; "predicted_aside" and "measured_aside", [B, DIRECTIONS], are along random
  signs, and "correct" is whether the image is right under its key.

  Args:
    logits_fn: (keys, x) -> [B, C], a `jax.tree_util.Partial`.
    keys: [B].
    x: [B, H, W, D].
    labels: [B].
  """
  objective = objectives.build(logits_fn, loss="margin")
  first, labels = jnp.zeros(len(x), jnp.int32), labels.astype(jnp.int32)
  goal = Goal(labels, jnp.full_like(labels, -1))
  at = objectives.query(objective, keys, first, x, goal)
  size = norms.l2(at.gradient)
  along = expand(STEP / jnp.where(size > 0, size, 1.0), x) * at.gradient
  draw = lambda key: jax.random.rademacher(key, (DIRECTIONS, *x.shape[1:]), x.dtype)  # noqa: E731
  aside = ASIDE / math.sqrt(x[0].size) * jax.vmap(draw)(fold(keys, "directions"))
  steps = jnp.concatenate([along[:, None], aside], axis=1)
  up, down = jnp.clip(x[:, None] + steps, 0.0, 1.0), jnp.clip(x[:, None] - steps, 0.0, 1.0)
  losses, _ = objectives.candidates(
    objective, keys, first, jnp.concatenate([up, down], axis=1), goal
  )
  predicted = jnp.sum(at.gradient[:, None] * (up - down), axis=pixels(up)[1:])
  measured = losses[:, : 1 + DIRECTIONS] - losses[:, 1 + DIRECTIONS :]
  return {
    "gradient_norm": jnp.where(at.nonfinite, jnp.nan, size),
    "predicted": predicted[:, 0],
    "measured": measured[:, 0],
    "predicted_aside": predicted[:, 1:],
    "measured_aside": measured[:, 1:],
    "correct": jnp.float32(~at.success),
  }
