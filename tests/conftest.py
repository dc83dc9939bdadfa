"""What all tests share: a JAX that refuses to broadcast arrays of different ranks."""

import os

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
  """The fast suite compiles hundreds of tiny programs: without LLVM's optimisations in 60% of the
  time. The slow one (`make test-all`) runs every test as users run the library."""
  if config.option.markexpr == "not slow":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0".strip()
