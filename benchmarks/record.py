"""What a benchmark leaves: its numbers as JSON, and the table made from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gencls.workdir import atomic_write, to_json


def publish(record: dict[str, Any], markdown: Callable[[dict[str, Any]], str], path: Path) -> None:
  """Writes `path` (.json) and the table beside it (.md), made from what was written; prints it."""
  atomic_write(path, to_json(record))
  table = markdown(json.loads(path.read_text()))
  atomic_write(path.with_suffix(".md"), table)
  print(table)
