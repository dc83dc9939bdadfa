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

from gencls.data.dataset import Raw, checked

NAME = "cifar10_jpeg"
SHAPE = (32, 32, 3)


def find_folder(folders: Sequence[Path]) -> Path | None:
  """The first of the folders that holds one of the two files, or None."""
  return next((f for f in folders if any(_path(f, p).is_file() for p in ("train", "test"))), None)


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
      packed, offsets, labels = (file[name] for name in ("jpeg", "offsets", "labels"))
  except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
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
