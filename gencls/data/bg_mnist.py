"""BG-MNIST-X: MNIST digits on CIFAR-10 photographs, as easy to classify and as hard to model.

The black background d = 0 of a digit is replaced by a photograph b: greyscaled, brought from 32 to
28 pixels by area, blurred by a Gaussian of X pixels (X = 0: not at all),

  x = d + (1 − d) · b,   d and b in [0, 1].

Each digit has a photograph of its own part (train or test), drawn with replacement by a fixed seed,
the same for every X. No photograph is behind training and validation digits: the held-out digits
have theirs from those that are behind no training digit, so that a model cannot have learnt them.
Everything up to the last rounding is done in integers, so that the same
sources give the same images on every machine.

The paper states neither the size after "downsampling", nor the blur's border, nor how digit and
photograph are put together: those are choices made here.

References:
  Fetaya et al. 2020, arXiv:1906.01171, section 4.5 and table 3.
"""

import numpy as np

from gencls.data.dataset import Raw, checked

BANDWIDTHS = (0, 1, 5)
SIDE, PHOTO_SIDE = 28, 32
SEED = 20200427
_GREY = (299, 587, 114)  # ITU-R BT.601, thousandths
_FIXED = 1 << 14  # a blur's weights are integers that add up to this
_CHUNK = 5000  # images at once


def name(bandwidth: int) -> str:
  """The data set's name."""
  return f"bg_mnist_{bandwidth}"


def read(part: str, bandwidth: int, digits: Raw, photos: Raw, num_held_out: int = 0) -> Raw:
  """The digits of a part with their backgrounds.

  Args:
    part: "train" or "test".
    bandwidth: X >= 0, standard deviation of the blur in pixels.
    digits: MNIST.
    photos: CIFAR-10, the same part.
    num_held_out: how many of the digits, the last ones, are for validation; of the training part.

  Returns:
    As `digits`, with other images.

  Raises:
    ValueError: if an image has another size, or every photograph is behind a training digit.
  """
  which = choice(part, len(digits.labels), len(photos.labels), num_held_out)
  wanted, place = np.unique(which, return_inverse=True)
  behind = backgrounds(photos.images[wanted], bandwidth)
  images = np.concatenate(
    [
      over(digits.images[at : at + _CHUNK], behind[place[at : at + _CHUNK]])
      for at in range(0, len(place), _CHUNK)
    ]
  )
  source = f"digits: {digits.source}; backgrounds: {photos.source}"
  shape = (SIDE, SIDE, 1)
  raw = checked(source, images, digits.labels, image_shape=shape, num_classes=digits.num_classes)
  return raw._replace(indices=digits.indices)


def choice(part: str, num_digits: int, num_photos: int, num_held_out: int = 0) -> np.ndarray:
  """[num_digits] which photograph is behind each digit.

  A longer set starts like a shorter one. The last `num_held_out` digits share no photograph with
  those before them, which have theirs whatever is held out.

  Raises:
    ValueError: if no photograph is left for the digits that are held out.
  """
  # Raw bits of a counter-based generator: NumPy promises that these never change.
  bits = np.random.Philox(key=SEED + (part == "test")).random_raw(num_digits)
  first, last = np.split(bits, [num_digits - num_held_out])
  chosen = (first % np.uint64(num_photos)).astype(np.int64)
  if not num_held_out:
    return chosen
  left = np.setdiff1d(np.arange(num_photos), chosen)
  if not len(left):
    raise ValueError(
      "validation digits need photographs that are behind no training digit, got "
      f"{num_photos} photographs, all of which are behind the {len(first)} training digits; use "
      "more photographs or hold out more digits"
    )
  return np.concatenate([chosen, left[(last % np.uint64(len(left))).astype(np.int64)]])


def backgrounds(photos: np.ndarray, bandwidth: int) -> np.ndarray:
  """Greyscaled, shrunk and blurred photographs.

  Args:
    photos: [N, 32, 32, 3] uint8.
    bandwidth: standard deviation of the blur in pixels of the small image; 0: none.

  Returns:
    [N, 28, 28, 1] uint8, rounded once.
  """
  if photos.shape[1:] != (PHOTO_SIDE, PHOTO_SIDE, 3) or photos.dtype != np.uint8:
    raise ValueError(
      f"backgrounds are made of uint8 images of shape ({PHOTO_SIDE}, {PHOTO_SIDE}, 3), got "
      f"{photos.dtype} of {photos.shape[1:]}"
    )
  across = blur_weights(bandwidth) @ shrink_weights()
  total = int(np.sum(across[0])) ** 2 * sum(_GREY)
  found = []
  for at in range(0, len(photos), _CHUNK):
    # Integers below 2^53: float64 products are exact in whatever order they are added.
    grey = photos[at : at + _CHUNK] @ np.array(_GREY, np.float64)
    small = across @ grey @ across.T
    found.append((2 * small.astype(np.int64) + total) // (2 * total))
  return np.concatenate(found)[..., None].astype(np.uint8)


def shrink_weights() -> np.ndarray:
  """[28, 32] float64 whole numbers: how much of each old pixel lies in each new one; rows sum to 8.

  In sevenths of an old pixel, new pixel i covers 8i .. 8i + 8 and old pixel j covers 7j .. 7j + 7.
  """
  new, old = 8 * np.arange(SIDE)[:, None], 7 * np.arange(PHOTO_SIDE)[None]
  return np.clip(np.minimum(new + 8, old + 7) - np.maximum(new, old), 0, None).astype(np.float64)


def blur_weights(bandwidth: int) -> np.ndarray:
  """[28, 28] float64 whole numbers: a Gaussian, mirrored at the border; rows and columns sum alike.

  Args:
    bandwidth: its standard deviation in pixels, cut at four of them, at most 6.
  """
  if not 0 <= 4 * bandwidth < SIDE:
    raise ValueError(f"bandwidth must be >= 0 and < {SIDE / 4:g} pixels, got {bandwidth}")
  reach = np.arange(-4 * bandwidth, 4 * bandwidth + 1)
  kernel = np.exp(-0.5 * (reach / max(bandwidth, 1)) ** 2)
  kernel = np.round(_FIXED * kernel / np.sum(kernel))
  kernel[len(kernel) // 2] += _FIXED - np.sum(kernel)
  weights = np.zeros((SIDE, SIDE))
  for i in range(SIDE):
    at = np.abs(i + reach + 0.5) - 0.5  # … 1 0 | 0 1 …
    at = (SIDE - 0.5) - np.abs(at - (SIDE - 0.5))  # … 26 27 | 27 26 …
    np.add.at(weights[i], at.astype(int), kernel)
  return weights


def over(digits: np.ndarray, behind: np.ndarray) -> np.ndarray:
  """Digits before backgrounds, d + (1 − d) · b in levels, rounded; all uint8 of one shape."""
  d, b = digits.astype(np.int64), behind.astype(np.int64)
  return ((255 * d + (255 - d) * b + 127) // 255).astype(np.uint8)
