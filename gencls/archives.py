"""Zip archives, and so .npz files, that may be damaged.

An archive's seal is the SHA-256 of its bytes, as the archive's comment: the checksums inside a zip
cover what its members hold, and not how many there are; one flipped bit can hide arrays. Any zip
reader, NumPy's too, passes a comment by.
"""

import hashlib
import lzma
import struct
import zipfile
import zlib

# What zipfile and NumPy raise for damaged bytes.
DAMAGE = (
  *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, KeyError, EOFError, ValueError),
  *(TypeError, RuntimeError, NotImplementedError, OverflowError, MemoryError, OSError),
)

_LENGTH = struct.pack("<H", 64)  # of the comment, before it: the last field of an archive
_NONE = struct.pack("<H", 0)


def sealed(archive: bytes) -> bytes:
  """A zip archive without a comment, with its seal."""
  if not archive.endswith(_NONE):
    raise ValueError("the archive has a comment already; seal one without")
  return archive.removesuffix(_NONE) + _LENGTH + hashlib.sha256(archive).hexdigest().encode()


def check_seal(content: bytes) -> None:
  """Raises ValueError for a sealed archive that has changed; older archives have no seal."""
  body, length, seal = content[:-66], content[-66:-64], content[-64:]
  if length == _LENGTH and hashlib.sha256(body + _NONE).hexdigest().encode() != seal:
    raise ValueError("its bytes are not those of its SHA-256")
