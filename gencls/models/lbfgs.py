"""L-BFGS with a line search, for smooth objectives over all data at once."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gencls.settings import at_least
from gencls.types import Array, Params

_LOG = logging.getLogger(__name__)


class Minimum(NamedTuple):
  """Where L-BFGS stopped."""

  params: Params
  value: float
  gradient_norm: float  # largest absolute entry
  iterations: int
  converged: bool  # the gradient is within the tolerance

  def metrics(self) -> dict[str, float]:
    """How the minimisation went, as fits tell it."""
    return {
      "iterations": float(self.iterations),
      "converged": float(self.converged),
      "largest_derivative": self.gradient_norm,
    }


def minimise(
  objective: Callable[..., Array],
  params: Params,
  *arguments: Any,
  max_iterations: int = 500,
  tolerance: float = 1e-4,
  memory: int = 20,
) -> Minimum:
  """The minimum of objective(params, *arguments); compiled here, once for one objective.

  Args:
    objective: maps params and `arguments` to a scalar; smooth.
    params: pytree of float arrays, the start.
    *arguments: pytrees of arrays, leaves of the compiled program.
    max_iterations: at most so many; a warning is logged where they are not enough.
    tolerance: stops when no entry of the gradient is larger.
    memory: pairs of steps and gradients that are kept.

  Returns:
    A `Minimum`.

  Raises:
    ValueError: if `max_iterations` < 1.
    FloatingPointError: if the objective or its gradient is not finite.

  References:
    Liu, Nocedal 1989, Math. Programming 45.
  """
  at_least(1, max_iterations=max_iterations, memory=memory)
  found, loss, norm, iterations = _run(
    objective, params, arguments, jnp.int32(max_iterations), jnp.float32(tolerance), memory=memory
  )
  if not jnp.isfinite(loss):
    raise FloatingPointError(f"L-BFGS's objective is {loss} in iteration {iterations}")
  if not jnp.isfinite(norm):
    raise FloatingPointError(
      f"the largest derivative of L-BFGS's objective is {norm} in iteration {iterations}"
    )
  converged = bool(norm <= jnp.float32(tolerance))
  if not converged:
    _LOG.warning(
      "L-BFGS ended at max_iterations=%d with a derivative of %.2g, above the tolerance %g: allow "
      "more iterations, or a larger tolerance",
      *(max_iterations, float(norm), tolerance),
    )
  return Minimum(found, float(loss), float(norm), int(iterations), converged)


@functools.partial(jax.jit, static_argnames=("objective", "memory"))
def _run(
  objective: Callable[..., Array],
  params: Params,
  arguments: tuple[Any, ...],
  max_iterations: Array,
  tolerance: Array,
  *,
  memory: int,
) -> tuple[Params, Array, Array, Array]:
  optimizer = optax.lbfgs(memory_size=memory)

  def value(params: Params) -> Array:
    return objective(params, *arguments)

  value_and_grad = optax.value_and_grad_from_state(value)

  def step(carry: Any) -> Any:
    params, state, iteration, _, _ = carry
    loss, grad = value_and_grad(params, state=state)
    change, state = optimizer.update(grad, state, params, value=loss, grad=grad, value_fn=value)
    params = optax.apply_updates(params, change)
    # The line search has computed them at the new point.
    loss, grad = optax.tree.get(state, "value"), optax.tree.get(state, "grad")
    return params, state, iteration + 1, loss, optax.tree.norm(grad, ord=jnp.inf)

  def unfinished(carry: Any) -> Array:
    _, _, iteration, loss, norm = carry
    return (iteration < max_iterations) & (norm > tolerance) & jnp.isfinite(loss)

  start = (params, optimizer.init(params), jnp.int32(0), jnp.float32(0), jnp.float32(jnp.inf))
  params, _, iteration, loss, norm = jax.lax.while_loop(unfinished, step, start)
  return params, loss, norm, iteration
