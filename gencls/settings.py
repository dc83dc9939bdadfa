"""What a setting may be: its kind, as an annotation says it, and its range.

A fraction where a count is meant is cut off, a text or a NaN passes or fails far from where it was
written. Checked where settings are read, they are named with the value that is wrong.
"""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Union, get_args, get_origin

import jax
import numpy as np

MAX_SEED = 2**32 - 1  # Threefry takes no more bits: a larger one would be another one again


def _number(kind: type) -> Callable[[Any], bool]:
  # An array of JAX is a leaf, and may be traced.
  return lambda v: isinstance(v, kind | jax.Array) and not isinstance(v, bool)


_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
  bool: ("True or False", lambda v: isinstance(v, bool | np.bool_)),
  int: ("an integer", _number(Integral)),
  float: ("a number", _number(Real)),
  str: ("a text", lambda v: isinstance(v, str)),
  type(None): ("None", lambda v: v is None),
  float | None: ("a number or None", lambda v: v is None or _number(Real)(v)),
}
_SEVERAL: dict[Any, str] = {
  int: "integers",
  float: "numbers",
  str: "texts",
  float | None: "numbers or None",
}


def annotations(factory: Callable[..., Any]) -> dict[str, Any]:
  """Name -> annotation of the parameters of a function."""
  return {name: p.annotation for name, p in inspect.signature(factory).parameters.items()}


def check_kinds(given: Mapping[str, Any], kinds: Mapping[str, Any], where: str = "") -> None:
  """Raises ValueError for a value that is not of its kind.

  Args:
    given: name -> value.
    kinds: name -> annotation. Of bool, int, float, str, None, tuples or sequences of one of them,
      and unions of these; what has another annotation, or none, is not looked at.
    where: before the names in messages, as "train.".
  """
  for name, value in given.items():
    kind = kinds.get(name, Any)
    union = get_origin(kind) in (Union, types.UnionType)
    known = [_known(part) for part in (get_args(kind) if union else (kind,))]
    if None not in known and not any(fits(value) for _, fits in known if fits):
      words = " or ".join(words for words, _ in known)
      raise ValueError(f"{where}{name} must be {words}, got {value!r}")


def _known(kind: Any) -> Any:
  """(words, whether a value is one) of an annotation; None for others."""
  if kind in _KINDS:
    return _KINDS[kind]
  item = next(iter(get_args(kind)), None)
  if get_origin(kind) not in (tuple, list, Sequence) or item not in _SEVERAL:
    return None
  return f"a tuple of {_SEVERAL[item]}", lambda v: (
    isinstance(v, tuple | list) and all(_KINDS[item][1](each) for each in v)
  )


def check_finite(given: Mapping[str, Any], where: str = "") -> None:
  """Raises ValueError for a number, alone or in a tuple, that is NaN or infinite."""
  for name, value in given.items():
    for each in value if isinstance(value, tuple | list) else (value,):
      if isinstance(each, float | np.floating) and not math.isfinite(each):
        raise ValueError(f"{where}{name} must be finite, got {value}")


def check_32_bits(given: Mapping[str, Any], where: str = "") -> None:
  """Raises ValueError for a number that no array of JAX's default types holds."""
  for name, value in given.items():
    whole = isinstance(value, Integral) and abs(int(value)) > np.iinfo(np.int32).max
    large = isinstance(value, float) and float(np.finfo(np.float32).max) < abs(value) < math.inf
    if whole or large:
      raise ValueError(f"{where}{name} must fit into 32 bits, got {value}")


def at_least(minimum: float, **values: Any) -> None:
  """Raises ValueError for a named value below the minimum; None is none."""
  for name, value in values.items():
    if value is not None and value < minimum:
      raise ValueError(f"{name} must be >= {minimum}, got {value}")


def check_seed(seed: Any) -> None:
  """Raises ValueError for what is no seed."""
  check_kinds({"seed": seed}, {"seed": int})
  if not 0 <= seed <= MAX_SEED:
    raise ValueError(f"seed must be between 0 and {MAX_SEED}, got {seed}")
