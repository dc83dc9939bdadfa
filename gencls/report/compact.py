"""A long tree of JSON in fewer characters, and back: columns for rows, and what repeats once.

  [{"eps": 0.1, "n": 5}, {"eps": 0.2, "n": 5}]   [{"$columns": {"eps": [0.1, 0.2], "n": [5, 5]}}]
  [{"eps": 0.1, "n": 5}, {"eps": 0.2}]           [{"$columns": {"eps": [0.1, 0.2], "n": [5]},
                                                   "$without": {"n": [1]}}]
  long objects and lists that stand twice        {"$ref": "#/$shared/3"}, and "$shared": [...]

Columns stand in the list in the place of neighbouring objects: of those that have the same keys,
or, where that is shorter, of all whose keys one order fits, with the rows that are without a key.
Pointers are JSON pointers (RFC 6901). Nothing is lost, not even the order of keys.
"""

import graphlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COLUMNS, WITHOUT, SHARED, REF = "$columns", "$without", "$shared", "$ref"
_POINTER = f"#/{SHARED}/"
_LONG = 80  # characters; what is shorter is no shorter as a pointer


def check(tree: Any) -> None:
  """Refuses what `unpack` would take for its own.

  Raises:
    ValueError: if a key is "$columns", "$ref", "$shared" or "$without".
  """
  if isinstance(tree, Mapping) and (taken := tree.keys() & {COLUMNS, REF, SHARED, WITHOUT}):
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
    ValueError: if columns do not make rows of one number or stand in no list, or a pointer leads
      nowhere or back to itself.
  """
  return {name: _rows(value) for name, value in _resolve(tree).items()}


def _columns(node: Any) -> Any:
  """With columns in the place of neighbouring objects in a list."""
  if isinstance(node, Mapping):
    return {name: _columns(value) for name, value in node.items()}
  if not isinstance(node, list | tuple):
    return node
  found: list[Any] = []
  for no_rows, group in itertools.groupby(node, lambda each: not _is_row(each)):
    rows = list(group)
    if no_rows:
      found += [_columns(each) for each in rows]
      continue
    ways = [_columns_of_same(rows)]
    if len(ways[0]) > 1 and (keys := _common_order(rows)):
      ways.append([_columns_of(rows, keys)])
    found += min(ways, key=lambda way: len(json.dumps(way)))
  return found


def _columns_of_same(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
  """Columns for neighbours that have the same keys; a row without such neighbours as it is."""
  found: list[Any] = []
  for keys, group in itertools.groupby(rows, tuple):
    same = list(group)
    found.append(_columns_of(same, keys) if len(same) > 1 else _columns(same[0]))
  return found


def _columns_of(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
  """The columns of all rows, whose keys are in the order of `keys`."""
  columns = {key: _columns([row[key] for row in rows if key in row]) for key in keys}
  without = {key: [i for i, row in enumerate(rows) if key not in row] for key in keys}
  lacking = {key: places for key, places in without.items() if places}
  return {COLUMNS: columns, WITHOUT: lacking} if lacking else {COLUMNS: columns}


def _common_order(rows: Sequence[Mapping[str, Any]]) -> list[str] | None:
  """An order of all keys that every row's keys are in; None if there is none."""
  before: dict[str, set[str]] = {}
  for row in rows:
    for key in row:
      before.setdefault(key, set())
    for first, second in itertools.pairwise(row):
      before[second].add(first)
  try:
    return list(graphlib.TopologicalSorter(before).static_order())
  except graphlib.CycleError:
    return None


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
  columns, without = packed[COLUMNS], packed.get(WITHOUT, {})
  if packed.keys() - {COLUMNS, WITHOUT} or not isinstance(columns, dict):
    raise ValueError(f"{', '.join(packed)} are no columns")
  if not isinstance(without, dict) or without.keys() - columns.keys():
    raise ValueError(f"{WITHOUT} must say of some of {', '.join(columns)} which rows lack it")
  no_rows = ValueError(f"the columns {', '.join(columns)} are no lists of one length")
  found: list[dict[str, Any]] = []
  for key, column in columns.items():
    values, lacking = _rows(column), without.get(key, [])
    if not isinstance(values, list) or not isinstance(lacking, list):
      raise no_rows
    found = found or [{} for _ in range(len(values) + len(lacking))]
    places = [i for i in range(len(found)) if i not in lacking]
    if len(places) != len(values) or len(places) + len(lacking) != len(found):
      raise no_rows
    for i, value in zip(places, values, strict=True):
      found[i][key] = value
  if not found:
    raise no_rows
  return found


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


def _is_row(node: Any) -> bool:
  return isinstance(node, Mapping) and len(node) > 0


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
