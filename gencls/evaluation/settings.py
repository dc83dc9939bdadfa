"""The settings of an evaluation as configs have them, checked before a model is read.

Ranges that other code has to know are checked there; here are the kinds, and the names of folders.
"""

import re
from collections.abc import Mapping
from typing import Any

from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.batch_loop import Protocol
from gencls.evaluation.detector_cell import DetectorSpec
from gencls.evaluation.surface_cell import Surface
from gencls.names import unknown_name
from gencls.settings import at_least, check_finite, check_kinds, check_seed
from gencls.thresholds import Rule

_FIELDS = {
  **Protocol.__annotations__,
  "name": str,
  "split": str,
  "num_images": int | None,
  "step": str | int,
  "probe_gradient": bool,
  "regrade_samples": tuple[int, ...],
  "transfer_from": tuple[str, ...],
}
_DETECTOR = {
  **DetectorSpec.__annotations__,
  **Rule.__annotations__,
  "name": str | None,
  "threshold": str,
  "fitted_on": str,
  "num_images": int | None,
}
RESERVED = ("analyses",)  # folders in results/ that are no evaluation's
# What of an attack's settings is no hyperparameter.
NAMED = tuple(name for name in AttackSpec._fields if name not in ("label", "hyperparameters"))


def check(config: Mapping[str, Any]) -> None:
  """Raises ValueError, with the config's name for it, for a field that no evaluation can have."""
  check_kinds(config, _FIELDS)
  if not re.fullmatch(r"\w[\w.-]*", config["name"]):
    raise ValueError(
      "name names a folder in the run's results: letters, digits, '_', '-' and '.' only, not "
      f"starting with '.', got {config['name']!r}"
    )
  if config["name"] in RESERVED:
    raise ValueError(
      f"name must not be {config['name']!r}: results/{config['name']} is the folder of "
      "launch/analyse.py; give the evaluation another name with --config.name=..."
    )
  check_seed(config["seed"])
  _check_detector(config["detector"])
  check_kinds(config["surface"], Surface.__annotations__, "surface.")
  for part in ("model", "attack_model"):
    kinds = {
      **{"num_samples": int | None, "rule": str | None},
      **{"backward": str | None, "detached_target": bool | None, "detached": bool | None},
    }
    check_kinds(config[part], kinds, f"{part}.")
    at_least(1, **{f"{part}.num_samples": config[part]["num_samples"]})
  for label, settings in config["attacks"].items():
    _check_attack(label, settings)


def _check_detector(settings: Mapping[str, Any]) -> None:
  check_kinds(settings, _DETECTOR, "detector.")
  check_finite(settings, "detector.")
  at_least(1, **{"detector.num_images": settings["num_images"]})
  if settings["fitted_on"] not in ("validation", "train"):
    raise ValueError(
      unknown_name("detector.fitted_on", settings["fitted_on"], ("validation", "train"))
    )


def _check_attack(label: str, settings: Mapping[str, Any]) -> None:
  where = f"attacks.{label}."
  missing = [name for name in NAMED if name not in settings]
  if missing:
    raise ValueError(
      f"{where[:-1]} has no {', '.join(missing)}: make it by configs.attacks.base.attack(...), "
      "which sets every field"
    )
  check_kinds(settings, AttackSpec.__annotations__, where)
