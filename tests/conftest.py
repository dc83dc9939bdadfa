"""What all tests share: a JAX that refuses to broadcast arrays of different ranks."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Linux gives a process 65,530 pieces of memory (vm.max_map_count). Compiled programs take several
# each, workers held 39,000 and more, and some died inside XLA after two thirds of the suite, most
# likely of one too many. The tests of mixtures alone take 8,000.
MOST_PIECES = 20_000
QUICK_TO_COMPILE = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")


def pytest_configure(config):
  """Compiled programs are shared by the tests and kept for the next run (`make clean` drops them).

  The fast suite compiles hundreds of tiny ones: without LLVM's optimisations and with the older,
  quicker emitters in 40% of the time. The slow one (`make test-all`) runs every test as users run
  the library.
  """
  if hasattr(config, "cache"):  # not with -p no:cacheprovider: nothing is kept then
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  # The other worker may be writing it just now: it is compiled again.
  config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache")
  if config.option.markexpr == "not slow":
    _take_cores()
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK_TO_COMPILE])


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
  """Drops the compiled programs of the modules so far where they take many pieces of memory.

  What is needed again is read from the cache on disk.
  """
  yield
  if _pieces_of_memory() > MOST_PIECES:
    jax.clear_caches()


def _pieces_of_memory() -> int:
  """Of this process; 0 where the system does not say."""
  maps = Path("/proc/self/maps")
  return maps.read_bytes().count(b"\n") if maps.exists() else 0


def _take_cores():
  """Of several workers each keeps to cores of its own, where there are enough for all.

  Small programs gain nothing from two threads, and threads of two workers are in each other's way.
  """
  worker, count = (os.environ.get(f"PYTEST_XDIST_WORKER{end}", "") for end in ("", "_COUNT"))
  number = worker.removeprefix("gw")
  if not (number.isdecimal() and count.isdecimal() and hasattr(os, "sched_setaffinity")):
    return
  cores = sorted(os.sched_getaffinity(0))
  if int(number) < int(count) <= len(cores):
    os.sched_setaffinity(0, cores[int(number) :: int(count)])
