"""Raw IDX files, the format of the original MNIST and Fashion-MNIST downloads.

A file is two zero bytes, a type code (8 is uint8), the number of axes, each axis' size as a
big-endian uint32, then the values. See http://yann.lecun.com/exdb/mnist.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gencls.data.dataset import Raw, checked

ENV = "GENCLS_DATA_DIR"

_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32"} | {
  0x0E: "float64"
}
_PREFIXES = {"train": "train", "test": "t10k"}
_KINDS = {"images": 3, "labels": 1}


class IdxSet(NamedTuple):
  """A data set that is distributed as four IDX files."""

  image_shape: tuple[int, int, int]
  num_classes: int
  label_crc32: dict[str, int]  # of the label bytes of the original train and test files


SETS = {
  "mnist": IdxSet((28, 28, 1), 10, {"train": 0xBA07E8EF, "test": 0xEE8604D9}),
  "fashion_mnist": IdxSet((28, 28, 1), 10, {"train": 0x2ED6E46A, "test": 0x242BC73F}),
}


def read_idx(path: str | os.PathLike[str], num_axes: int) -> np.ndarray:
  """Reads one IDX file of uint8, gzipped if its name ends in .gz.

  Args:
    path: the file.
    num_axes: the number of axes it must have: 3 for images, 1 for labels.

  Returns:
    uint8 array of the header's shape.

  Raises:
    ValueError: if the gzip stream is corrupt, or the header or the length is not what it must be.
  """
  path = Path(path)
  data = _read_bytes(path)
  header = 4 + 4 * num_axes
  if len(data) < 4 or data[:2] != b"\0\0":
    raise ValueError(
      f"{path} is not an IDX file: its first bytes are {data[:4].hex() or 'missing'}"
    )
  if data[2] != 0x08:
    kind = _TYPES.get(data[2], f"unknown type 0x{data[2]:02x}")
    raise ValueError(f"IDX files must hold uint8, {path} holds {kind}")
  if data[3] != num_axes or len(data) < header:
    raise ValueError(
      f"{path} must have {num_axes} axes and a header of {header} bytes (magic number "
      f"{0x800 + num_axes}), got {data[3]} axes (magic number {0x800 + data[3]}) and "
      f"{len(data)} bytes"
    )
  shape = struct.unpack(f">{num_axes}I", data[4:header])
  if len(data) - header != math.prod(shape):
    state = "truncated" if len(data) - header < math.prod(shape) else "too long"
    raise ValueError(
      f"{path} is {state}: its header says {shape}, that is {math.prod(shape)} values, "
      f"{len(data) - header} follow; fetch the file again"
    )
  return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
  if path.suffix != ".gz":
    return path.read_bytes()
  try:
    with gzip.open(path) as file:
      return file.read()
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise ValueError(f"{path} is a corrupt gzip file ({error}); fetch it again") from error


def candidate_folders(name: str, data_dir: str | os.PathLike[str] | None) -> list[Path]:
  """The folders that may hold the four files of `name`, in the order in which they count.

  Args:
    name: data set, a key of `SETS`.
    data_dir: configured folder; the environment's GENCLS_DATA_DIR if None. If neither is set, the
      checkout's own data/<name> and its sibling shared/data/<name>.

  Returns:
    Folders, existing or not.

  Raises:
    FileNotFoundError: if a folder is configured and does not exist.
  """
  folder = configured_folder(data_dir)
  if folder is not None:
    return [folder / name, folder]
  root = Path(__file__).resolve().parents[2]
  if not (root / "pyproject.toml").is_file():  # installed, not a checkout
    return []
  return [root / "data" / name, root.parent / "shared" / "data" / name]


def configured_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
  """The folder given by argument or environment, None if neither is; it must exist."""
  given, origin = (data_dir, "data_dir") if data_dir else (os.environ.get(ENV), ENV)
  if not given:
    return None
  folder = Path(given).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(f"{origin} must name an existing folder, got {str(folder)!r}")
  return folder


def find_folder(folders: Sequence[Path]) -> Path | None:
  """The first of the folders that holds at least one of the four files, or None."""
  pairs = [(part, kind) for part in _PREFIXES for kind in _KINDS]
  return next((f for f in folders if any(_find_file(f, *pair) for pair in pairs)), None)


def _names(part: str, kind: str) -> list[str]:
  stems = [f"{_PREFIXES[part]}-{kind}{dash}idx{_KINDS[kind]}-ubyte" for dash in "-."]
  return [stem + end for end in ("", ".gz") for stem in stems]


def _find_file(folder: Path, part: str, kind: str) -> Path | None:
  return next((folder / n for n in _names(part, kind) if (folder / n).is_file()), None)


def load_idx(name: str, part: str, folder: Path) -> Raw:
  """Reads the images and labels of one part of an IDX set.

  Args:
    name: a key of `SETS`.
    part: "train" or "test".
    folder: holds the files, with '-' or '.' before "idx", gzipped or not.

  Returns:
    The arrays in the file's order.

  Raises:
    FileNotFoundError: if one of the two files is missing.
    ValueError: if a file is damaged, or the set is another one than `name`.
  """
  arrays = {}
  for kind, num_axes in _KINDS.items():
    path = _find_file(folder, part, kind)
    if path is None:
      raise FileNotFoundError(
        f"{folder} holds some IDX files, but not the {part} {kind}: one of "
        f"{', '.join(_names(part, kind))} must be there"
      )
    arrays[kind] = read_idx(path, num_axes)
  crc = zlib.crc32(arrays["labels"].tobytes())
  for other, spec in SETS.items():
    if other != name and crc == spec.label_crc32[part]:
      raise ValueError(f"{folder} must hold {name}, but its labels are those of {other}")
  spec = SETS[name]
  images = arrays["images"][..., None]
  source = f"idx {folder}"
  return checked(
    source,
    images,
    arrays["labels"],
    image_shape=spec.image_shape,
    num_classes=spec.num_classes,
  )
