"""Loading a data set by name, from whichever source has it."""

import difflib
import os
from pathlib import Path

from gencls.data import idx, splits, tfds_source
from gencls.data.dataset import Dataset, Raw
from gencls.data.digits import read_digits
from gencls.names import unknown_name

BUILT_IN = ("digits", *idx.SETS)


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

  Args:
    name: "digits", "mnist", "fashion_mnist", or a TFDS name such as "cifar10" or "emnist/letters".
    split: "train", "validation" or "test".
    data_dir: folder of raw files, or None.
    validation_size: how many training examples are held out; None is 144 for digits (stratified),
      the last 5,000 for MNIST and Fashion-MNIST, the last tenth for other sets. 0 leaves them all
      in "train".

  Returns:
    The split. The same call gives the same arrays from every source.

  Raises:
    FileNotFoundError: if the data is nowhere, with the places and the ways to get it.
    ValueError: if a name or `validation_size` is wrong, or the data is damaged or of the wrong
      shape, type or range.
  """
  splits.check_split(split)
  bare = name.removeprefix(splits.TFDS_PREFIX)
  raw = _read(name, "test" if split == "test" else "train", data_dir)
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
  bare = name.removeprefix(splits.TFDS_PREFIX)
  if bare in idx.SETS and name == bare:
    folder = idx.find_folder(idx.candidate_folders(bare, data_dir))
    if folder is not None:
      return str(folder)
  return tfds_source.prepared_folder(bare, idx.configured_folder(data_dir))


def _default_size(bare: str, num_training: int) -> int:
  if bare == "digits":
    return splits.DIGITS_VALIDATION_SIZE
  return splits.IDX_VALIDATION_SIZE if bare in idx.SETS else num_training // 10


def _read(name: str, part: str, data_dir: str | os.PathLike[str] | None) -> Raw:
  if name == "digits":
    return read_digits(part)
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


def _check_tfds_name(name: str, bare: str, folder: Path | None) -> None:
  known = tfds_source.known_names(folder)
  if bare.split("/")[0].split(":")[0] not in known:
    near = difflib.get_close_matches(bare, known, n=3)
    message = unknown_name("dataset", name, {*BUILT_IN, *near})
    raise ValueError(f"{message}, and every other image-classification set of TFDS")


def _missing(name: str, candidates: list[Path], error: FileNotFoundError) -> str:
  looked = "\n".join(f"  {folder}" for folder in candidates) or "  nowhere: no folder is configured"
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
