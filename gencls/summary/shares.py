"""Shares of draws, one for each image, in as few characters as they need.

So a results file knows which images are right, and models can be compared image by image when the
runs behind them are gone.
"""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np


def pack(values: np.ndarray, draws: int) -> dict[str, Any]:
  """The counts of draws, in binary, end to end, in Base64: JSON-able.

  Args:
    values: [N], multiples of 1 / draws in [0, 1].
    draws: number of draws.

  Raises:
    ValueError: if a value is no share of so many draws.
  """
  scaled = np.asarray(values, np.float64) * draws
  counts = np.rint(scaled)
  if not np.all((np.abs(counts - scaled) < 1e-3) & (counts >= 0) & (counts <= draws)):
    raise ValueError(f"not all values are shares of {draws} draws")
  bits = counts.astype(np.int64)[:, None] >> np.arange(draws.bit_length()) & 1
  text = base64.b64encode(np.packbits(bits.astype(np.uint8)).tobytes()).decode()
  return {"images": len(values), "draws": draws, "counts": text}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
  """[N] float64, what `pack` was given.

  Raises:
    ValueError: if it is damaged.
  """
  images, draws = packed["images"], packed["draws"]
  if draws < 1:
    raise ValueError(f"counts of {draws} draws are no shares")
  width = draws.bit_length()
  data = np.frombuffer(base64.b64decode(packed["counts"], validate=True), np.uint8)
  if len(data) != (images * width + 7) // 8:
    raise ValueError(f"{len(data)} bytes are not the counts of {images} images in {draws} draws")
  bits = np.unpackbits(data)[: images * width].reshape(images, width)
  counts = bits @ (1 << np.arange(width))
  if np.any(counts > draws):
    raise ValueError(f"a count is more than {draws} draws")
  return counts / draws
