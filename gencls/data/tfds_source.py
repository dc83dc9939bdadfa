"""Image-classification sets of TensorFlow Datasets, prepared already or prepared here.

Reading needs no TensorFlow; preparing does (the `tfds` extra). TFDS is imported where it is used.
TFDS stores examples sorted by the MD5 of (split name, key). Where the key is the running number in
the original file (MNIST and its kin), the original order is restored.
"""

import hashlib
import importlib.util
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gencls.data.dataset import Raw, checked
from gencls.data.idx import SETS
from gencls.data.tfrecord import read_tfrecord

DATA_DIR_ENV = "TFDS_DATA_DIR"


def known_names(data_dir: Path | None) -> list[str]:
  """The names of all sets that TFDS has code for, or that have a subfolder in its folders."""
  import tensorflow_datasets as tfds  # noqa: PLC0415

  found = [path.name for f in _folders(data_dir) if f.is_dir() for path in f.iterdir()]
  return [*tfds.list_builders(with_community_datasets=False), *found]


def read_tfds(name: str, part: str, data_dir: Path | None, raw_dir: Path | None) -> Raw:
  """Reads one part of a TFDS set, preparing it first if it is not prepared anywhere.

  Args:
    name: TFDS name, with "/config" if need be.
    part: "train" or "test". Without a TFDS split "test", "validation" is it; without either, the
      last fifth of "train".
    data_dir: looked at for prepared data before the folder of TFDS itself (the environment's
      TFDS_DATA_DIR, else ~/tensorflow_datasets), or None.
    raw_dir: folder with the original downloads, for the preparation, or None.

  Returns:
    The arrays in the original order for the sets of `idx.SETS`, else in the order of TFDS.

  Raises:
    FileNotFoundError: if it is not prepared and cannot be prepared.
    ValueError: if it is not an image-classification set of uint8 images of one shape.
  """
  builder = _prepared(name, data_dir) or _prepare(name, data_dir, raw_dir)
  image_key, label_key = _check_features(builder)
  splits = list(builder.info.splits)
  split = next((s for s in ("test", "validation") if s in splits), None)
  split = "train" if part == "train" or split is None else split
  if split not in splits:
    raise ValueError(f"TFDS set {name!r} must have a split 'train', it has {', '.join(splits)}")
  images, labels = _arrays(builder, split, image_key, label_key)
  if name in SETS:
    images, labels = _original_order(name, split, images, labels)
  raw = checked(
    f"tfds {builder.data_path}",
    images,
    labels,
    image_shape=SETS[name].image_shape if name in SETS else None,
    num_classes=builder.info.features[label_key].num_classes,
  )
  return raw if {"test", "validation"} & set(splits) else _part_of_train(raw, part)


def tfds_folder() -> Path:
  """Where TFDS keeps prepared data."""
  return Path(os.environ.get(DATA_DIR_ENV) or "~/tensorflow_datasets").expanduser()


def _folders(data_dir: Path | None) -> list[Path]:
  return [folder for folder in (data_dir, tfds_folder()) if folder is not None]


def prepared_folder(name: str, data_dir: Path | None) -> str | None:
  """The folder of a set that is prepared already, or None."""
  builder = _prepared(name, data_dir)
  return None if builder is None else str(builder.data_dir)


def _prepared(name: str, data_dir: Path | None) -> Any:
  """The builder of data that is prepared already, or None."""
  import tensorflow_datasets as tfds  # noqa: PLC0415

  for folder in _folders(data_dir):
    try:
      builder = tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError:  # a set without code here, prepared elsewhere
      continue
    if builder.is_prepared():
      return builder
  return None


def _prepare(name: str, data_dir: Path | None, raw_dir: Path | None) -> Any:
  import tensorflow_datasets as tfds  # noqa: PLC0415

  looked = " or ".join(map(str, _folders(data_dir)))
  where = f"{name} is not prepared by TFDS in {looked}"
  if importlib.util.find_spec("tensorflow") is None:
    raise FileNotFoundError(
      f"{where}, and preparing it needs TensorFlow: pip install 'gencls[tfds]'"
    )
  builder = tfds.builder(name, data_dir=tfds_folder(), file_format="array_record")
  config = tfds.download.DownloadConfig(manual_dir=raw_dir, try_download_gcs=False)
  try:
    builder.download_and_prepare(download_config=config)
  except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
    raise FileNotFoundError(f"{where}, and preparing it failed: {error}") from error
  return builder


def _check_features(builder: Any) -> tuple[str, str]:
  """The names of the image and the label, if the set is one of image classification."""
  import tensorflow_datasets as tfds  # noqa: PLC0415

  features, keys = builder.info.features, builder.info.supervised_keys
  if (
    keys is None
    or len(keys) != 2
    or not all(isinstance(key, str) for key in keys)
    or not isinstance(features[keys[0]], tfds.features.Image)
    or not isinstance(features[keys[1]], tfds.features.ClassLabel)
  ):
    raise ValueError(
      f"TFDS set {builder.name!r} must be one of image classification (supervised keys: an Image "
      f"and a ClassLabel), got keys {keys} of {features}"
    )
  return keys


def _arrays(builder: Any, split: str, image: str, label: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads all examples of a split into two arrays."""
  examples = _examples(builder, split)
  first = next(examples)
  shape = first[image].shape
  size = builder.info.splits[split].num_examples
  images, labels = np.empty((size, *shape), first[image].dtype), np.empty(size, np.int64)
  images[0], labels[0] = first[image], first[label]
  count = 1
  for count, example in enumerate(examples, start=2):
    if example[image].shape != shape:
      raise ValueError(
        f"images must share one shape, {builder.name!r} has {shape} and {example[image].shape}; "
        "prepare a resized set as IDX files"
      )
    images[count - 1], labels[count - 1] = example[image], example[label]
  if count != size:
    raise ValueError(f"{builder.data_path} must hold {size} examples in {split!r}, got {count}")
  return images, labels


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
  import tensorflow_datasets as tfds  # noqa: PLC0415

  random_access = tfds.core.FileFormat.with_random_access()
  if builder.info.available_file_formats() & random_access:
    yield from builder.as_data_source(split)
    return
  for path in builder.info.splits[split].filepaths:
    for record in read_tfrecord(Path(path)):
      yield builder.info.features.deserialize_example_np(record)


def _original_order(
  name: str, split: str, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Undoes the order of TFDS where keys are running numbers, and proves it by the labels."""
  digests = [hashlib.md5(f"{split}{key}".encode()).digest() for key in range(len(labels))]
  stored = np.array(sorted(range(len(labels)), key=digests.__getitem__))
  original_images, original_labels = np.empty_like(images), np.empty_like(labels)
  original_images[stored], original_labels[stored] = images, labels
  if zlib.crc32(original_labels.astype(np.uint8).tobytes()) != SETS[name].label_crc32[split]:
    raise ValueError(
      f"{name} as prepared by TFDS is not in a known order (its labels do not match the original "
      f"{split} file), so examples cannot keep their index; delete it and prepare it again, or "
      "give the original IDX files"
    )
  return original_images, original_labels


def _part_of_train(raw: Raw, part: str) -> Raw:
  """A fixed train/test split of a set that comes without one: the last fifth is the test."""
  cut = len(raw.labels) - len(raw.labels) // 5
  chosen = slice(None, cut) if part == "train" else slice(cut, None)
  return raw._replace(
    images=raw.images[chosen], labels=raw.labels[chosen], indices=raw.indices[chosen]
  )
