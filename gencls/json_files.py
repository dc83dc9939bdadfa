"""Reading a file that holds one JSON object, whatever has happened to it meanwhile."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_object(path: Path, *, fix: str, needs: Sequence[str] = ()) -> dict[str, Any]:
  """The object that a file holds.

  Args:
    path: the file.
    fix: what to do about a damaged one, for the message.
    needs: fields without which it is of no use.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is not a JSON object with these fields.
  """
  content = path.read_bytes()
  try:
    found = parse(content)
  except ValueError as error:
    raise ValueError(f"{path} is damaged ({error}); {fix}") from error
  missing = [name for name in needs if name not in found]
  if missing:
    raise ValueError(f"{path} is damaged (it has no {', '.join(missing)}); {fix}")
  return found


def parse(content: bytes) -> dict[str, Any]:
  """The object that some bytes are.

  Raises:
    ValueError: if they are not JSON, or no object, or hold a NaN or an infinity (1e999, too
      large for a double, is one).
  """
  try:
    found = json.loads(content, parse_constant=_refuse, parse_float=_finite)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"it is not valid JSON: {error}") from error
  if not isinstance(found, dict):
    raise ValueError(f"it holds a JSON {type(found).__name__} in the place of an object")
  return found


def _refuse(name: str) -> None:
  raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
  number = float(digits)
  if not math.isfinite(number):
    raise ValueError(f"{digits} is too large for a double")
  return number
