"""What all tests share: a JAX that refuses to broadcast arrays of different ranks."""

import os

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
QUICK_TO_COMPILE = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")


def pytest_configure(config):
  """Compiled programs are shared by the tests and kept for the next run (`make clean` drops them).

  The fast suite compiles hundreds of tiny ones: without LLVM's optimisations and with the older,
  quicker emitters in 40% of the time. The slow one (`make test-all`) runs every test as users run
  the library.
  """
  jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  # The other worker may be writing it just now: it is compiled again.
  config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache")
  _take_a_core(os.environ.get("PYTEST_XDIST_WORKER"))
  if config.option.markexpr == "not slow":
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK_TO_COMPILE])


def _take_a_core(worker):
  """Of several workers each stays on a core of its own, where there are enough: small programs
  gain nothing from two threads, and the threads of two workers stand in each other's way."""
  if worker is None or not hasattr(os, "sched_setaffinity"):
    return
  cores, number = sorted(os.sched_getaffinity(0)), int(worker.removeprefix("gw"))
  if number < len(cores):
    os.sched_setaffinity(0, {cores[number]})
