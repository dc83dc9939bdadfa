"""Checkpoints through Orbax, and only here: the latest ones and the best one are kept.

Orbax commits a checkpoint by a rename, so that a killed save leaves nothing that looks like one.
What happens to the files afterwards (a truncated copy, a bad disk) it notices late or, inside an
array, not at all; so each checkpoint gets a seal, the sizes and CRCs of its files.
"""

import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gencls import json_files
from gencls.workdir import atomic_write, differences, to_json

SEAL = "seal.json"


class Restored(NamedTuple):
  """A checkpoint read back."""

  step: int
  state: Any  # the pytree that was saved
  config: dict[str, Any]
  progress: dict[str, Any]  # what the training loop remembers besides its state


def _accuracy(metrics: Any) -> float:
  return metrics["accuracy"]


def open_manager(
  directory: str | Path, *, keep: int = 2, read_only: bool = False
) -> ocp.CheckpointManager:
  """Opens (or makes) a folder of checkpoints.

  Args:
    directory: the folder.
    keep: how many of the latest checkpoints to keep, >= 1, besides the best one.
    read_only: change nothing, since a training may be writing there.

  Returns:
    An Orbax manager for the functions below; `close()` it in the end.

  Raises:
    ValueError: if `keep` < 1, or the accuracy of a checkpoint cannot be read.
  """
  if keep < 1:
    raise ValueError(f"checkpoint.keep must be >= 1, got {keep}")
  for path in sorted(Path(directory).glob("*/metrics/metrics")):
    _check_metrics(path)
  policies = [
    preservation_policy.LatestN(keep),
    preservation_policy.BestN(get_metric_fn=_accuracy, n=1, keep_checkpoints_without_metrics=False),
  ]
  options = ocp.CheckpointManagerOptions(
    best_fn=_accuracy,  # without it Orbax forgets the metrics when the process ends
    preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
    enable_async_checkpointing=False,
    cleanup_tmp_directories=not read_only,
    create=not read_only,
    read_only=read_only,
  )
  return ocp.CheckpointManager(Path(directory).resolve(), options=options)


def _check_metrics(path: Path) -> None:
  """Orbax reads these files first of all, and gives up at one that it cannot read."""
  folder = path.parent.parent
  fix = f"delete {folder}: another checkpoint takes its place"
  found = json_files.read_object(path, fix=fix, needs=("accuracy",))
  if not isinstance(found["accuracy"], float):
    raise ValueError(f"{path} is damaged (its accuracy is {found['accuracy']!r}); {fix}")


def save(
  manager: ocp.CheckpointManager,
  step: int,
  state: Any,
  *,
  config: dict[str, Any],
  progress: dict[str, Any],
  accuracy: float | None = None,
) -> None:
  """Saves a checkpoint and returns when it is on disk.

  Args:
    manager: from `open_manager`.
    step: its number.
    state: pytree of arrays.
    config: plain dict, kept beside the state.
    progress: plain dict, what the training loop remembers besides its state.
    accuracy: validation accuracy, under attack where the training is adversarial, which decides
      which checkpoint is the best; None where there was no validation at this step.
  """
  if step in manager.all_steps():
    return  # asked to stop right after a validation: this very state is saved already
  manager.save(
    step,
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      config=ocp.args.JsonSave(config),
      progress=ocp.args.JsonSave(progress),
      arrays=ocp.args.JsonSave(leaf_kinds(state)),
    ),
    metrics=None if accuracy is None else {"accuracy": accuracy},
    force=True,
  )
  manager.wait_until_finished()
  if jax.process_index() == 0:
    folder = _folder(manager, step)
    atomic_write(folder / SEAL, to_json(_seal(folder)))


def restore(
  manager: ocp.CheckpointManager,
  abstract_state: Any,
  *,
  step: int | str = "latest",
  delete_broken: bool = False,
) -> Restored:
  """Reads the wanted checkpoint, or the next one in line where its files are damaged.

  Args:
    manager: from `open_manager`.
    abstract_state: pytree of `jax.ShapeDtypeStruct` with shardings, as saved.
    step: "latest", "best" (validation accuracy; ties: the later) or a number.
    delete_broken: delete damaged checkpoints, so that training can save at their steps again.

  Returns:
    `Restored`.

  Raises:
    FileNotFoundError: if there is no (whole) checkpoint.
    ValueError: if the wanted step does not exist, or holds other arrays than `abstract_state`.
  """
  for candidate in _candidates(manager, step):
    folder = _folder(manager, candidate)
    damage = _damage(folder)
    if damage:
      warnings.warn(f"checkpoint {folder} is damaged ({damage}): trying an older one", stacklevel=2)
      if delete_broken:
        manager.delete(candidate)
      continue
    return _read(manager, candidate, abstract_state)
  raise FileNotFoundError(
    f"no whole checkpoint in {manager.directory}: train into this work directory first "
    "(launch/train.py --config=... --workdir=...)"
  )


def _read(manager: ocp.CheckpointManager, step: int, abstract_state: Any) -> Restored:
  names = ("config", "progress", "arrays")
  texts = manager.restore(
    step, args=ocp.args.Composite(**{name: ocp.args.JsonRestore() for name in names})
  )
  # Looked at first: Orbax would give up in the middle of reading, with a page of its own terms.
  found = differences(texts["arrays"], leaf_kinds(abstract_state))
  if found:
    raise ValueError(
      f"checkpoint {_folder(manager, step)} holds other arrays than this model and optimizer "
      f"(there -> here): {'; '.join(found[:5])}{' ...' if len(found) > 5 else ''}. Use the "
      "hyperparameters it was trained with"
    )
  state = manager.restore(
    step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
  )["state"]
  return Restored(step, state, texts["config"], texts["progress"])


def leaf_kinds(tree: Any) -> dict[str, str]:
  """Path -> dtype and shape of every leaf."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
    for path, leaf in leaves
  }


def _candidates(manager: ocp.CheckpointManager, step: int | str) -> Iterator[int]:
  steps = sorted(manager.all_steps(), reverse=True)
  if isinstance(step, int):
    if step not in steps:
      raise ValueError(f"no checkpoint of step {step} in {manager.directory}. There are: {steps}")
    return iter([step])
  if step not in ("latest", "best"):
    raise ValueError(f'step must be "latest", "best" or a number, got {step!r}')
  if step == "best":
    scores = {s: m["accuracy"] for s in steps if (m := manager.metrics(s)) is not None}
    steps.sort(key=lambda s: (s in scores, scores.get(s, 0.0), s), reverse=True)
  return iter(steps)


def _folder(manager: ocp.CheckpointManager, step: int) -> Path:
  return Path(manager.directory) / str(step)


def _seal(folder: Path) -> dict[str, list[int]]:
  """Size and CRC of every file of a checkpoint, by relative path."""
  files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
  return {
    path.relative_to(folder).as_posix(): [len(data := path.read_bytes()), zlib.crc32(data)]
    for path in files
  }


def _damage(folder: Path) -> str | None:
  """What is wrong with the files of a checkpoint, or None."""
  if not (folder / SEAL).is_file():
    # Killed between Orbax's commit and the seal: whole. An empty shell was never committed.
    return None if (folder / "state").is_dir() else "it holds no state"
  try:
    sealed = json_files.parse((folder / SEAL).read_bytes())
  except ValueError as error:
    return f"{SEAL}: {error}"
  found = _seal(folder)
  for name, expected in sealed.items():
    if name not in found:
      return f"{name} is missing"
    if found[name] != expected:
      return f"{name} has {found[name]} (bytes, CRC), and {expected} were written"
  return None
