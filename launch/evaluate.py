"""Attacks and grades a trained classifier; finished cells are never computed again.

  python launch/evaluate.py --workdir=runs/gfz_mnist --config=configs/attacks/fgsm_pgd.py:cpu
  python launch/evaluate.py --workdir=... --config=... --config.attacks.pgd.num_steps=100
  python launch/evaluate.py --workdir=... --config=... --config.attacks.pgd.max_seconds=600.0

Killed, it goes on behind the last batch it finished. Started several times at once, on one host or
on many, the processes share the cells. Leaves workdir/results/<name>/ (plan.json, images.npz,
cells/*.npz, table.json, table.md) and workdir/figures/<name>_*.png, and prints the table.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from gencls import data, evaluation_settings, interrupts, runs, runtime, stored, targets, workdir
from gencls.attack_specs import AttackSpec
from gencls.batch_loop import Protocol
from gencls.cells import first_images
from gencls.clean import Subject
from gencls.detector_cell import Detection, DetectorSpec
from gencls.evaluate import evaluate
from gencls.evaluation_settings import NAMED
from gencls.report import pages
from gencls.report.summary import summarise
from gencls.report.table import markdown
from gencls.results import (
  check_same_evaluation,
  data_digest,
  params_digest,
  portable_command,
)
from gencls.thresholds import Rule
from gencls.types import Classifier

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/attacks/<name>.py[:variant]")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
PROGRESS = flags.DEFINE_bool("progress", True, "Show a progress bar.")


def specs(attacks: dict[str, dict[str, Any]]) -> list[AttackSpec]:
  """Attack specifications from a plain config; what is not named here is a hyperparameter."""
  found = []
  for label, settings in attacks.items():
    rest = {name: value for name, value in settings.items() if name not in NAMED}
    fields = {name: settings[name] for name in NAMED}
    fields["eps"] = tuple(float(eps) for eps in fields["eps"])
    fields["target"] = targets.parse(fields["target"])
    found.append(AttackSpec(label=label, **fields, hyperparameters=rest))
  return found


def detection(settings: dict[str, Any], graded: runs.Run) -> Detection | None:
  """The detector of a plain config and the images it is fitted to; None where it is off."""
  if settings["name"] is None:
    return None
  numbers = {name: settings[name] for name in Rule._fields if name != "name"}
  spec = DetectorSpec(
    rule=Rule(settings["threshold"], **numbers),
    **{name: settings[name] for name in DetectorSpec._fields if name != "rule"},
  )
  images = graded.split(settings["fitted_on"])
  most = settings["num_images"]
  return Detection(
    spec, images if most is None else first_images(images, min(most, len(images.labels)))
  )


def given(overrides: dict[str, Any]) -> dict[str, Any]:
  """The overrides that are not None."""
  return {name: value for name, value in overrides.items() if value is not None}


def _without_dropout(graded: runs.Run) -> Classifier:
  """The classifier whose loss is reported: as trained, with every unit."""
  if not graded.config["model"].get("dropout_rate"):
    return graded.classifier
  return runs.build_model(graded.record, **(graded.config["model"] | {"dropout_rate": 0.0}))


def _title(model: str, overrides: dict[str, Any]) -> str:
  """For example "GFZ", "GFZ K=100" or "CVAE nearest"."""
  names = {"num_samples": "K={}"}
  return " ".join([model.upper(), *(names.get(n, "{}").format(v) for n, v in overrides.items())])


def _training(graded: runs.Run) -> dict[str, Any]:
  """How the model was trained, without this machine's folders."""
  record = graded.record
  names = ("config", "command", "versions", "git", "devices", "data")
  found = {**{name: record[name] for name in names}, "step": graded.step}
  settings = record["config"]["data"]
  folder = None if settings["dir"] is None else Path(settings["dir"]).name
  found["config"] = record["config"] | {"data": settings | {"dir": folder}}
  found["command"] = portable_command(record["command"])
  source = str(record["data"]["source"]).split()
  portable = [Path(word).name if Path(word).is_absolute() else word for word in source]
  found["data"] = record["data"] | {"source": " ".join(portable)}
  return found


def run(config: dict[str, Any], folder: str, *, progress: bool = True) -> dict[str, Any]:
  """Evaluates a work directory as a plain config says; returns what table.json holds."""
  evaluation_settings.check(config)
  overrides, attack_overrides = given(config["model"]), given(config["attack_model"])
  results = Path(folder) / "results" / config["name"]
  check_same_evaluation(results / "table.json", config)
  graded = runs.load(folder, config["step"], **overrides)
  attacked = graded
  if attack_overrides:
    attacked = runs.load(folder, config["step"], **{**overrides, **attack_overrides})
  dataset = first_images(graded.split(config["split"]), config["num_images"])
  protocol = Protocol(
    **{name: config[name] for name in Protocol._fields if name != "clean"},
    clean=tuple(config["clean"]),
  )
  subject = Subject(
    classifier=_without_dropout(graded),
    params=graded.params,
    logits_fn=graded.logits_fn,
    attack_logits_fn=attacked.logits_fn,
    step=graded.step,
    redraw=None if graded.classifier.prepare is None else graded.redraw,
    attacked=(attacked.classifier, attacked.params),
  )
  source = {
    "name": dataset.name,
    "split": dataset.split,
    "num_images": len(dataset.labels),
    "digest": data_digest(dataset.images, dataset.labels),
  }
  identity = {
    "data": source,
    "model": graded.config["model"],
    "attack_model": attacked.config["model"],
    "params": params_digest(graded.params),
    "step": graded.step,
  }
  record = workdir.provenance()
  record = {**record, "command": portable_command(record["command"])}
  statement = {
    "name": config["name"],
    "title": _title(graded.config["model"]["name"], overrides),
    **identity,
    "protocol": {name: value for name, value in protocol._asdict().items() if name != "batch_size"},
    "attacks": config["attacks"],
    "config": config,
    "record": record,
    "training": _training(graded),
  }
  images = np.asarray(data.to_float(dataset.images[: protocol.keep_images], dataset.num_levels))
  cells = evaluate(
    subject,
    dataset,
    protocol,
    specs(config["attacks"]),
    folder=results / "cells",
    identity=identity,
    record={"config": config, **record},
    progress=progress,
    detection=detection(config["detector"], graded),
    announce=lambda plans: stored.write_plan(results, statement, plans, images),
  )
  summary = {**statement, **summarise(cells)}
  shown = images[: pages.MAX_COLUMNS]
  pages.write(summary, cells, shown, results=results, figure_folder=Path(folder) / "figures")
  return summary


def main(argv: list[str]) -> None:
  """Reads the flags, evaluates, and prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.WARNING)
  # Orbax warns whenever checkpoints are only read, which is all that happens here.
  logging.get_absl_logger().addFilter(
    lambda line: line.module != "checkpoint_manager" or "read" not in line.getMessage()
  )
  runtime.start(deterministic=False)
  interrupts.exit_on_sigterm()
  if jax.default_backend() != "cpu":
    # Attacks find the rounding of TF32 and bfloat16; what they find there is no robustness.
    jax.config.update("jax_default_matmul_precision", "highest")
  summary = run(CONFIG.value.to_dict(), WORKDIR.value, progress=PROGRESS.value)
  print(markdown(summary))
  print(f"Written to {WORKDIR.value}/results/{summary['name']} and {WORKDIR.value}/figures.")


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
