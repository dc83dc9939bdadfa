"""A sweep as a flat list of cells: which commands there are, what each needs, who runs which.

A sweep's folder holds sweep.json (the list), runs/<run>/ (a work directory each, with the results
of its evaluations inside) and cells/<cell>.{json,log,lock}: how a cell ended, what it printed, and
who runs it.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gencls import json_files

TRAIN = "train"  # the column of the cells that train
LIST = "sweep.json"
INDEX_VARIABLES = ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX")


class Cell(NamedTuple):
  """One command of a sweep."""

  name: str  # names its files
  run: str  # the run that it trains or evaluates
  column: str  # TRAIN, or the evaluation's name
  script: str  # in launch/
  arguments: tuple[str, ...]  # all but --workdir
  needs: tuple[str, ...]  # names of cells that must be finished before
  product: str  # in the run's folder, there when the cell is finished


def cells(config: Mapping[str, Any]) -> list[Cell]:
  """The cells of a sweep: each run's training, and behind it its evaluations.

  Args:
    config: plain, see configs/sweeps/base.py.

  Raises:
    ValueError: if two runs would share a folder, two evaluations of a run a name, a name or
      override cannot be used, or an evaluation comes after one that never comes.
  """
  seeds, found = list(config["seeds"]), []
  if not seeds or len(set(seeds)) != len(seeds):
    raise ValueError(f"seeds must be one or more different numbers, got {seeds}")
  if not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
    raise ValueError(f"seeds must be integers >= 0, got {seeds}")
  names = [attack.get("name") or label for label, attack in config["attacks"].items()]
  for label in (*config["models"], *config["attacks"], *names):
    if not re.fullmatch(r"\w+", label) or label == TRAIN:
      raise ValueError(
        f"a label names folders: letters, digits and _ only, and not {TRAIN!r}; got {label!r}"
      )
  for label, attack in config["attacks"].items():
    unknown = sorted(set(attack["models"]) - set(config["models"]))
    if unknown:
      raise ValueError(f"attack {label!r} is for models that the sweep does not have: {unknown}")
  for label, model in config["models"].items():
    for seed in seeds:
      run = f"{label}-seed{seed}"
      trained = f"{run}-{TRAIN}"
      arguments = (*_arguments(model), f"--config.seed={seed}")
      found.append(Cell(trained, run, TRAIN, "train.py", arguments, (), "config.json"))
      for name, attack in _evaluations(config["attacks"], label).items():
        arguments = (*_arguments(attack), f"--config.name={name}")
        product = f"results/{name}/table.json"
        needs = (trained, *(f"{run}-{other}" for other in attack.get("after", ())))
        found.append(Cell(f"{run}-{name}", run, name, "evaluate.py", arguments, needs, product))
  return found


def _evaluations(attacks: Mapping[str, Any], model: str) -> dict[str, Any]:
  """The evaluations of one model: name -> attack, each behind those that it comes after."""
  given: dict[str, Any] = {}
  for label, attack in attacks.items():
    if model in (attack["models"] or (model,)):
      name = attack.get("name") or label
      if name in given:
        raise ValueError(f"model {model!r} has two evaluations called {name!r}; {label!r} is one")
      given[name] = attack
  found: dict[str, Any] = {}
  while left := {name: given[name] for name in given if name not in found}:
    free = {name: each for name, each in left.items() if set(each.get("after", ())) <= set(found)}
    if not free:
      needs = {name: list(each["after"]) for name, each in left.items()}
      raise ValueError(
        f"of model {model!r} these can never run, they come after each other or after evaluations "
        f"that it does not have: {needs}"
      )
    found |= free
  return found


def _arguments(part: Mapping[str, Any]) -> list[str]:
  """The config file with its variant, and the fields that are set besides."""
  variant = f":{part['variant']}" if part["variant"] else ""
  for field in part["overrides"]:
    if not re.match(r"[\w.]+=", field):
      raise ValueError(f"an override is written field=value, got {field!r}")
  return [f"--config={part['config']}{variant}", *(f"--config.{f}" for f in part["overrides"])]


def share(every: Sequence[Cell], index: int, count: int) -> list[Cell]:
  """The cells that one of several tasks runs: whole runs, so that nobody waits for another's.

  With more tasks than runs, the evaluations of a run are dealt among its tasks, each together with
  those that it comes after; the first task that starts trains the run.

  Args:
    every: all cells of the sweep.
    index: of this task, from 0.
    count: of tasks.

  Returns:
    A part of `every`, in its order, with all that its cells need. Every cell is in a part, every
    evaluation in exactly one.

  Raises:
    ValueError: if there is no such task.
  """
  if not 0 <= index < count:
    raise ValueError(
      f"the task's index must be between 0 and {count - 1} (of {count} tasks), got {index}: number "
      f"the tasks from 0 (SLURM: --array=0-{count - 1}), or say how many there are by --num_tasks"
    )
  runs = list(dict.fromkeys(cell.run for cell in every))
  mine: list[Cell] = []
  for number, run in enumerate(runs):
    own = [cell for cell in every if cell.run == run]
    if count <= len(runs):
      mine += own if number % count == index else []
    elif index % len(runs) == number:
      team = range(number, count, len(runs))
      training, others = own[:1], own[1:]
      groups = _together(others, {cell.name for cell in training})
      chosen = [cell for group in groups[team.index(index) :: len(team)] for cell in group]
      mine += training if chosen or team.index(index) == 0 else []
      mine += [cell for cell in others if cell in chosen]
  return mine


def _together(evaluations: Sequence[Cell], trained: set[str]) -> list[list[Cell]]:
  """Evaluations of a run in groups, of which none needs a cell of another group."""
  groups: list[list[Cell]] = []
  for cell in evaluations:  # in an order that can be run
    needs = set(cell.needs) - trained
    bound = [group for group in groups if needs & {other.name for other in group}]
    groups = [group for group in groups if group not in bound]
    groups.append([*(other for group in bound for other in group), cell])
  return groups


def task_of(
  environment: Mapping[str, str], index: int | None, count: int | None
) -> tuple[int, int]:
  """(index, count) of this task: what flags say, or else SLURM or Kubernetes; (0, 1) if nothing.

  Raises:
    ValueError: if only one of the two is known.
  """
  if index is None:
    told = [name for name in INDEX_VARIABLES if name in environment]
    index = _number(environment, told[0]) if told else None
    if count is None and "SLURM_ARRAY_TASK_COUNT" in environment:
      count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
  if index is None and count is None:
    return 0, 1
  if index is None or count is None:
    raise ValueError(
      f"a share of the sweep needs --task_index and --num_tasks, got {index} and {count}; the "
      "index is also read from SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX, the number from "
      "SLURM_ARRAY_TASK_COUNT"
    )
  return index, count


def _number(environment: Mapping[str, str], name: str) -> int:
  text = environment[name]
  if not text.isdecimal():
    raise ValueError(f"{name} must be a number >= 0, got {text!r}: unset it, or set --task_index")
  return int(text)


def run_folder(folder: Path, run: str) -> Path:
  """The work directory of a run."""
  return folder / "runs" / run


def command(cell: Cell, folder: Path, root: Path) -> list[str]:
  """The command line of a cell.

  Args:
    cell: the cell.
    folder: of the sweep.
    root: where launch/ lies; "" where commands are started from.
  """
  workdir = f"--workdir={run_folder(folder, cell.run)}"
  return [sys.executable, str(root / "launch" / cell.script), *cell.arguments, workdir]


def read_json(path: Path, needs: Sequence[str]) -> dict[str, Any] | None:
  """What a file of a sweep says; None if it is not there.

  Raises:
    ValueError: if it is damaged, or lacks one of the fields `needs`.
  """
  try:
    return json_files.read_object(path, fix="delete it and run again", needs=needs)
  except FileNotFoundError:
    return None


def workdirs(given: str, name: str | None) -> list[str]:
  """The runs of a sweep that have an evaluation; what is no sweep's folder, as it is.

  Args:
    given: folder of a sweep, finished or not, or whatever else stands for a run.
    name: of the evaluation; None: any.

  Raises:
    FileNotFoundError: if no run of the sweep has it yet.
    ValueError: if the sweep's list is damaged.
  """
  # Only a report needs it: a sweep has no use for JAX.
  from gencls.evaluation import stored  # noqa: PLC0415

  folder = Path(given)
  record = read_json(folder / LIST, ("cells",)) if folder.is_dir() else None
  if record is None:
    return [given]
  cells = record["cells"]
  if not all(isinstance(cell, dict) and isinstance(cell.get("run"), str) for cell in cells):
    raise ValueError(f"{folder / LIST} is damaged (a cell has no run); run the sweep again")
  runs = dict.fromkeys(run_folder(folder, cell["run"]) for cell in cells)
  there = {str(run): stored.names(run) for run in runs}
  found = [run for run, names in there.items() if name in names or (name is None and names)]
  if not found:
    every = sorted({name for names in there.values() for name in names})
    others = f"there are {', '.join(every)}" if every else "none is begun yet"
    asked = "an evaluation" if name is None else f"the evaluation {name!r}"
    raise FileNotFoundError(f"no run of the sweep {folder} has {asked}: {others}")
  return found
