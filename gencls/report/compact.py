"""A long tree of JSON in fewer characters, and back: columns for rows, and what repeats once.

  [{"eps": 0.1, "n": 5}, {"eps": 0.2, "n": 5}]   [{"$columns": {"eps": [0.1, 0.2], "n": [5, 5]}}]
  long objects and lists that stand twice        {"$ref": "#/$shared/3"}, and "$shared": [...]

Columns stand in the list in the place of neighbours that have the same keys. Pointers are JSON
pointers (RFC 6901). Nothing is lost, not even the order of keys.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COLUMNS, SHARED, REF = "$columns", "$shared", "$ref"
_POINTER = f"#/{SHARED}/"
_LONG = 80  # characters; what is shorter is no shorter as a pointer


def check(tree: Any) -> None:
  """Refuses what `unpack` would take for its own.

  Raises:
    ValueError: if a key is "$columns", "$ref" or "$shared".
  """
  if isinstance(tree, Mapping) and (taken := tree.keys() & {COLUMNS, REF, SHARED}):
    raise ValueError(
      f"{', '.join(sorted(taken))} must not be a field of results, nor a model's title: rename it"
    )
  if _nested(tree):
    for child in _children(tree):
      check(child)


def pack(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The tree, which passes `check`, shorter where it is long; `unpack` is the inverse."""
  return _share({name: _columns(value) for name, value in tree.items()})


def unpack(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The tree that `pack` was given; one that it has not packed stays as it is.

  Raises:
    ValueError: if columns differ in length or stand in no list, or a pointer leads nowhere or back
      to itself.
  """
  return {name: _rows(value) for name, value in _resolve(tree).items()}


def _columns(node: Any) -> Any:
  """With columns in the place of neighbours in a list that have the same keys."""
  if isinstance(node, Mapping):
    return {name: _columns(value) for name, value in node.items()}
  if not isinstance(node, list | tuple):
    return node
  found: list[Any] = []
  for keys, rows in itertools.groupby(node, lambda each: isinstance(each, Mapping) and tuple(each)):
    group = list(rows)
    if not keys or len(group) < 2:
      found += [_columns(each) for each in group]
    else:
      columns = {k: _columns([each[k] for each in group]) for k in group[0]}
      found.append({COLUMNS: columns})
  return found


def _rows(node: Any) -> Any:
  """What `_columns` was given."""
  if isinstance(node, dict):
    if COLUMNS in node:
      raise ValueError("columns stand in no list")
    return {name: _rows(value) for name, value in node.items()}
  if not isinstance(node, list):
    return node
  found: list[Any] = []
  for each in node:
    if isinstance(each, dict) and COLUMNS in each:
      found += _spread(each)
    else:
      found.append(_rows(each))
  return found


def _spread(packed: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The neighbours that stand in columns."""
  columns = packed[COLUMNS]
  if len(packed) > 1 or not isinstance(columns, dict):
    raise ValueError(f"{', '.join(packed)} are no columns")
  lists = [_rows(column) for column in columns.values()]
  if any(not isinstance(values, list) for values in lists) or len({*map(len, lists)}) != 1:
    raise ValueError(f"the columns {', '.join(columns)} are no lists of one length")
  return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _share(tree: Mapping[str, Any]) -> dict[str, Any]:
  """With every repeated long object or list once, under "$shared"."""
  count: Counter[str] = Counter()

  def look(node: Any) -> None:
    if not _nested(node):
      return
    text = json.dumps(node)
    count[text] += 1
    if count[text] > 1 and len(text) > _LONG:
      return  # what is inside is shared with it
    for child in _children(node):
      look(child)

  places: dict[str, int] = {}
  shared: list[Any] = []

  def inside(node: Any) -> Any:
    if isinstance(node, Mapping):
      return {name: short(value) for name, value in node.items()}
    return [short(each) for each in node]

  def short(node: Any) -> Any:
    if not _nested(node):
      return node
    text = json.dumps(node)
    if count[text] < 2 or len(text) <= _LONG:
      return inside(node)
    if text not in places:
      value = inside(node)
      places[text] = len(shared)
      shared.append(value)
    return {REF: f"{_POINTER}{places[text]}"}

  look(tree)
  found = inside(tree)
  return {SHARED: shared, **found} if shared else found


def _nested(node: Any) -> bool:
  return isinstance(node, Mapping | list | tuple)


def _children(node: Mapping[str, Any] | Sequence[Any]) -> Iterator[Any]:
  yield from node.values() if isinstance(node, Mapping) else node


def _resolve(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The tree that `_share` was given."""
  shared = tree.get(SHARED, [])

  def whole(node: Any, inside: tuple[str, ...] = ()) -> Any:
    if isinstance(node, list):
      return [whole(each, inside) for each in node]
    if not isinstance(node, dict):
      return node
    if REF not in node:
      return {name: whole(value, inside) for name, value in node.items()}
    pointer = node[REF]
    if len(node) > 1:
      raise ValueError(f"{', '.join(node)} stand beside the pointer {pointer!r}")
    if pointer in inside:
      raise ValueError(f"the pointer {pointer!r} leads back to itself")
    return whole(_at(shared, pointer), (*inside, pointer))

  return {name: whole(value) for name, value in tree.items() if name != SHARED}


def _at(shared: Any, pointer: Any) -> Any:
  number = pointer.removeprefix(_POINTER) if isinstance(pointer, str) else ""
  if not (number.isdecimal() and isinstance(shared, list) and int(number) < len(shared)):
    raise ValueError(f"the pointer {pointer!r} leads nowhere")
  return shared[int(number)]
