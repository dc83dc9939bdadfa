"""A work directory holds everything of a run: what it was asked, with what, and the results.

config.json     the config, the data split, versions, git revision, devices, command line
metrics.jsonl   tensorboard/   checkpoints/   results/   figures/
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from gencls import json_files, locks, owners, runtime

_LOG = logging.getLogger(__name__)

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gencls")
# Where the data lies is a matter of the machine, not of the run.
NOT_COMPARED = ("data.dir",)
# Fields that configs were given later, and the value by which all is as it was before.
NEW_FIELDS = {"adversarial.warmup_steps": 0, "model.init_scale": 0.0, "model.backward": None}


def atomic_write(path: str | os.PathLike[str], data: str | bytes) -> None:
  """Writes a file whole or not at all: whatever happens, the old file or the new one is there.

  Args:
    path: the file; its folder is made if it is missing.
    data: text (UTF-8) or bytes.

  Raises:
    OSError: if it cannot be written (a full disk); the old file is untouched.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  content = data.encode() if isinstance(data, str) else data
  descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
  try:
    with os.fdopen(descriptor, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException as error:
    Path(temporary).unlink(missing_ok=True)
    if isinstance(error, OSError) and error.errno is not None:
      # A full disk does not say which file it had no room for.
      raise OSError(error.errno, error.strerror, str(path)) from error
    raise


def to_json(value: Any, *, compact: bool = False) -> str:
  """JSON that refuses NaN and infinity, indented or as short as can be."""
  indent, separators = (None, (",", ":")) if compact else (2, None)
  return json.dumps(value, indent=indent, separators=separators, allow_nan=False) + "\n"


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that decide the numbers."""
  found = {"python": platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed"
  return found


def git_revision() -> dict[str, Any]:
  """Revision of the source tree, and whether it had changes; None where there is no git."""
  root = Path(__file__).resolve().parent.parent

  def git(*args: str) -> str | None:
    command = ["git", "-C", str(root), *args]
    try:
      return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
      return None

  if git("ls-files", "--error-unmatch", "gencls/workdir.py") is None:
    return {"revision": None, "dirty": None}  # installed, or inside somebody else's repository
  changes = git("status", "--porcelain", "--untracked-files=no")
  return {"revision": git("rev-parse", "HEAD"), "dirty": bool(changes)}


def source_digest(folder: Path | None = None) -> str:
  """The hash, 12 hexadecimal digits, of a folder's *.py files by name; None: of this package."""
  folder, digest = folder or Path(__file__).resolve().parent, hashlib.sha256()
  for path in sorted(folder.rglob("*.py")):
    content = path.read_bytes()
    digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
  return digest.hexdigest()[:12]


def provenance() -> dict[str, Any]:
  """With what a command runs: versions, git revision, devices, command line."""
  return {
    "versions": versions(),
    "git": git_revision(),
    "devices": {
      "kind": jax.devices()[0].device_kind,
      "cores": runtime.cores(),
      "platform": jax.default_backend(),
      "count": jax.device_count(),
      "processes": jax.process_count(),
    },
    "command": shlex.join(sys.argv),
  }


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
  """Dotted fields in which two configs differ, each as "field: old -> new"."""
  if isinstance(old, dict) and isinstance(new, dict):
    found: list[str] = []
    for name in sorted(old.keys() | new.keys()):
      field = f"{prefix}{name}"
      if field not in NOT_COMPARED:
        missing = "(absent)"
        found += differences(old.get(name, missing), new.get(name, missing), f"{field}.")
    return found
  return [] if old == new else [f"{prefix.rstrip('.')}: {old!r} -> {new!r}"]


def with_new_fields(old: dict[str, Any]) -> dict[str, Any]:
  """An older config with the `NEW_FIELDS` that it does not have, where it has their group."""
  found = dict(old)
  for field, value in NEW_FIELDS.items():
    group, _, name = field.partition(".")
    if isinstance(found.get(group), dict):
      found[group] = {name: value, **found[group]}
  return found


@contextlib.contextmanager
def one_job(workdir: str | os.PathLike[str]) -> Iterator[None]:
  """Waits until no other job trains in a folder, and keeps others waiting while the block runs.

  All processes of a job come here; the first has the lock.
  """

  def waiting(owner: owners.Owner | None) -> None:
    _LOG.warning("%s trains in %s: waiting for it to end", owners.describe(owner), workdir)

  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      stack.enter_context(locks.hold(Path(workdir) / "training.lock", waiting))
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("training.lock")
    yield


def _data(record: dict[str, Any]) -> dict[str, Any]:
  statement = {k: v for k, v in record.get("data", {}).items() if k != "source"}
  return {"data": statement, "class_prior": record.get("class_prior")}


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
  """Everything in a run's config.json: "config", "data", "class_prior", "versions", ...

  Raises:
    FileNotFoundError: if the folder holds no run.
    ValueError: if config.json is damaged.
  """
  path = Path(workdir) / "config.json"
  if not path.is_file():
    raise FileNotFoundError(
      f"{str(workdir)!r} is not a run's work directory: it has no config.json. "
      f"Train into it first: launch/train.py --config=... --workdir={workdir}"
    )
  return json_files.read_object(path, fix="restore or delete it", needs=("config",))


def claim(
  workdir: str | os.PathLike[str], record: dict[str, Any], *, override: bool = False
) -> dict[str, Any]:
  """Makes a folder the work directory of a config, or refuses one that belongs to another.

  It belongs to a config from the first checkpoint on: where a run failed before, for a value that
  only its data could refuse, the corrected command finds the folder free.

  Args:
    workdir: the folder; made if missing.
    record: what config.json shall hold; `record["config"]` is compared with what is there, field
      by field, except `NOT_COMPARED`; what an older config lacks of `NEW_FIELDS` has their value.
    override: take the folder over although its config differs.

  Returns:
    What config.json now holds: the older record where the configs agree.

  Raises:
    ValueError: if `override` is False and the folder's config or data differ, which names the
      fields, or it has checkpoints without a config.
  """
  record = json.loads(json.dumps(record, allow_nan=False))
  saved = any(Path(workdir).glob("checkpoints/*"))
  if (Path(workdir) / "config.json").is_file():
    old = read_config(workdir)
    found = differences(with_new_fields(old["config"]), with_new_fields(record["config"]))
    # The same config on other data is another run; where the data came from may differ.
    found += differences(_data(old), _data(record))
    if not found:
      return old
    if saved and not override:
      raise ValueError(
        f"{str(workdir)!r} belongs to a run with another config. Differing fields (there -> here): "
        f"{'; '.join(found)}. Use another --workdir, or --override_config to continue that run "
        "with these values"
      )
  elif saved and not override:
    raise ValueError(
      f"{str(workdir)!r} has checkpoints but no config.json, which says what they are of. Use "
      "another --workdir, put the file back, or pass --override_config to continue that run with "
      "this config"
    )
  if jax.process_index() == 0:
    atomic_write(Path(workdir) / "config.json", to_json(record))
  return record
