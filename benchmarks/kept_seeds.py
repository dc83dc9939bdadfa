"""Comparisons over several seeds, of which a stop loses one at most."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gencls.workdir import atomic_write, to_json

Records = list[dict[str, Any]]


def records_of(path: Path, seeds: Sequence[int], make: Callable[[int], Records]) -> Records:
  """The records of every seed in turn; each seed's are kept beside `path` once they are made."""
  files = [_file(path, seed) for seed in seeds]
  for seed, file in zip(seeds, files, strict=True):
    if not file.exists():
      atomic_write(file, to_json({"found": make(seed)}))
  return [record for file in files for record in json.loads(file.read_text())["found"]]


def forget(path: Path, seeds: Sequence[int]) -> None:
  """Removes what was kept, after `path` itself has been written."""
  for seed in seeds:
    _file(path, seed).unlink(missing_ok=True)


def _file(path: Path, seed: int) -> Path:
  return path.with_suffix(f".seed{seed}")
