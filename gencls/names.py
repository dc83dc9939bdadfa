"""Messages for names that do not exist: the nearest valid ones, then all of them."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
  """The text of an error about an unknown name, with the nearest valid names first."""
  valid = sorted(valid)
  near = difflib.get_close_matches(str(name), valid, n=3, cutoff=0.5)
  hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
  return f"unknown {kind} {name!r}{hint} Valid: {', '.join(valid)}"
