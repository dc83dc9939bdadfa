"""The settings of a training: their kinds and ranges, before anything is written or computed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gencls import sharding
from gencls.names import unknown_name
from gencls.settings import at_least, check_finite, check_kinds, check_seed
from gencls.training import optimizers
from gencls.types import Classifier


class Setting(NamedTuple):
  """What an argument of `train.train` may be."""

  field: str  # its name in configs
  kind: Any
  least: int | None = None


_COUNT, _COUNT_OR_NONE, _NUMBER_OR_NONE = int, int | None, float | None
SETTINGS = {
  "seed": Setting("seed", int),
  "batch_size": Setting("train.batch_size", _COUNT),
  "micro_batch_size": Setting("train.micro_batch_size", _COUNT_OR_NONE),
  "num_epochs": Setting("train.num_epochs", _COUNT, 1),
  "max_steps": Setting("train.max_steps", _COUNT_OR_NONE, 1),
  "learning_rate": Setting("train.learning_rate", float),
  "optimizer": Setting("train.optimizer", str),
  "momentum": Setting("train.momentum", float),
  "schedule": Setting("train.schedule", str),
  "warmup_steps": Setting("train.warmup_steps", _COUNT),
  "weight_decay": Setting("train.weight_decay", float),
  "grad_clip": Setting("train.grad_clip", _NUMBER_OR_NONE),
  "ema_decay": Setting("train.ema_decay", _NUMBER_OR_NONE),
  "early_stop_patience": Setting("train.early_stop_patience", _COUNT_OR_NONE, 1),
  "log_every": Setting("train.log_every", _COUNT, 1),
  "validate_every": Setting("train.validate_every", _COUNT_OR_NONE, 1),
  "stuck_after": Setting("train.stuck_after", _COUNT_OR_NONE, 0),
  "num_validation_images": Setting("validate.num_images", _COUNT, 1),
  "keep": Setting("checkpoint.keep", _COUNT, 1),
}
_OPTIMIZER = (
  *("learning_rate", "optimizer", "momentum", "schedule", "warmup_steps", "weight_decay"),
  "grad_clip",
)
METHODS = ("gradient", "fit")


def check_method(method: str, classifier: Classifier, loss: str = "model") -> None:
  """Raises ValueError for a way of training that does not exist, or not for this model."""
  if method not in METHODS:
    raise ValueError(unknown_name("train.method", method, METHODS))
  if method == "fit" and classifier.fit is None:
    raise ValueError(
      'train.method="fit" needs a model with a fit of its own (naive Bayes, mixtures, …); this one '
      'has none: use train.method="gradient"'
    )
  if method == "fit" and loss != "model":
    raise ValueError(
      f'train.loss must be "model" where train.method is "fit", got {loss!r}: a fit takes no steps '
      'that could be attacked; use train.method="gradient"'
    )


def check_classes(labels: np.ndarray, num_classes: int) -> None:
  """Raises ValueError where the training split has no example of some class.

  A classifier would learn the class from its prior alone, and nothing would show it.
  """
  missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
  if missing.size:
    raise ValueError(
      f"every class needs a training example, got none of class {', '.join(map(str, missing))} "
      f"among {len(labels)} images of {num_classes} classes: leave the class out of the data set, "
      "or hold fewer images out (data.validation_size)"
    )


def check_pretraining(
  model: Mapping[str, Any], total_steps: int, patience: int | None = None
) -> None:
  """Raises ValueError where training may end before what `model.pretrain_steps` prepares for.

  Args:
    model: its config.
    total_steps: of the training.
    patience: train.early_stop_patience; before the head is trained no accuracy rises.
  """
  steps = model.get("pretrain_steps", 0)
  if steps and patience is not None:
    raise ValueError(
      f"train.early_stop_patience must be None where model.pretrain_steps is {steps}, got "
      f"{patience}: the accuracy stays at chance until then, and training would stop before the "
      "classifier's head is trained"
    )
  if steps >= total_steps:
    raise ValueError(
      f"model.pretrain_steps must be below the {total_steps} steps of the training, or the "
      f"classifier's head is never trained, got {steps}; raise train.num_epochs or train.max_steps"
    )


def check(given: Mapping[str, Any], num_examples: int) -> None:
  """Raises ValueError, with the config's name for it, for a setting that no training can have.

  Args:
    given: name in `SETTINGS` -> value, all of them or those that are set.
    num_examples: of the training split.
  """
  fields = {setting.field: given[name] for name, setting in SETTINGS.items() if name in given}
  check_kinds(fields, {setting.field: setting.kind for setting in SETTINGS.values()})
  check_finite(fields)
  for name, setting in SETTINGS.items():
    if name in given and setting.least is not None:
      at_least(setting.least, **{setting.field: given[name]})
  if "seed" in given:
    check_seed(given["seed"])
  optimizers.build(**{name: given[name] for name in _OPTIMIZER if name in given})
  ema = given.get("ema_decay")
  if ema is not None and not 0 < ema < 1:
    raise ValueError(f"train.ema_decay must be in (0, 1), or None, got {ema}")
  size, mesh = given["batch_size"], sharding.data_mesh()
  sharding.check_batch_size("train.batch_size", size, mesh)
  if size > num_examples:
    raise ValueError(f"train.batch_size must be in 1 .. {num_examples}, got {size}")
  if given.get("micro_batch_size") is not None:
    sharding.part_size(size, given["micro_batch_size"], mesh)
