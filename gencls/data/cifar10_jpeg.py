"""CIFAR-10 as JPEG files packed into train.npz and test.npz: lossy, not the original pixels.

Each file holds `jpeg` (uint8, all JPEG files end to end), `offsets` (n + 1; file i is
jpeg[offsets[i]:offsets[i + 1]]) and `labels` (uint8, n), in the order of the original set. Numbers
measured on these images are of "CIFAR-10 (JPEG)": they differ from the original ones by about 6
grey levels in the mean.
"""

import io
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gencls.archives import DAMAGE
from gencls.data.dataset import Raw, checked

NAME = "cifar10_jpeg"
SHAPE = (32, 32, 3)
ARRAYS = ("jpeg", "offsets", "labels")


def find_folder(folders: Sequence[Path]) -> Path | None:
  """The first of the folders that holds one of the two files, or None.

  Many things are called train.npz: files without these arrays are passed over. Of damaged ones only
  the names are known, and both have to be there.
  """
  return next((f for f in folders if _is_folder(f)), None)


def _is_folder(folder: Path) -> bool:
  paths = [path for part in ("train", "test") if (path := _path(folder, part)).is_file()]
  found = [_arrays(path) for path in paths]
  packed = any(names is not None and set(ARRAYS) <= names for names in found)
  return packed or found == [None, None]


def _arrays(path: Path) -> set[str] | None:
  """The names of a file's arrays; None if it is damaged."""
  try:
    with zipfile.ZipFile(path) as file:
      return {name.removesuffix(".npy") for name in file.namelist()}
  except DAMAGE:
    return None


def _path(folder: Path, part: str) -> Path:
  return folder / f"{part}.npz"


def load_jpeg(part: str, folder: Path) -> Raw:
  """Reads and decodes one part.

  Args:
    part: "train" or "test".
    folder: holds the part's file.

  Returns:
    [N, 32, 32, 3] images in the order of the original file.

  Raises:
    FileNotFoundError: if the part's file is missing.
    ValueError: if it is damaged or holds something else.
  """
  path = _path(folder, part)
  if not path.is_file():
    raise FileNotFoundError(f"{folder} holds some of CIFAR-10 (JPEG), but {path.name} is not there")
  try:
    with np.load(path, allow_pickle=False) as file:
      packed, offsets, labels = (file[name] for name in ARRAYS)
  except DAMAGE as error:
    raise ValueError(f"{path} is no packed CIFAR-10 (JPEG) ({error}); fetch it again") from error
  if len(offsets) != len(labels) + 1 or np.any(np.diff(offsets) <= 0) or offsets[-1] > packed.size:
    raise ValueError(f"{path} is damaged: its offsets do not fit its labels; fetch it again")
  files = (packed[at:end].tobytes() for at, end in itertools.pairwise(offsets))
  images = np.stack([_decoded(file, path, i) for i, file in enumerate(files)])
  source = f"CIFAR-10 as JPEG (lossy, not the original pixels) {folder}"
  return checked(source, images, labels, image_shape=SHAPE, num_classes=10)


def _decoded(file: bytes, path: Path, index: int) -> np.ndarray:
  from PIL import Image  # noqa: PLC0415

  try:
    with Image.open(io.BytesIO(file)) as image:
      return np.asarray(image.convert("RGB"))
  except OSError as error:
    raise ValueError(f"image {index} of {path} is damaged ({error}); fetch it again") from error
