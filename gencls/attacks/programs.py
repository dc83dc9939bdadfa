"""The compiled programs that `run` drives.

They are module-level and take the attack's functions as arguments, whose leaves are parameters and
numbers: another eps, step size or parameter set of the same shapes does not compile again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks import checks
from gencls.types import Array, Goal, Info, Keys


class Tally(NamedTuple):
  """What happened to each example while it was attacked."""

  loss: Array  # [B] float32, the last one evaluated; NaN before the first
  success: Array  # [B] bool, some evaluated iterate succeeded
  done: Array  # [B] bool, the attack had nothing left to gain
  nonfinite: Array  # [B] int32, steps whose loss or gradient was not finite
  zero_gradient: Array  # [B] int32, steps of an exactly zero gradient, but the success at the end
  num_steps: Array  # [B] int32, steps spent on the example
  forward: Array  # [B] int32, forward passes spent on it, of the objective (each its eot_samples)
  backward: Array  # [B] int32, backward passes spent on it


def no_tally(num: int) -> Tally:
  """The tally before the first step, as NumPy arrays."""
  fill: Any = np.full
  zeros: Any = functools.partial(np.zeros, num)
  return Tally(
    loss=fill(num, np.nan, np.float32),
    success=zeros(bool),
    done=zeros(bool),
    nonfinite=zeros(np.int32),
    zero_gradient=zeros(np.int32),
    num_steps=zeros(np.int32),
    forward=zeros(np.int32),
    backward=zeros(np.int32),
  )


@jax.jit
def take(tree: Any, rows: Array) -> Any:
  """The examples `rows` of every leaf."""
  return jax.tree.map(lambda leaf: leaf[rows], tree)


# A call of a program costs a third of `jax.device_put` where there are many small leaves.
@jax.jit
def to_device(tree: Any) -> Any:
  """The same with JAX arrays as leaves."""
  return tree


@jax.jit
def result(of: Callable[[Any], Array], state: Any) -> Array:
  """What the attack has found so far, [B, H, W, D]."""
  return of(state)


# Jitted so that no leaf of the state is the caller's x, which must not be donated.
@jax.jit
def start(init: Any, keys: Keys, x: Array, goal: Goal, tally: Tally) -> tuple[Any, Tally]:
  """The attack's first state, and the tally that its counts go on from."""
  state = init(keys, x, goal)
  checks.batch_axis(state, len(x))
  return state, tally


def _step(step: Any, keys: Keys, state: Any, tally: Tally, max_queries: Array) -> tuple[Any, Tally]:
  """One step of the examples that are not done; the others stay as they are."""
  new, info = step(keys, state)
  checks.same_state(state, new)
  checks.info(info, len(tally.done))
  live = ~tally.done

  def if_live(after: Array, before: Array) -> Array:
    return jnp.where(jnp.reshape(live, (-1,) + (1,) * (after.ndim - 1)), after, before)

  return jax.tree.map(if_live, new, state), _count(tally, info, live, max_queries)


def _count(tally: Tally, info: Info, live: Array, max_queries: Array) -> Tally:
  forward = tally.forward + jnp.where(live, info.forward, 0)
  backward = tally.backward + jnp.where(live, info.backward, 0)
  return Tally(
    loss=jnp.where(live, info.loss, tally.loss),
    success=tally.success | (live & info.success),
    done=tally.done | info.done | (forward + backward >= max_queries),
    nonfinite=tally.nonfinite + (live & info.nonfinite).astype(jnp.int32),
    # The success that ends an example needs none: the DLR is flat where the label comes third.
    zero_gradient=tally.zero_gradient
    + (live & info.zero_gradient & ~(info.success & info.done)).astype(jnp.int32),
    num_steps=tally.num_steps + live.astype(jnp.int32),
    forward=forward,
    backward=backward,
  )


# The tally is small and the host looks at it: only the state is donated.
one_step = functools.partial(jax.jit, donate_argnames="state")(_step)


# Not a scan: with a traced number of steps one program serves every length, and it can stop early.
@functools.partial(jax.jit, donate_argnames="state")
def many_steps(
  step: Any, keys: Keys, state: Any, tally: Tally, max_queries: Array, num_steps: Array
) -> tuple[Any, Tally]:
  """`num_steps` steps, fewer when all examples are done; the state is donated."""

  def unfinished(carry: Any) -> Array:
    return (carry[0] < num_steps) & ~jnp.all(carry[2].done)

  def body(carry: Any) -> Any:
    made, state, tally = carry
    return made + 1, *_step(step, keys, state, tally, max_queries)

  return jax.lax.while_loop(unfinished, body, (jnp.int32(0), state, tally))[1:]
