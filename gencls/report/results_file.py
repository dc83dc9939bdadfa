"""The numbers of a comparison in one JSON file, and that file in the place of the runs behind it.

  {"GFZ": {...}, "CNN": {...}}         title -> summary, as `compare.write` leaves it

In a long comparison the settings that repeat stand once, in a list under "$shared", and
{"$ref": "#/$shared/3"} where they were (JSON pointers, RFC 6901). Nothing is lost: models can be
put beside those of the file when their runs are gone.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gencls import json_files
from gencls.report import reading
from gencls.workdir import to_json

SUFFIX = ".json"
SHARED, REF = "$shared", "$ref"
_POINTER = f"#/{SHARED}/"
_LONG = 80  # characters; a shorter object is no shorter as a pointer
_INDENTED_ROWS = 200  # with more, whoever reads it is a program
_NEEDS = ("name", "title", "data", "model", "protocol", "attacks", "config", "record", "rows",
          "worst", "checks", "clean", "untouched", "num_images")  # fmt: skip


def is_one(path: str | Path) -> bool:
  """Whether this is the name of such a file, and not of a run's folder."""
  return Path(path).suffix == SUFFIX and not Path(path).is_dir()


def to_text(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """The file's content: indented as it is, or as short as can be where there are many rows.

  Args:
    summaries: title -> summary, JSON-able. No key may be "$ref" or "$shared".
  """
  if sum(len(summary["rows"]) for summary in summaries.values()) <= _INDENTED_ROWS:
    return to_json(summaries)
  return to_json(share(summaries), compact=True)


def share(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The same with every repeated long object once, under "$shared"; `resolve` is the inverse.

  Raises:
    ValueError: if a key is "$ref" or "$shared".
  """
  count: Counter[str] = Counter()

  def look(node: Any) -> None:
    if isinstance(node, Mapping):
      if taken := node.keys() & {REF, SHARED}:
        raise ValueError(f"results must not have a field called {', '.join(sorted(taken))}")
      text = json.dumps(node)
      count[text] += 1
      if count[text] > 1 and len(text) > _LONG:
        return  # what is inside is shared with it
    for child in _children(node):
      look(child)

  places: dict[str, int] = {}
  shared: list[Any] = []

  def short(node: Any) -> Any:
    if not isinstance(node, Mapping):
      return [short(each) for each in node] if isinstance(node, list | tuple) else node
    text = json.dumps(node)
    if count[text] < 2 or len(text) <= _LONG:
      return {name: short(value) for name, value in node.items()}
    if text not in places:
      value = {name: short(value) for name, value in node.items()}
      places[text] = len(shared)
      shared.append(value)
    return {REF: f"{_POINTER}{places[text]}"}

  look(tree)
  found = short(tree)
  return {SHARED: shared, **found} if shared else found


def _children(node: Any) -> Iterator[Any]:
  if isinstance(node, Mapping):
    yield from node.values()
  elif isinstance(node, list | tuple):
    yield from node


def resolve(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The tree that `share` was given.

  Raises:
    ValueError: if a pointer leads nowhere, or back to itself.
  """
  shared = tree.get(SHARED, [])

  def whole(node: Any, inside: tuple[str, ...] = ()) -> Any:
    if isinstance(node, list):
      return [whole(each, inside) for each in node]
    if not isinstance(node, dict):
      return node
    if REF not in node:
      return {name: whole(value, inside) for name, value in node.items()}
    pointer = node[REF]
    if pointer in inside:
      raise ValueError(f"the pointer {pointer!r} leads back to itself")
    return whole(_at(shared, pointer), (*inside, pointer))

  return {name: whole(value) for name, value in tree.items() if name != SHARED}


def _at(shared: Any, pointer: Any) -> Any:
  number = pointer.removeprefix(_POINTER) if isinstance(pointer, str) else ""
  if not (number.isdecimal() and isinstance(shared, list) and int(number) < len(shared)):
    raise ValueError(f"the pointer {pointer!r} leads nowhere")
  return shared[int(number)]


def load(path: str | Path) -> dict[str, dict[str, Any]]:
  """Title -> summary of every model in the file.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or not the numbers of a comparison.
  """
  fix = "restore it, or write it anew with launch/report.py from the runs"
  found = json_files.read_object(Path(path), fix=fix)
  try:
    summaries = resolve(found)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is damaged ({error}); {fix}") from error
  for title, summary in summaries.items():
    lacking = [n for n in _NEEDS if not isinstance(summary, dict) or n not in summary]
    if lacking:
      raise ValueError(
        f"{path} is not the numbers of a comparison that launch/report.py wrote (<name>.json): "
        f"{title!r} has no {', '.join(lacking)}; {fix}"
      )
  return summaries


def entries(path: str | Path) -> list[reading.Entry]:
  """Every model of the file under its title there, without the cells behind its numbers.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged.
  """
  return [
    reading.Entry(title, Path(path), summary["name"], _complete(summary), [], [], [])
    for title, summary in load(path).items()
  ]


def _complete(summary: Mapping[str, Any]) -> dict[str, Any]:
  """With what files older than half-finished evaluations do not say."""
  worst = [{**row, "missing": row.get("missing", [])} for row in summary["worst"]]
  return {**summary, "worst": worst, "missing": summary.get("missing", [])}


def kept(entry: reading.Entry) -> bool:
  """Whether an entry comes from such a file."""
  return is_one(entry.workdir)
