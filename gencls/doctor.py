"""What `gencls doctor` prints: the first thing to paste into a bug report.

Folders are written without the home folder and the user's name.
"""

import getpass
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

OK, FAIL, NOTE = "ok", "FAIL", "--"
_REINSTALL = "pip install --require-hashes -r requirements/runtime.lock"
_LEAST_GIB = 2.0


class Line(NamedTuple):
  """One thing that was looked at."""

  status: str  # OK, FAIL or NOTE (nothing wrong)
  name: str
  detail: str
  fix: str = ""  # what to do about a failure


def show(line: Line) -> str:
  """For example "ok    python           3.12.1, Linux x86_64"."""
  fix = f"\n      {'fix':<32} {line.fix}" if line.status == FAIL and line.fix else ""
  return f"{line.status:<5} {line.name:<32} {line.detail}{fix}"


def private(path: str | Path) -> str:
  """A path without the home folder and the user's name."""
  text, home = str(path), str(Path.home())
  if home not in ("/", "") and (text + "/").startswith(home + "/"):
    text = "~" + text[len(home) :]
  user = getpass.getuser()
  parts = ["<user>" if part == user else part for part in text.split("/")]
  return "/".join(parts)


def run(write: Callable[[str], None] = print) -> int:
  """Looks at everything and writes a line for each.

  Args:
    write: takes each line as soon as it is known.

  Returns:
    The exit code: 1 if anything failed.
  """
  failed = 0
  for line in examine():
    write(show(line))
    failed += line.status == FAIL
  write(f"\n{failed} failed" if failed else "\nEverything works.")
  return int(failed > 0)


def examine() -> Iterator[Line]:
  """Every line, the self-test last."""
  yield _python()
  broken = False
  for line in _packages():
    broken |= line.status == FAIL
    yield line
  if broken:
    yield Line(NOTE, "the rest", "not looked at: packages are missing")
    return
  yield _revision()
  yield from _devices()
  yield _host_memory()
  yield _cache()
  yield from _data_sets()
  yield from _self_test()


def _python() -> Line:
  version, where = platform.python_version(), f"{platform.system()} {platform.machine()}"
  right = (3, 11) <= sys.version_info[:2] < (3, 14)
  fix = "use Python 3.11 to 3.13: make PYTHON=python3.12 ..."
  return Line(OK if right else FAIL, "python", f"{version}, {where}", fix)


def _packages() -> Iterator[Line]:
  try:
    from gencls.workdir import versions  # noqa: PLC0415
  except ImportError as error:  # jax itself
    yield Line(FAIL, "packages", str(error), _REINSTALL)
    return
  for name, version in versions().items():
    if name == "python":
      continue
    missing = version == "not installed"
    if name == "gencls" and missing:
      yield Line(OK, "gencls", "not installed, imported from its source tree")
    else:
      yield Line(FAIL if missing else OK, name, version, _REINSTALL)


def _revision() -> Line:
  from gencls.workdir import git_revision, source_digest  # noqa: PLC0415

  git = git_revision()
  if git["revision"] is None:
    return Line(OK, "source", f"no git revision, digest {source_digest()}")
  changes = " with uncommitted changes" if git["dirty"] else ""
  return Line(OK, "source", f"revision {git['revision'][:12]}{changes}")


def _devices() -> Iterator[Line]:
  import jax  # noqa: PLC0415

  try:
    devices = jax.devices()
  except RuntimeError as error:
    fix = "unset JAX_PLATFORMS, or install the JAX of this accelerator: pip install 'gencls[cuda]'"
    yield Line(FAIL, "devices", str(error).splitlines()[0], fix)
    return
  kinds = ", ".join(sorted({device.device_kind for device in devices}))
  yield Line(OK, "devices", f"{len(devices)} x {kinds} ({jax.default_backend()})")
  stats = devices[0].memory_stats() or {}
  if "bytes_limit" in stats:
    used, limit = (stats[name] / 2**30 for name in ("bytes_in_use", "bytes_limit"))
    yield Line(OK, "device memory", f"{limit:.1f} GiB for JAX, {used:.1f} GiB in use")


def _host_memory() -> Line:
  try:
    names = ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES")
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (os.sysconf(name) * page / 2**30 for name in names)
  except (ValueError, OSError, AttributeError):  # not every system tells
    return Line(NOTE, "host memory", "this system does not tell")
  detail = f"{total:.1f} GiB, {free:.1f} GiB free, {os.cpu_count()} cores"
  fix = f"training needs about {_LEAST_GIB:g} GiB"
  return Line(OK if total >= _LEAST_GIB else FAIL, "host memory", detail, fix)


def _cache() -> Line:
  from gencls.runtime import cache_dir  # noqa: PLC0415

  folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_dir())
  fix = "name a writable folder by JAX_COMPILATION_CACHE_DIR; without it every start compiles anew"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder):
      pass
  except OSError as error:
    return Line(FAIL, "compilation cache", f"{private(folder)}: {error.strerror}", fix)
  return Line(OK, "compilation cache", f"{private(folder)} can be written")


def _data_sets() -> Iterator[Line]:
  from gencls import data  # noqa: PLC0415
  from gencls.data.load import BUILT_IN  # noqa: PLC0415

  for name in BUILT_IN:
    try:
      found = data.on_disk(name)
    except (OSError, ValueError) as error:
      fix = "GENCLS_DATA_DIR must name a folder that is there"
      yield Line(FAIL, f"data: {name}", private(str(error).splitlines()[0]), fix)
      continue
    missing = "not here; name its folder by GENCLS_DATA_DIR"
    yield Line(OK if found else NOTE, f"data: {name}", private(found) if found else missing)


def _self_test() -> Iterator[Line]:
  from absl import logging  # noqa: PLC0415

  from gencls import runtime, selftest  # noqa: PLC0415

  logging.set_verbosity(logging.ERROR)  # Orbax warns whenever checkpoints are only read
  runtime.start(deterministic=False)
  fix = "paste all of this into a bug report"
  for name, ok, detail in selftest.run():
    yield Line(OK if ok else FAIL, name, detail, fix)
