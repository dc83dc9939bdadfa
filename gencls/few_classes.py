"""Logits of some classes alone, where these cost less than all.

A generative classifier scores one class after the other, each by K passes of a decoder, and a
margin is the difference of two scores. A logits function that has an argument `classes` gives the
logits of these: logits_fn(keys, x, classes=[B, M]) is [B, M], and no other number than without.
`attacks.through_few` is what it is for.
"""

import inspect
from collections.abc import Callable

from gencls.types import Array, Keys, Params


def takes_classes(logits: Callable[..., Array]) -> bool:
  """Whether a logits function gives some classes' logits alone: it has an argument `classes`."""
  try:
    return "classes" in inspect.signature(logits).parameters
  except (TypeError, ValueError):
    return False  # a callable that does not tell


def after(
  logits: Callable[..., Array], before: Callable[[Keys, Array], Array]
) -> Callable[..., Array]:
  """A classifier's logits of `before`(keys, x), which take `classes` where they do themselves.

  Args:
    logits: (params, keys, x), perhaps also `classes`.
    before: what becomes of the images.

  Returns:
    A function of the same arguments; what they are can also be asked of it through
    `jax.tree_util.Partial`.
  """

  def of_all(params: Params, keys: Keys, x: Array) -> Array:
    return logits(params, keys, before(keys, x))

  def of_some(params: Params, keys: Keys, x: Array, classes: Array | None = None) -> Array:
    some = {} if classes is None else {"classes": classes}
    return logits(params, keys, before(keys, x), **some)

  return of_some if takes_classes(logits) else of_all
