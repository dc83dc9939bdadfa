"""A bad input, and what becomes of it."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from finished import Scene, digests


class Case(NamedTuple):
  """One bad input."""

  kind: str  # which part of the library it is given to
  name: str  # the input in words
  act: Callable[[Scene], Any]  # gives it to the library
  words: tuple[str, ...]  # all of them are in the message: the rule's name and the value
  error: type[Exception] = ValueError  # or UserWarning: warned of, and done without
  damage: Callable[[Scene], Any] | None = None  # what happens to the files before

  @property
  def title(self) -> str:
    """What it is called in the tests and in the table."""
    return f"{self.kind}: {self.name}"


class Outcome(NamedTuple):
  """What became of a bad input."""

  error: str  # the type's name; "" where nothing was said
  message: str
  expected: bool  # the type is the documented one, and the message has the words
  unchanged: bool  # every finished file is as it was


def outcome(case: Case, at: Scene) -> Outcome:
  """Gives a bad input to the library."""
  if case.damage is not None:
    case.damage(at)
  before = digests(at)
  error: Any = None
  with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    try:
      case.act(at)
    except case.error as raised:
      error = raised
  if error is None and case.error is UserWarning:
    error = next((each.message for each in told if each.category is UserWarning), None)
  message = "" if error is None else str(error)
  # No other kind of ValueError: those of parsers say nothing of what was asked.
  exact = type(error) is case.error or (case.error is OSError and isinstance(error, OSError))
  expected = exact and all(word in message for word in case.words)
  after = digests(at)
  return Outcome(
    "" if error is None else type(error).__name__,
    message.replace(str(at.run), "<run>").replace(str(at.empty), "<folder>"),
    expected,
    all(after.get(path) == digest for path, digest in before.items()),
  )


def settings(kind: str, act: Callable[..., Any], rows: list[tuple]) -> list[Case]:
  """Cases that set one field, or several at once, of a config.

  Args:
    kind: of the cases.
    act: (scene, **fields).
    rows: (field, value, *words), or (field, value, {more fields}, *words). The last part of the
      field's name and the value have to be in the message where no words are given.
  """
  cases = []
  for field, value, *rest in rows:
    more = rest.pop(0) if rest and isinstance(rest[0], dict) else {}
    words = tuple(rest) or (field.split(".")[-1], f"got {value!r}")
    fields = {**more, field: value}
    cases.append(Case(kind, f"{field}={value!r}", _with(act, fields), words))
  return cases


def _with(act: Callable[..., Any], fields: dict[str, Any]) -> Callable[[Scene], Any]:
  return lambda at: act(at, **fields)


def write(
  path: Callable[[Scene], Path], change: Callable[[bytes], bytes]
) -> Callable[[Scene], Any]:
  """Damage: a file's content is changed."""

  def damage(at: Scene) -> None:
    where = path(at)
    where.write_bytes(change(where.read_bytes() if where.is_file() else b""))

  return damage


def flip(content: bytes, at: float = 0.5) -> bytes:
  """One byte is another."""
  place = int(at * len(content))
  return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
