"""The settings of analyses as configs have them, checked before a model is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from gencls.analyses.run import check_names
from gencls.detect import STATISTICS
from gencls.names import unknown_name
from gencls.settings import at_least, check_kinds, check_seed

_FIELDS = {
  "run": Sequence[str],
  "split": str,
  "num_images": int | None,
  "seed": int,
  "batch_size": int | None,
  "step": str | int,
  "detectors": Sequence[str],
  "false_positive_rate": float,
  "fitted_on": str,
  "num_fitting_images": int | None,
}
_COUNTS = {"num_pairs": int, "num_steps": int}


def check(config: Mapping[str, Any]) -> None:
  """Raises ValueError, with the config's name for it, for a field that no analysis can have."""
  check_kinds(config, _FIELDS)
  check_names(config["run"])
  check_seed(config["seed"])
  if not config["run"]:
    raise ValueError("run must name at least one analysis, got ()")
  if config["fitted_on"] not in ("validation", "train"):
    raise ValueError(unknown_name("fitted_on", config["fitted_on"], ("validation", "train")))
  for name in config["detectors"]:
    if name not in STATISTICS:
      raise ValueError(unknown_name("detector", name, STATISTICS))
  rate = config["false_positive_rate"]
  if not 0 <= rate < 1:
    raise ValueError(f"false_positive_rate must be in [0, 1), got {rate}")
  at_least(1, batch_size=config["batch_size"], num_fitting_images=config["num_fitting_images"])
  for name in ("interpolation", "ambiguous"):
    check_kinds(config[name], _COUNTS, f"{name}.")
    at_least(1, **{f"{name}.num_pairs": config[name]["num_pairs"]})
  at_least(3, **{"interpolation.num_steps": config["interpolation"]["num_steps"]})
