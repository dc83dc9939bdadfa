"""Trains a classifier, or continues a run that was stopped.

  python launch/train.py --config=configs/gfz_mnist.py --workdir=runs/gfz_mnist
  python launch/train.py --config=configs/gfz_mnist.py:cpu --workdir=... --config.train.num_epochs=3

The same command continues: a killed run ends with the same parameters as one that never stopped.
Exits with 0 when training is finished, 143 when it was asked to stop (SIGTERM, Ctrl-C) and saved.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from gencls import data, fit, interrupts, models, runtime, train, workdir
from gencls.logs import show_log
from gencls.training import adversarial
from gencls.training import settings as train_settings

_LOG = logging.getLogger("gencls.launch")

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<model>_<dataset>.py[:variant]")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the same again continues it.")
OVERRIDE = flags.DEFINE_bool(
  "override_config", False, "Continue a work directory although its config differs."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0; several processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the job.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def run(config: dict[str, Any], folder: str, *, override: bool = False) -> str:
  """Trains what a plain config describes; returns why training ended."""
  source, model, settings = config["data"], config["model"], dict(config["train"])
  splits = {
    split: data.load(
      source["name"],
      split=split,
      data_dir=source["dir"],
      validation_size=source["validation_size"],
    )
    for split in ("train", "validation")
  }
  prior = list(data.class_frequencies(splits["train"], pseudo_count=1))
  image_shape, num_classes = splits["train"].images.shape[1:], splits["train"].num_classes

  def build(**overrides: Any) -> Any:
    shapes = {"image_shape": image_shape, "num_classes": num_classes}
    return models.build(**(model | overrides), **shapes, class_prior=prior)

  method = settings.pop("method")
  settings |= {
    "seed": config["seed"],
    "num_validation_images": config["validate"]["num_images"],
    "keep": config["checkpoint"]["keep"],
  }
  num_samples = config["validate"]["num_samples"]
  classifier = build()
  predictor = classifier if num_samples is None else build(num_samples=num_samples)
  classifier = adversarial.with_loss(classifier, settings.pop("loss"), config["adversarial"])
  # Before the folder is claimed: the corrected command must find it free.
  train_settings.check(settings, len(splits["train"].labels))
  train_settings.check_classes(splits["train"].labels, num_classes)
  if method == "gradient":
    _, total_steps = train.num_steps(
      len(splits["train"].labels),
      **{name: settings[name] for name in ("batch_size", "num_epochs", "max_steps")},
    )
    train_settings.check_pretraining(model, total_steps, settings["early_stop_patience"])
  train_settings.check_method(method, classifier, config["train"]["loss"])
  statement = {
    "split": data.describe_split(source["name"], source["validation_size"]),
    "source": splits["train"].source,
    "num_train": len(splits["train"].labels),
    "num_validation": len(splits["validation"].labels),
    "image_shape": list(image_shape),
    "num_classes": num_classes,
    "num_levels": splits["train"].num_levels,
  }
  record = {"config": config, "data": statement, "class_prior": prior} | workdir.provenance()
  held = workdir.claim(folder, record, override=override)
  for name in ("versions", "devices"):
    changed = workdir.differences(held[name], record[name])
    if changed:
      _LOG.warning("%s differ from the run's start: %s", name, "; ".join(changed))
  given = (classifier, splits["train"], splits["validation"])
  if method == "fit":
    own = {name: settings[name] for name in ("seed", "batch_size", "num_validation_images")}
    outcome = fit.fit(*given, workdir=folder, config=config, **own)
  else:
    outcome = train.train(*given, workdir=folder, predictor=predictor, config=config, **settings)
  _LOG.info("training %s at step %d", outcome.reason, int(outcome.state.step))
  return outcome.reason


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and turns the outcome into an exit code."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  runtime.start(
    deterministic=True,
    coordinator=COORDINATOR.value,
    num_processes=NUM_PROCESSES.value,
    process_id=PROCESS_ID.value,
  )
  show_log()
  _LOG.info("%d %s device(s)", jax.device_count(), jax.default_backend())
  config, folder = CONFIG.value.to_dict(), str(WORKDIR.value)
  with workdir.one_job(folder):
    reason = run(config, folder, override=OVERRIDE.value)
  if reason == train.INTERRUPTED:
    print(f"Stopped on request; run the same command to continue {folder}.", file=sys.stderr)
    sys.exit(interrupts.INTERRUPTED)


if __name__ == "__main__":
  # Config files import `configs.base`, from wherever the command is started.
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
