"""The gradient of a loss of a few logits, through these logits alone.

A generative classifier scores one class after the other, each by K passes of a decoder. A margin
is the difference of two scores: all C have to be computed to know which two, but a gradient has to
pass two only. Forward and backward then cost 1 + 2·2/C forward passes of all classes, and not 2
(1.4 for ten classes, 1.04 for a hundred), and only the few keep what the way back needs.

A logits function takes part if it has an argument `classes`: logits_fn(keys, x, classes=[B, M]) is
[B, M], the logits of these classes and no other number than without.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gencls.types import Array, Keys, Params


def takes_classes(logits: Callable[..., Array]) -> bool:
  """Whether a logits function gives some classes' logits alone: it has an argument `classes`."""
  try:
    return "classes" in inspect.signature(logits).parameters
  except (TypeError, ValueError):
    return False  # a callable that does not tell


def with_arguments_of(inner: Callable[..., Array], outer: Callable[..., Array]) -> Any:
  """A classifier's `outer` logits, which take `classes` only if the `inner` ones they call do.

  Args:
    inner: (params, keys, x), perhaps also (…, classes).
    outer: (params, keys, x, classes=None).

  Returns:
    `outer`, or the function of its first three arguments.
  """

  def of_all(params: Params, keys: Keys, x: Array) -> Array:
    return outer(params, keys, x)

  return outer if takes_classes(inner) else of_all


def through_few(
  logits_fn: Callable[..., Array],
  keys: Keys,
  x: Array,
  loss: Callable[[Array], Array],
  most: int,
) -> Array:
  """All logits, whose gradient passes only those that a loss depends on.

  Args:
    logits_fn: takes `classes`.
    keys: [B] typed keys.
    x: [B, H, W, D].
    loss: logits [B, C] -> [B], example by example.
    most: static; no example's loss has a gradient in more logits.

  Returns:
    [B, C]; gradients of `loss` of it in x are right, others are not.

  Raises:
    ValueError: while tracing, if `classes` is something else to the function.
  """
  logits = logits_fn(keys, jax.lax.stop_gradient(x))  # nothing to be differentiated is traced
  slope = jax.grad(lambda values: jnp.sum(loss(values)))(logits)
  classes = jax.lax.top_k(jnp.abs(slope), most)[1]
  few = logits_fn(keys, x, classes=classes)
  if few.shape != classes.shape:
    raise ValueError(
      f"logits_fn(keys, x, classes={list(classes.shape)}) must return the logits of these classes, "
      f"{list(classes.shape)}, got shape {few.shape}; give an argument of another meaning another "
      "name than classes"
    )
  rows = jnp.arange(len(x))[:, None]
  change = (few - jax.lax.stop_gradient(few)).astype(logits.dtype)  # zero, with a gradient
  return logits.at[rows, classes].add(change)
