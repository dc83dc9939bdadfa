"""Result cells: one attack at one eps on the first n images, one .npz file each, written whole.

A cell belongs to its identity, the hash of everything that decides its numbers: attack, eps, data,
parameters, seed, threat model and draws. Another setting is another file; a finished one is never
computed again.
"""

import hashlib
import io
import json
import os
import re
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls import json_files
from gencls.archives import DAMAGE, check_seal, sealed
from gencls.types import Params
from gencls.workdir import atomic_write, differences

FORMAT = 1
RESULT_FIELDS = ("label", "norm", "eps", "settings", "num_images", "seconds", "record")
CLIPPED = "clipped_"  # before the names of arrays [N, E, …] of images clipped to each eps
_HEADER = "header"


class Cell(NamedTuple):
  """One finished cell: what it is (JSON) and its per-example arrays, [n, ...]."""

  header: dict[str, Any]
  arrays: dict[str, np.ndarray]


def canonical_json(value: Any) -> str:
  """One text for one value: sorted keys, no spaces, no NaN."""
  return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(settings: Mapping[str, Any]) -> str:
  """The hash, 12 hexadecimal digits, of JSON-able settings."""
  text = canonical_json({"format": FORMAT, **settings})
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def params_digest(params: Params) -> str:
  """The hash, 12 hexadecimal digits, of every parameter's path, shape, dtype and bytes."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()[:12]


def cell_path(folder: Path, label: str, settings: Mapping[str, Any]) -> Path:
  """Where the cell of these settings lives: `folder`/<label>-<identity>.npz."""
  safe = re.sub(r"[^\w.]+", "_", label)
  return folder / f"{safe}-{identity(settings)}.npz"


def write_cell(path: Path, cell: Cell, write: Callable[[Path, bytes], None] = atomic_write) -> None:
  """Writes a cell whole or not at all.

  Args:
    path: the cell's file; its folder is made if it is missing.
    cell: header and arrays.
    write: (path, bytes) -> None, atomic.

  Raises:
    OSError: if the disk is full or not writable; files that were there stay as they were.
  """
  header = np.frombuffer(json.dumps(cell.header, allow_nan=False).encode(), np.uint8)
  content = io.BytesIO()
  np.savez_compressed(content, allow_pickle=False, **{_HEADER: header}, **cell.arrays)
  write(path, sealed(content.getvalue()))


def read_cell(path: Path) -> Cell:
  """Reads a cell.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if the file is damaged.
  """
  content = path.read_bytes()
  try:
    check_seal(content)
    with zipfile.ZipFile(io.BytesIO(content)) as file:
      # Read whole, then parsed: an array shorter than its file would leave the checksum unread.
      parts = {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}
    arrays = {name: np.load(io.BytesIO(part), allow_pickle=False) for name, part in parts.items()}
    header = json_files.parse(arrays.pop(_HEADER).tobytes())
  except DAMAGE as error:
    raise ValueError(f"result cell {path} is damaged ({error}); delete it and run again") from error
  return Cell(header, arrays)


def read_result(path: Path) -> Cell:
  """Reads a finished cell that is what the hash in its file's name says.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if the file is damaged, incomplete, or the cell of other settings.
  """
  cell = read_cell(path)
  need(path, cell, RESULT_FIELDS, ("index", "label", "correct"))
  settings = cell.header["settings"]
  own = identity(settings) if isinstance(settings, dict) else "none"
  if not path.stem.endswith(f"-{own}"):
    raise ValueError(
      f"result cell {path} holds the results of other settings, {own}: it was copied from another "
      "run, or written by another version; move it away and run again"
    )
  rows = {len(cell.arrays[name]) for name in ("index", "label", "correct")}
  if rows != {cell.header["num_images"]}:
    raise ValueError(
      f"result cell {path} is damaged (it says {cell.header['num_images']} images and holds "
      f"{sorted(rows)}); delete it and run again"
    )
  return cell


def need(path: Path, cell: Cell, fields: Sequence[str], arrays: Sequence[str] = ()) -> None:
  """Raises ValueError for a cell that lacks a field of its header or an array."""
  missing = [name for name in fields if name not in cell.header]
  missing += [name for name in arrays if np.ndim(cell.arrays.get(name, 0)) == 0]
  if missing:
    raise ValueError(
      f"result cell {path} is damaged (it has no {', '.join(missing)}); delete it and run again"
    )


def data_digest(images: np.ndarray, labels: np.ndarray) -> str:
  """The hash, 12 hexadecimal digits, of the images and their labels."""
  digest = hashlib.sha256(f"{images.shape} {images.dtype} {labels.tolist()}".encode())
  digest.update(np.ascontiguousarray(images).tobytes())
  return digest.hexdigest()[:12]


def check_same_evaluation(path: Path, config: Mapping[str, Any]) -> None:
  """Refuses to overwrite the table of another evaluation.

  More attacks, or more eps of the same attacks, continue an evaluation; the batch size is no part
  of it.

  Args:
    path: table.json, there or not.
    config: the evaluation's config, JSON-able.

  Raises:
    ValueError: if another evaluation has that name; says in what they differ.
  """
  if not path.is_file():
    return
  fix = f"delete it and run again: no finished cell in {path.parent} is computed again"
  old = json_files.read_object(path, fix=fix, needs=("config",))["config"]
  new = json.loads(json.dumps(config))
  found = differences(_compared(old, {}), _compared(new, old))
  if found:
    raise ValueError(
      f"results/{config['name']} holds another evaluation: {'; '.join(found)}. Give this one a "
      f"name of its own with --config.name=..., or delete {path.parent}"
    )


def _compared(config: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
  """What tells evaluations apart; attacks and eps that `old` does not have are left out."""
  before = old.get("attacks", config["attacks"])
  attacks = {}
  for label, settings in config["attacks"].items():
    if label in before:
      eps = [e for e in settings["eps"] if e in before[label]["eps"]]
      # What is not set is no difference: older configs do not have every setting.
      # Nor is why an attack was made, or whether it met what others had broken.
      aside = ("models", "after")
      given = {k: value for k, value in settings.items() if value is not None and k not in aside}
      attacks[label] = {**given, "eps": sorted(eps)}
  found = {**config, "attacks": attacks, "batch_size": None}
  for part in ("model", "attack_model"):
    if part in found:
      found[part] = {k: value for k, value in found[part].items() if value is not None}
  if (config.get("detector") or {"name": None})["name"] is None:
    found.pop("detector", None)  # as in older configs, which have no such block
  for name in ("probe_gradient", "surface", "regrade_samples", "transfer_from"):
    found.pop(name, None)  # they add cells and change none
  return found


def portable_command(command: str) -> str:
  """A command line without this machine's folders: paths relative, or their last part."""

  def short(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else Path(path).name

  def portable(token: str) -> str:
    flag, equals, value = token.rpartition("=")
    if not os.path.isabs(value):  # or a tuple of paths
      return re.sub(r"(?<=['\"])/[^'\"]*", lambda found: short(found[0]), token)
    return f"{flag}{equals}{short(value)}"

  return shlex.join(portable(token) for token in shlex.split(command))
