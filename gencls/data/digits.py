"""The handwritten digits that come with scikit-learn: 1,797 real images, no download."""

import numpy as np

from gencls.data.dataset import Raw, checked
from gencls.data.splits import DIGITS_TEST_SIZE, stratified

NUM_LEVELS = 17  # ink in each 4x4 block of the scanned bitmap: 0 .. 16


def read_digits(part: str) -> Raw:
  """Reads the train or test part of the digits.

  Args:
    part: "train" or "test".

  Returns:
    [N, 8, 8, 1] images of 17 levels; indices are positions in the embedded file.

  References:
    Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, doi:10.24432/C50P49.
  """
  from sklearn.datasets import load_digits  # noqa: PLC0415

  pixels, labels = load_digits(return_X_y=True)
  images, labels = np.asarray(pixels).astype(np.uint8).reshape(-1, 8, 8, 1), np.asarray(labels)
  raw = checked(
    "sklearn.datasets.load_digits",
    images,
    labels,
    image_shape=(8, 8, 1),
    num_classes=10,
    num_levels=NUM_LEVELS,
  )
  test = stratified(labels, DIGITS_TEST_SIZE)
  chosen = test if part == "test" else np.setdiff1d(np.arange(len(labels)), test)
  return raw._replace(
    images=raw.images[chosen], labels=raw.labels[chosen], indices=raw.indices[chosen]
  )
