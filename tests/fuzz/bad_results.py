"""Result files that were cut off, flipped, mixed up, or cannot be written."""

import errno
import io
import json
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from bad_input import Case, flip, write
from finished import NAME, Scene, evaluate

import gencls
from gencls.evaluation import stored
from gencls.evaluation.results import Cell, cell_path, read_cell, write_cell
from gencls.report import reading


def results(at: Scene) -> Path:
  """The folder of the finished evaluation."""
  return at.run / "results" / NAME


def cell(at: Scene, label: str = "fgsm") -> Path:
  """A finished cell, the one of the smallest eps."""
  return min((results(at) / "cells").glob(f"{label}*.npz"))


def _rewritten(change: Callable[[Cell], Cell]) -> Callable[[Scene], None]:
  return lambda at: write_cell(cell(at), change(read_cell(cell(at))))


def _without(field: str) -> Callable[[Cell], Cell]:
  return lambda c: Cell(
    {k: v for k, v in c.header.items() if k != field},
    {k: v for k, v in c.arrays.items() if k != field},
  )


def _settings(change: dict[str, Any], rename: bool) -> Callable[[Scene], None]:
  """The cell of other settings, under its own name or under that of the finished cell."""

  def damage(at: Scene) -> None:
    found = read_cell(cell(at))
    other = found._replace(header={**found.header, "settings": found.header["settings"] | change})
    own = cell_path(cell(at).parent, "fgsm-linf-0.1", other.header["settings"])
    write_cell(own if rename else cell(at), other)

  return damage


def _shorter(found: Cell) -> Cell:
  return found._replace(arrays={k: v[:-1] for k, v in found.arrays.items()})


def _header(text: str) -> Callable[[Scene], None]:
  def damage(at: Scene) -> None:
    arrays = read_cell(cell(at)).arrays
    np.savez_compressed(cell(at), header=np.frombuffer(text.encode(), np.uint8), **arrays)

  return damage


def _folder(at: Scene) -> None:
  path = cell(at)
  path.unlink()
  path.mkdir()


def _mixed_up(at: Scene) -> None:
  shutil.copy(cell(at, "untouched"), cell(at))


def _partial(content: Callable[[Scene], bytes]) -> Callable[[Scene], None]:
  def damage(at: Scene) -> None:
    path = cell(at)
    content_now = content(at)
    path.unlink()
    path.with_suffix(".partial").write_bytes(content_now)

  return damage


def _damaged_cell(name: str, damage: Callable[[Scene], Any], *words: str, **other: Any) -> Case:
  return Case("cell", name, evaluate, words, damage=damage, **other)


def _plan(name: str, content: Callable[[dict], Any], *words: str, act: Any = None) -> Case:
  def change(before: bytes) -> bytes:
    made = content(json.loads(before))
    return made if isinstance(made, bytes) else json.dumps(made).encode()

  act = act or (lambda at: gencls.load_results(at.run, NAME))
  damage = write(lambda at: results(at) / "plan.json", change)
  return Case("plan", name, act, ("plan.json", *words), damage=damage)


def _table(name: str, content: bytes, *words: str) -> Case:
  damage = write(lambda at: results(at) / "table.json", lambda _: content)
  return Case("table", name, evaluate, ("table.json is damaged", *words), damage=damage)


def _read(at: Scene) -> None:
  reading.read(at.run, NAME)


def _images(at: Scene) -> None:
  stored.clean_images(results(at), at.loaded.record["data"])


def _failing(module: Any, name: str, code: int, on: str = "") -> Callable[[Scene], Any]:
  """An evaluation in which a call of the system fails; `on`: only for files below that folder."""
  real = getattr(module, name)

  def fails(*given: Any, **options: Any) -> Any:
    if on not in str(given):
      return real(*given, **options)
    raise OSError(code, os.strerror(code))

  def act(at: Scene) -> None:
    with mock.patch.object(module, name, fails):
      evaluate(at)

  return act


def _lost(at: Scene) -> None:
  """One cell is to be made again."""
  max((results(at) / "cells").glob("fgsm*.npz")).unlink()


def _flip_an_array(content: bytes) -> bytes:
  """One byte of the largest array is another; those between the arrays may mean nothing."""
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    largest = max(archive.infolist(), key=lambda member: member.compress_size)
  start = largest.header_offset
  lengths = struct.unpack_from("<HH", content, start + 26)  # of the name and of what follows it
  place = start + 30 + sum(lengths) + largest.compress_size // 2
  return flip(content, place / len(content))


_RERUN = "delete it and run again"
CASES: list[Case] = [
  _damaged_cell("cut off", write(cell, lambda c: c[: len(c) // 2]), "is damaged", _RERUN),
  _damaged_cell("a flipped byte", write(cell, _flip_an_array), "is damaged", _RERUN),
  _damaged_cell("a flipped byte at the end", write(cell, lambda c: flip(c, 0.97)), "is damaged"),
  _damaged_cell("empty", write(cell, lambda _: b""), "is damaged", _RERUN),
  _damaged_cell("text", write(cell, lambda _: b"hello"), "is damaged", _RERUN),
  _damaged_cell("zeros", write(cell, lambda c: bytes(len(c))), "is damaged", _RERUN),
  _damaged_cell("a header that is a list", _header("[1]"), "is damaged", "JSON list"),
  _damaged_cell("a header that is no JSON", _header("{"), "is damaged", "not valid JSON"),
  _damaged_cell("without settings", _rewritten(_without("settings")), "has no settings"),
  _damaged_cell("without predictions", _rewritten(_without("correct")), "has no correct"),
  _damaged_cell("an image less", _rewritten(_shorter), "says 8 images and holds [7]"),
  _damaged_cell("of another cell", _mixed_up, "holds the results of other settings", "move it"),
  _damaged_cell("of another run", _settings({"params": "0" * 12}, False), "other settings"),
  _damaged_cell("of an older version", _settings({"evaluation": 0}, False), "other settings"),
  _damaged_cell("of a newer version", _settings({"evaluation": 99}, False), "other settings"),
  _damaged_cell("a folder in its place", _folder, "Is a directory", error=OSError),
  _damaged_cell("half of a half-made one", _partial(lambda at: cell(at).read_bytes()[:500]),
                ".partial is damaged", _RERUN),
  _damaged_cell("a finished one as a half-made one", _partial(lambda at: cell(at).read_bytes()),
                ".partial is damaged", "has no images, origin"),
  _plan("cut off", lambda p: json.dumps(p).encode()[:300], "not valid JSON", "run the same"),
  _plan("no text", lambda p: b"\xff\xfe\x00\xd8", "is damaged", "run the same"),
  _plan("a list", lambda p: [p], "JSON list"),
  _plan("deeper than Python goes", lambda p: b"[" * 10**5, "not valid JSON"),
  _plan("NaN", lambda p: b'{"cells": NaN}', "NaN is no number"),
  _plan("a number too large", lambda p: b'{"cells": 1e999}', "1e999 is too large"),
  _plan("without cells", lambda p: {**p, "cells": None}, "is damaged", "its cells"),
  _plan("a cell without a file", lambda p: {**p, "cells": [{"label": "a"}]}, "its cells", "norm"),
  _plan("an eps that is a text", lambda p: {**p, "cells": [{**p["cells"][0], "eps": "0"}]},
        "eps must be a number or None, got '0'"),
  _plan("without a protocol", lambda p: {k: v for k, v in p.items() if k != "protocol"},
        "does not say its protocol", act=_read),
  _table("cut off", b'{"config": {"na', "not valid JSON", "run again"),
  _table("without a config", b'{"rows": []}', "has no config"),
  _table("a number", b"7", "JSON int"),
  Case("images", "cut off", _images, ("images.npz is damaged",),
       damage=write(lambda at: results(at) / "images.npz", lambda c: c[:100])),
  Case("images", "a cell in its place", _images, ("images.npz is damaged", "has no data, x"),
       damage=lambda at: shutil.copy(cell(at), results(at) / "images.npz")),
  Case("disk", "full", _failing(os, "fsync", errno.ENOSPC), ("No space left", "/results/toy/"),
       OSError),
  Case("disk", "full when a cell is put in its place",
       _failing(os, "replace", errno.ENOSPC, "/cells/"), ("No space left", "/results/toy/cells/"),
       OSError, _lost),
  Case("disk", "that can only be read", _failing(tempfile, "mkstemp", errno.EROFS),
       ("Read-only file system",), OSError),
  Case("disk", "over its quota", _failing(os, "fsync", errno.EDQUOT), ("quota",), OSError),
]  # fmt: skip
