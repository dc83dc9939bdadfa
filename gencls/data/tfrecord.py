"""TFRecord files, TFDS's default format, read without TensorFlow.

A record is its length (little-endian uint64), a checksum of that (4 bytes), the bytes, and a
checksum of those (4 bytes). Checksums (masked CRC-32C) are not verified; lengths are.
See https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

import struct
from collections.abc import Iterator
from pathlib import Path


def read_tfrecord(path: Path) -> Iterator[bytes]:
  """Yields the records of a file, in order.

  Args:
    path: an uncompressed TFRecord file.

  Yields:
    The bytes of each record.

  Raises:
    ValueError: if the file ends within a record.
  """
  with path.open("rb") as file:
    while head := file.read(12):
      size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
      remaining = path.stat().st_size - file.tell()
      if len(head) < 12 or remaining < size + 4:
        raise ValueError(f"{path} is truncated: a record ends beyond the file; prepare it again")
      yield file.read(size)
      file.read(4)
