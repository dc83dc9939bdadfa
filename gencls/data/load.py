"""Loading a data set by name, from whichever source has it."""

import difflib
import os
from pathlib import Path

from gencls.data import bg_mnist, cifar10_jpeg, idx, splits, tfds_source
from gencls.data.dataset import Dataset, Raw
from gencls.data.digits import read_digits
from gencls.names import unknown_name

# Digits on photographs: name -> blur of the photographs in pixels.
BACKGROUNDS = {bg_mnist.name(bandwidth): bandwidth for bandwidth in bg_mnist.BANDWIDTHS}
BUILT_IN = ("digits", *idx.SETS, cifar10_jpeg.NAME, *BACKGROUNDS)


def load(
  name: str,
  split: str = "test",
  *,
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
) -> Dataset:
  """Loads one split of a data set.

  `digits` is embedded. `mnist` and `fashion_mnist` come from the first of: IDX files in `data_dir`
  (or the environment's GENCLS_DATA_DIR; the folder itself or its subfolder `name`; if neither is
  given, data/<name> in a checkout or ../shared/data/<name> beside it), data that TFDS prepared, in
  `data_dir` or TFDS's own folder, and preparation by TFDS. Any other name that TFDS knows, with or
  without the prefix "tfds:", comes from TFDS; "tfds:mnist" is MNIST by TFDS, whatever IDX files
  there are (they serve for the preparation).

  `cifar10_jpeg` are train.npz and test.npz (see `gencls.data.cifar10_jpeg`), looked for like the
  IDX files. `bg_mnist_0`, `_1` and `_5` are made of MNIST and of these, or of "cifar10" by TFDS
  where they are not there; `source` says of which. Their validation digits share no photograph with
  the training digits, so that those digits' images depend on `validation_size`.

  Args:
    name: one of `BUILT_IN`, or a TFDS name such as "cifar10" or "emnist/letters".
    split: "train", "validation" or "test".
    data_dir: folder of raw files, or None.
    validation_size: how many training examples are held out; None is 144 for digits (stratified),
      the last 5,000 for MNIST, Fashion-MNIST and BG-MNIST, the last tenth for other sets. 0 leaves
      them all in "train".

  Returns:
    The split. The same call gives the same arrays from every source.

  Raises:
    FileNotFoundError: if the data is nowhere, with the places and the ways to get it.
    ValueError: if a name or `validation_size` is wrong, or the data is damaged or of the wrong
      shape, type or range.
  """
  splits.check_split(split)
  bare = name.removeprefix(splits.TFDS_PREFIX)
  raw = _read(name, "test" if split == "test" else "train", data_dir, validation_size)
  positions = slice(None)
  if split != "test":
    size = _default_size(bare, len(raw.labels)) if validation_size is None else validation_size
    positions = splits.training_positions(raw.labels, split, size, stratify=bare == "digits")
  return Dataset(
    name=bare,
    split=split,
    source=raw.source,
    images=raw.images[positions],
    labels=raw.labels[positions],
    indices=raw.indices[positions],
    num_classes=raw.num_classes,
    num_levels=raw.num_levels,
  )


def on_disk(name: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
  """Where `load` would read a data set from; nothing is downloaded or prepared.

  Args:
    name: as in `load`.
    data_dir: as in `load`.

  Returns:
    A folder, "embedded", or None where there is nothing to be read.
  """
  if name == "digits":
    return "embedded"
  if name == cifar10_jpeg.NAME:
    folder = cifar10_jpeg.find_folder(idx.candidate_folders(name, data_dir))
    return None if folder is None else str(folder)
  if name in BACKGROUNDS:
    photos = on_disk(cifar10_jpeg.NAME, data_dir) or on_disk("cifar10", data_dir)
    digits = on_disk("mnist", data_dir)
    return f"{digits}, {photos}" if digits and photos else None
  bare = name.removeprefix(splits.TFDS_PREFIX)
  if bare in idx.SETS and name == bare:
    folder = idx.find_folder(idx.candidate_folders(bare, data_dir))
    if folder is not None:
      return str(folder)
  return tfds_source.prepared_folder(bare, idx.configured_folder(data_dir))


def _default_size(bare: str, num_training: int) -> int:
  if bare == "digits":
    return splits.DIGITS_VALIDATION_SIZE
  as_mnist = bare in (*idx.SETS, *BACKGROUNDS)
  return splits.IDX_VALIDATION_SIZE if as_mnist else num_training // 10


def _read(
  name: str,
  part: str,
  data_dir: str | os.PathLike[str] | None,
  validation_size: int | None = None,
) -> Raw:
  if name == "digits":
    return read_digits(part)
  if name == cifar10_jpeg.NAME:
    return _read_jpeg(part, data_dir)
  if name in BACKGROUNDS:
    digits = _read("mnist", part, data_dir)
    photos, held_out = _photos(name, part, data_dir), 0
    if part == "train":
      held_out = _default_size(name, 0) if validation_size is None else validation_size
      splits.check_validation_size(held_out, len(digits.labels))
    return bg_mnist.read(part, BACKGROUNDS[name], digits, photos, held_out)
  bare = name.removeprefix(splits.TFDS_PREFIX)
  folder = idx.configured_folder(data_dir)
  if bare not in idx.SETS:
    _check_tfds_name(name, bare, folder)
  candidates = idx.candidate_folders(bare, data_dir) if bare in idx.SETS else []
  raw_dir = idx.find_folder(candidates)
  if raw_dir is not None and name == bare:
    return idx.load_idx(bare, part, raw_dir)
  try:
    return tfds_source.read_tfds(bare, part, folder, raw_dir or folder)
  except FileNotFoundError as error:
    raise FileNotFoundError(_missing(bare, candidates, error)) from error


def _read_jpeg(part: str, data_dir: str | os.PathLike[str] | None) -> Raw:
  folders = idx.candidate_folders(cifar10_jpeg.NAME, data_dir)
  folder = cifar10_jpeg.find_folder(folders)
  if folder is None:
    raise FileNotFoundError(
      f"no data for {cifar10_jpeg.NAME!r}: train.npz and test.npz were looked for in\n"
      f"{_looked(folders)}\nName their folder, or the one that it lies in, by data_dir or {idx.ENV}"
    )
  return cifar10_jpeg.load_jpeg(part, folder)


def _photos(name: str, part: str, data_dir: str | os.PathLike[str] | None) -> Raw:
  """CIFAR-10 from where there is one; the original pixels are not preferred to a named folder."""
  if on_disk(cifar10_jpeg.NAME, data_dir) is not None:
    return _read_jpeg(part, data_dir)
  try:
    return _read("cifar10", part, data_dir)
  except FileNotFoundError as error:
    looked = _looked(idx.candidate_folders(cifar10_jpeg.NAME, data_dir))
    raise FileNotFoundError(
      f"{name!r} has its backgrounds from CIFAR-10, which is not there: train.npz and test.npz of "
      f"{cifar10_jpeg.NAME} were looked for in\n{looked}\nand by TFDS: {error}"
    ) from error


def _check_tfds_name(name: str, bare: str, folder: Path | None) -> None:
  known = tfds_source.known_names(folder)
  if bare.split("/")[0].split(":")[0] not in known:
    near = difflib.get_close_matches(bare, known, n=3)
    message = unknown_name("dataset", name, {*BUILT_IN, *near})
    raise ValueError(f"{message}, and every other image-classification set of TFDS")


def _looked(folders: list[Path]) -> str:
  return "\n".join(f"  {folder}" for folder in folders) or "  nowhere: no folder is configured"


def _missing(name: str, candidates: list[Path], error: FileNotFoundError) -> str:
  looked = _looked(candidates)
  idx_lines = f"IDX files (train-images-idx3-ubyte.gz and so on) were looked for in\n{looked}\n"
  idx_way = f"  - put the four IDX files into a folder and name it by data_dir or {idx.ENV}\n"
  return (
    f"no data for {name!r}.\n{idx_lines if name in idx.SETS else ''}{error}\n"
    f"Ways to get it:\n{idx_way if name in idx.SETS else ''}"
    f"  - name a folder with data that TFDS prepared by data_dir or {tfds_source.DATA_DIR_ENV}\n"
    "  - pip install 'gencls[tfds]', and let TFDS download and prepare it (needs the network, or "
    "the original downloads in data_dir)\n"
    "  - use 'digits', which needs no download"
  )
