"""What a command switches on before it computes: compile cache, determinism, several processes."""

import ctypes
import os
from pathlib import Path

import jax
from absl import logging

from gencls import interrupts

# glibc's malloc.h: what it asks the system for, when it gives memory back, from how many pools.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def start(
  *,
  deterministic: bool,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Sets JAX up for a command; call it before anything is computed.

  Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR, or else in the user's cache folder, so
  that a second start is quick.

  Args:
    deterministic: forbid GPU operations whose result depends on timing (atomic adds, and the
      choice of an algorithm by measurement), so that a resumed run is bit-identical. CPUs and TPUs
      are deterministic anyway. Costs some speed on GPUs.
    coordinator: host:port of process 0, for several processes; None: one process.
    num_processes: of the whole job.
    process_id: of this process, from 0.

  Raises:
    ValueError: if only some of the three values for several processes are given.
  """
  keep_freed_memory()
  flags = os.environ.get("XLA_FLAGS", "")
  if deterministic and "xla_gpu_deterministic_ops" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", str(cache_dir()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
  several = (coordinator, num_processes, process_id)
  if all(value is None for value in several):
    return
  if any(value is None for value in several):
    raise ValueError(
      "several processes need --coordinator, --num_processes and --process_id, "
      f"got {coordinator}, {num_processes} and {process_id}"
    )
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(coordinator, num_processes, process_id)


def keep_freed_memory() -> bool:
  """Lets the process keep the memory it frees, for its next computation.

  By default glibc gives blocks above 32 MiB back at once, and XLA on CPU asks for its temporary
  memory anew at every call: the system then clears every page again. Threads other than the first
  draw on pools of their own, which cannot grow beyond 64 MiB, so there is one pool for all. An
  input gradient of 128 images of a small CNN takes two thirds of the time without that.

  Returns:
    Whether the C library knows these settings; elsewhere nothing happens.
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
  if mallopt is None:
    return False
  settings = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}
  return all(mallopt(name, value) for name, value in settings.items())


def cores() -> int:
  """The cores that this process may use: those that it is bound to (`taskset`), or all."""
  bound = getattr(os, "sched_getaffinity", None)
  return len(bound(0)) if bound else os.cpu_count() or 1


def cache_dir() -> Path:
  """The user's folder for compiled programs."""
  base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(base) / "gencls" / "xla"


def start_reading() -> None:
  """`start` for a command that only reads a trained run: quiet, and at full float32 precision."""
  logging.set_verbosity(logging.WARNING)
  # Orbax warns whenever checkpoints are only read, which is all that happens here.
  logging.get_absl_logger().addFilter(
    lambda line: line.module != "checkpoint_manager" or "read" not in line.getMessage()
  )
  start(deterministic=False)
  interrupts.exit_on_sigterm()
  if jax.default_backend() != "cpu":
    # Attacks find the rounding of TF32 and bfloat16; what they find there is no robustness.
    jax.config.update("jax_default_matmul_precision", "highest")
