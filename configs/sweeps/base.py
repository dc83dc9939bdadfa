"""Every key of a sweep's config: models × data sets × attacks × seeds.

The command line changes any of them: --config.seeds="(0,1,2)". Paths are as launch/train.py and
launch/evaluate.py take them; overrides are fields of those configs, as ("train.num_epochs=3",).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from gencls.names import unknown_name

VARIANTS = ("full", "cpu", "smoke")


def model(config: str, variant: str = "", *overrides: str) -> dict[str, Any]:
  """A training: of which config, with which fields changed."""
  return {"config": config, "variant": variant, "overrides": tuple(overrides)}


def attack(
  config: str,
  variant: str = "",
  *overrides: str,
  models: Sequence[str] = (),
  name: str = "",
  after: Sequence[str] = (),
) -> dict[str, Any]:
  """An evaluation of every model, or only of `models` (their labels).

  Its name is its label, or `name`: so that models can have one evaluation with other fields.
  `after` names evaluations of the same run that it needs, as those in its transfer_from.
  """
  own = {"models": tuple(models), "name": name, "after": tuple(after)}
  return {**model(config, variant, *overrides), **own}


def grid(names: Sequence[str], data: Sequence[str], variant: str = "") -> dict[str, dict[str, Any]]:
  """Models × data sets by the configs that have their names: label -> `model(...)`."""
  pairs = [f"{name}_{each}" for each in data for name in names]
  return {pair: model(f"configs/{pair}.py", variant) for pair in pairs}


def get_config(
  models: Mapping[str, Any], attacks: Mapping[str, Any], *, seeds: Sequence[int] = (0,)
) -> ConfigDict:
  """All keys, locked.

  Args:
    models: label -> `model(...)`; a run's folder is <label>-seed<seed>.
    attacks: label -> `attack(...)`; the label is the evaluation's name where it has no other.
    seeds: of the trainings. Evaluations keep the seed of their config: runs stay comparable.
  """
  return ConfigDict(
    {
      "models": dict(models),
      "attacks": dict(attacks),
      "seeds": tuple(seeds),
      "retries": 1,  # how often a cell that fails is tried again
    }
  ).lock()


def check_variant(arg: str) -> str:
  """Returns a variant that every config has.

  Raises:
    ValueError: if it is unknown.
  """
  if arg not in ("", *VARIANTS):
    raise ValueError(unknown_name("config variant", arg, VARIANTS))
  return arg
