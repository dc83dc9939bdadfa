"""The fixed train, validation and test splits: positions, without any randomness."""

from typing import Any

import numpy as np

from gencls.names import unknown_name

SPLITS = ("train", "validation", "test")
IDX_VALIDATION_SIZE = 5000
DIGITS_TEST_SIZE = 360  # a fifth of 1,797
DIGITS_VALIDATION_SIZE = 144  # a tenth of the other 1,437
TFDS_PREFIX = "tfds:"


def check_split(split: str) -> None:
  """Raises ValueError, with the nearest names, if `split` is not one of `SPLITS`."""
  if split not in SPLITS:
    raise ValueError(unknown_name("split", split, SPLITS))


def check_validation_size(validation_size: int, n: int) -> None:
  """Raises ValueError if as many cannot be held out of n training examples."""
  if isinstance(validation_size, bool) or not isinstance(validation_size, int | np.integer):
    raise ValueError(f"validation_size must be an integer or None, got {validation_size!r}")
  if not 0 <= validation_size < n:
    raise ValueError(
      f"validation_size must be in 0 .. {n - 1} ({n} training examples), got {validation_size}"
    )


def stratified(labels: np.ndarray, size: int) -> np.ndarray:
  """Positions of `size` examples that hold each class in its share, evenly spaced in the file.

  Classes get the integer part of their share, then the largest remainders one more (the lower
  class first in a tie). Of the n examples of a class, the v chosen are number floor((j + ½) n / v).

  Args:
    labels: [N] integers.
    size: how many to choose, 0 <= size <= N.

  Returns:
    [size] increasing positions.
  """
  classes, counts = np.unique(labels, return_counts=True)
  share, remainder = np.divmod(counts * size, len(labels))
  order = np.argsort(-remainder, kind="stable")
  share[order[: size - share.sum()]] += 1
  chosen = [
    np.flatnonzero(labels == c)[(2 * np.arange(v) + 1) * n // (2 * v)]
    for c, n, v in zip(classes, counts, share, strict=True)
    if v > 0
  ]
  return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def training_positions(
  labels: np.ndarray, split: str, validation_size: int, *, stratify: bool
) -> np.ndarray:
  """Positions of the train or validation split among the training examples.

  Args:
    labels: [N] integers, of all training examples.
    split: "train" or "validation".
    validation_size: how many are held out, 0 <= size < N.
    stratify: hold out by `stratified`, else the last ones.

  Returns:
    Increasing positions.

  Raises:
    ValueError: if `validation_size` is out of range, or 0 where the validation split is wanted.
  """
  n = len(labels)
  check_validation_size(validation_size, n)
  if split == "validation" and validation_size == 0:
    raise ValueError("validation_size must be >= 1 to load the validation split, got 0")
  last = np.arange(n - int(validation_size), n)
  held_out = stratified(labels, int(validation_size)) if stratify else last
  return held_out if split == "validation" else np.setdiff1d(np.arange(n), held_out)


def describe_split(name: str, validation_size: int | None = None) -> dict[str, Any]:
  """A statement of the fixed split, for a run's config.json.

  Args:
    name: as given to `load`.
    validation_size: as given to `load`.

  Returns:
    A dict of strings, integers and None.
  """
  bare = name.removeprefix(TFDS_PREFIX)
  if bare == "digits":
    validation_size = DIGITS_VALIDATION_SIZE if validation_size is None else validation_size
    train = "the examples of the 1797 that are in neither of the others"
    validation = f"{validation_size} of those not in test, stratified, evenly spaced in each class"
    test = f"{DIGITS_TEST_SIZE} of the 1797, stratified, evenly spaced in each class"
  elif bare in ("mnist", "fashion_mnist") or bare.startswith("bg_mnist_"):
    validation_size = IDX_VALIDATION_SIZE if validation_size is None else validation_size
    train = f"the training file without its last {validation_size} examples"
    validation = f"the last {validation_size} examples of the training file"
    test = "the test file"
  elif bare == "cifar10_jpeg":
    held_out = "tenth" if validation_size is None else f"{validation_size} examples"
    train, test = f"train.npz without its last {held_out}", "test.npz"
    validation = f"the last {held_out} of train.npz"
  else:
    held_out = "tenth (rounded down)" if validation_size is None else f"{validation_size} examples"
    train = f"the TFDS split 'train' without its last {held_out}"
    validation = f"the last {held_out} of the TFDS split 'train'"
    test = (
      "the TFDS split 'test'; where there is none, 'validation'; where there is neither, the last "
      "fifth (rounded down) of 'train', which then ends before it"
    )
  return {
    "dataset": bare,
    "validation_size": validation_size,
    "train": train,
    "validation": validation,
    "test": test,
  }
