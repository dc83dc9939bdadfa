import ctypes
import resource

import numpy as np
import pytest

from gencls import runtime

PAGES = 2**26 // resource.getpagesize()  # of 64 MiB, above glibc's own limit


def faults_of_a_block():
  """Pages that the system had to map for writing a block, which is then freed."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.empty(2**26, np.uint8).fill(1)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_used_again():
  assert runtime.keep_freed_memory()
  faults_of_a_block()
  assert faults_of_a_block() < PAGES // 100
