"""The momentum iterative method: PGD from the image itself, along a sum of normalised gradients.

  g_{t+1} = decay · g_t + ∇ loss(x_t) / mean |∇ loss(x_t)|,
  x_{t+1} = project(x_t + step_size · steepest(g_{t+1})).

It is a preset of `pgd` with its own rule. The authors divide by the ℓ1 norm and the usual
implementations by the mean, which differ by a constant factor: no step depends on it.

References:
  Dong et al. 2018, arXiv:1710.06081.
"""

import math
from typing import Any

import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gencls.attacks.pgd import pgd
from gencls.types import Array, Attack, Objective


def mim(
  objective: Objective,
  *,
  norm: str = "linf",
  eps: float,
  num_steps: int = 10,
  step_size: float | None = None,
  decay: float = 1.0,
  early_stop: bool | None = None,
  keep_best: bool = True,
) -> Attack:
  """The momentum iterative fast gradient method (MI-FGSM).

  Args:
    objective: what to maximise, see `objective.build`.
    norm: a name in `geometry.GEOMETRIES`.
    eps: radius of the ball.
    num_steps: moves, >= 1.
    step_size: length of a move in the units of eps; default eps / num_steps.
    decay: what is left of the sum of gradients after a step, >= 0.
    early_stop: whether an example is done at its first success; None: under fixed randomness only.
    keep_best: whether the result is the success of the largest loss, where there is one, or always
      the last iterate (which needs early_stop=False).

  Returns:
    An `Attack` of num_steps + 1 steps.

  Raises:
    ValueError: if a name is unknown or a number is out of its range.
  """
  if not (math.isfinite(decay) and decay >= 0):
    raise ValueError(f"decay must be a finite number >= 0, got {decay}")
  return pgd(
    objective,
    norm=norm,
    eps=eps,
    num_steps=num_steps,
    step_size=step_size,
    rel_step_size=1.0 / max(num_steps, 1) if step_size is None else None,
    random_start=False,
    early_stop=early_stop,
    keep_best=keep_best,
    rule=optax.GradientTransformation(
      Partial(jnp.zeros_like), Partial(_accumulate, jnp.float32(decay))
    ),
  )


def _accumulate(decay: Array, gradient: Any, total: Any, params: Any = None) -> tuple[Any, Any]:
  """One example's rule: optax's (updates, state, params) -> (updates, state)."""
  del params
  # By the largest entry first, so that neither the sum nor the quotient leaves the floats.
  largest = jnp.max(jnp.abs(gradient))
  scaled = gradient / jnp.where(largest > 0, largest, 1.0)
  total = decay * total + scaled / jnp.where(largest > 0, jnp.mean(jnp.abs(scaled)), 1.0)
  return total, total
