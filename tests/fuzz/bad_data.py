"""IDX files that are not what their names say."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_input import Case, flip
from finished import Scene

from gencls import data

NUM = 12
_LABELS, _IMAGES = "t10k-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"
_ARRAYS = {
  _IMAGES: np.random.default_rng(0).integers(0, 256, (NUM, 28, 28), np.uint8),
  _LABELS: np.arange(NUM, dtype=np.uint8) % 10,
}


def packed(array: np.ndarray, code: int = 0x08) -> bytes:
  """A gzipped IDX file; without a time stamp, so that it is always the same."""
  header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
  return gzip.compress(header + array.tobytes(), mtime=0)


def write_whole(folder: Path) -> None:
  """The two files of a test set."""
  for name, array in _ARRAYS.items():
    (folder / name).write_bytes(packed(array))


def load(at: Scene) -> data.Dataset:
  """Reads the test set."""
  return data.load("mnist", data_dir=at.empty)


def _case(name: str, damage: Callable[[Path], object], *words: str, **other: object) -> Case:
  def act(at: Scene) -> None:
    write_whole(at.empty)
    damage(at.empty)

  return Case("data", name, load, words, damage=act, **other)


def _put(file: str, content: bytes) -> Callable[[Path], object]:
  return lambda folder: (folder / file).write_bytes(content)


def _swap(folder: Path) -> None:
  images, labels = (folder / _IMAGES).read_bytes(), (folder / _LABELS).read_bytes()
  (folder / _IMAGES).write_bytes(labels)
  (folder / _LABELS).write_bytes(images)


def _folder(folder: Path) -> None:
  (folder / _LABELS).unlink()
  (folder / _LABELS).mkdir()


_LABEL, _IMAGE = _ARRAYS[_LABELS], _ARRAYS[_IMAGES]
_HUGE = gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3), mtime=0)
CASES: list[Case] = [
  _case("labels cut off", _put(_LABELS, packed(_LABEL)[:-9]), _LABELS, "corrupt gzip"),
  _case("images cut off", _put(_IMAGES, packed(_IMAGE)[:5000]), _IMAGES, "corrupt gzip"),
  _case("images with a flipped byte", _put(_IMAGES, flip(packed(_IMAGE))), _IMAGES, "corrupt gzip"),
  _case("no gzip", _put(_LABELS, b"<html>not found"), _LABELS, "corrupt gzip"),
  _case("an empty file", _put(_LABELS, b""), _LABELS, "not an IDX file", "missing"),
  _case("gzip of a web page", _put(_LABELS, gzip.compress(b"<html>")), "not an IDX", "3c68746d"),
  _case("no values", _put(_LABELS, packed(_LABEL[:0])), "12 images and labels of shape (0,)"),
  _case("fewer labels", _put(_LABELS, packed(_LABEL[:9])), "12 images and labels of shape (9,)"),
  _case("a label beyond the last class", _put(_LABELS, packed(_LABEL + 1)), "0 .. 9", "1 .. 10"),
  _case("floats", _put(_LABELS, packed(_LABEL.astype(">f4"), 0x0D)), "must hold uint8", "float32"),
  _case("an unknown type", _put(_LABELS, packed(_LABEL, 0x77)), "uint8", "unknown type 0x77"),
  _case("images of another size", _put(_IMAGES, packed(_IMAGE[:, :27])), "(28, 28, 1)", "(27, 28"),
  _case("counts of 2**32 - 1", _put(_IMAGES, _HUGE), "truncated", "4294967295"),
  _case("images and labels swapped", _swap, "must have 3 axes", "got 1 axes"),
  _case("a folder in the place of a file", _folder, "not the test labels", error=FileNotFoundError),
  _case("no labels", lambda f: (f / _LABELS).unlink(), "not the test labels", _LABELS,
        error=FileNotFoundError),
  Case("data", "an unknown split", lambda at: data.load("digits", "tset"),
       ("unknown split 'tset'", "did you mean 'test'")),
]  # fmt: skip
