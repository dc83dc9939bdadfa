"""What `run` refuses: wrong inputs before anything is computed, broken attacks while tracing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_structure

from gencls import images
from gencls.attacks.losses import TARGETED_MIN_CLASSES
from gencls.attacks.objective import is_fresh
from gencls.attacks.shapes import shapes_of
from gencls.types import Array, Attack, Goal, Info, Keys


def inputs(
  attack: Attack, keys: Any, x: Any, y: Any, target: Any, start: Any
) -> tuple[Keys, Array, Goal]:
  """Checks and converts the arguments of `run`.

  Returns:
    (keys [B], x [B, H, W, D] float32, goal).

  Raises:
    ValueError: with the rule that is broken and the value that breaks it.
  """
  x = images.checked("x", x)
  num = len(x)
  if start is not None:
    start = images.checked("start", start)
    if start.shape != x.shape:
      raise ValueError(f"start must have the shape of x, {x.shape}, got {start.shape}")
  if not (
    hasattr(keys, "dtype")
    and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    and keys.shape == (num,)
  ):
    raise ValueError(
      f"keys must be [{num}] typed keys, one per example (gencls.example_keys), got "
      f"{getattr(keys, 'dtype', type(keys))} of shape {np.shape(keys)}"
    )
  label = _classes("y", y, num, least=0)
  aim = np.full(num, -1, np.int32) if target is None else _classes("target", target, num, least=-1)
  same = np.flatnonzero(aim == label)
  if same.size:
    raise ValueError(
      f"target must differ from the label (-1 is untargeted); they are equal for {same.size} of "
      f"{num} examples, first at {same[0]} (class {label[same[0]]})"
    )
  _check_classes(attack, keys, x, label, aim)
  # Of a cascade the judge decides, which has the clean image as its first candidate.
  objective = getattr(attack.step, "keywords", {}).get("objective")
  clean = x if objective is not None and is_fresh(objective) else None
  return keys, x, Goal(jnp.asarray(label), jnp.asarray(aim), start, clean)


def _classes(name: str, values: Any, num: int, least: int) -> np.ndarray:
  values = np.asarray(values)
  if values.shape != (num,) or not (np.issubdtype(values.dtype, np.integer) or not num):
    raise ValueError(f"{name} must be [{num}] integers, got {values.dtype} of shape {values.shape}")
  if num and values.min() < least:
    raise ValueError(
      f"{name} must be >= {least}, got {values.min()} at {np.argmin(values)}; labels count from 0"
      + (", -1 is untargeted" if least < 0 else "")
    )
  return values.astype(np.int32)


def _check_classes(attack: Attack, keys: Keys, x: Array, label: Any, aim: Any) -> None:
  """Labels and targets against the number of classes, where the model can be found."""
  objective = getattr(attack.step, "keywords", {}).get("objective")
  parts = getattr(objective, "keywords", {})
  if "logits_fn" not in parts or not len(x):
    return
  # One example: the answer does not depend on the batch, and the trace is kept.
  one = [jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype) for a in (keys, x)]
  shape = shapes_of(parts["logits_fn"], *one).shape
  if len(shape) not in (2, 3) or shape[0] != 1:
    raise ValueError(
      f"logits_fn must return [B, C], or log weights [B, C, K], got {shape} for one example"
    )
  for name, values in (("y", label), ("target", aim)):
    if values.max() >= shape[1]:
      raise ValueError(
        f"{name} must be < {shape[1]}, the number of logits, got {values.max()} at "
        f"{np.argmax(values)}; map the classes to 0 .. {shape[1] - 1}"
      )
  loss = getattr(parts.get("loss"), "func", None)
  least = TARGETED_MIN_CLASSES.get(loss, 2) if loss is not None else 2
  if np.any(aim >= 0) and shape[1] < least:
    raise ValueError(
      f"a targeted {getattr(loss, '__name__', loss)} needs at least {least} classes, got "
      f"{shape[1]}; use loss='margin'"
    )


def batch_axis(state: Any, num: int) -> None:
  """Checks (while tracing) that every leaf of a state has the batch as its leading axis."""
  for path, leaf in tree_flatten_with_path(state)[0]:
    shape = jnp.shape(leaf)
    if not shape or shape[0] != num:
      raise ValueError(
        f"every leaf of an attack's state needs the batch ({num}) as leading axis, but "
        f"state{keystr(path)} has shape {shape}; broadcast it to one value per example"
      )


def same_state(old: Any, new: Any) -> None:
  """Checks (while tracing) that `step` returned the state's structure, shapes and types."""
  if tree_structure(old) != tree_structure(new):
    raise ValueError(
      "an attack's step must return a state of the structure it was given, got "
      f"{tree_structure(new)} for {tree_structure(old)}"
    )
  leaves = zip(tree_flatten_with_path(old)[0], jax.tree.leaves(new), strict=True)
  for (path, before), after in leaves:
    was, now = _kind(before), _kind(after)
    if was != now:
      raise ValueError(
        f"an attack's step must keep shapes, dtypes and weak types, but state{keystr(path)} "
        f"went from {was} to {now}; cast it in init or step"
      )


def _kind(leaf: Any) -> str:
  kind = jax.typeof(leaf)
  return f"{kind.dtype}{list(kind.shape)}{' (weak)' if getattr(kind, 'weak_type', False) else ''}"


def info(value: Info, num: int) -> None:
  """Checks (while tracing) that every field of an `Info` has one value per example."""
  for name, field in zip(value._fields, value, strict=True):
    if jnp.shape(field) != (num,):
      raise ValueError(f"Info.{name} must be [{num}], got shape {jnp.shape(field)}")
