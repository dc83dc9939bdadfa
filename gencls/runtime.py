"""What a command switches on before it computes: compile cache, determinism, several processes."""

import os
from pathlib import Path

import jax

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


def cache_dir() -> Path:
  """The user's folder for compiled programs."""
  base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(base) / "gencls" / "xla"
