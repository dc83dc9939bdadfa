"""The shapes that a function returns, traced once for each structure of its arguments.

`jax.eval_shape` looks through its arguments and abstracts them anew at every call, which costs more
than the rest of a short attack's bookkeeping.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def shapes_of(function: Callable[..., Any], *args: Any) -> Any:
  """What `function(*args)` returns, as `jax.ShapeDtypeStruct`s.

  Args:
    function: whose answer depends on shapes and dtypes alone; a `jax.tree_util.Partial` or a
      function of the module level, so that it is found again.
    *args: pytrees of arrays.
  """
  leaves, structure = jax.tree.flatten((function, args))
  return _shapes_of(structure, tuple((np.shape(leaf), _dtype(leaf)) for leaf in leaves))


def _dtype(leaf: Any) -> Any:
  return leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf)


@functools.lru_cache(maxsize=64)
def _shapes_of(structure: Any, kinds: tuple[tuple[tuple[int, ...], Any], ...]) -> Any:
  function, args = structure.unflatten(jax.ShapeDtypeStruct(*kind) for kind in kinds)
  return jax.eval_shape(lambda call, given: call(*given), function, args)
