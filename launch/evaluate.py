"""Attacks and grades a trained classifier; finished cells are never computed again.

  python launch/evaluate.py --workdir=runs/gfz_mnist --config=configs/attacks/fgsm_pgd.py:cpu
  python launch/evaluate.py --workdir=... --config=... --config.attacks.pgd.num_steps=100
  python launch/evaluate.py --workdir=... --config=... --config.attacks.pgd.max_seconds=600.0

Killed, it goes on behind the last batch it finished. Started several times at once, on one host or
on many, the processes share the cells. Leaves workdir/results/<name>/ (plan.json, images.npz,
cells/*.npz, table.json, table.md) and workdir/figures/<name>_*.png, and prints the table.
"""

import functools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from gencls import data, runs, runtime, workdir
from gencls.evaluate import evaluate
from gencls.evaluation import settings as evaluation_settings
from gencls.evaluation import stored, targets, transfer_source
from gencls.evaluation.attack_specs import (
  AttackSpec,
  applies,
  check_after,
  check_spec,
  for_score,
)
from gencls.evaluation.batch_loop import Protocol
from gencls.evaluation.cells import first_images
from gencls.evaluation.clean import Subject
from gencls.evaluation.detector_cell import Detection, DetectorSpec
from gencls.evaluation.probes import Probes
from gencls.evaluation.regrade_cell import Estimate, Regrade, check_regrade
from gencls.evaluation.results import (
  check_same_evaluation,
  data_digest,
  params_digest,
  portable_command,
)
from gencls.evaluation.settings import NAMED
from gencls.evaluation.surface_cell import Surface
from gencls.report import merging, pages
from gencls.report.table import markdown
from gencls.statements import given, title, training
from gencls.summary.summarise import summarise
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


def made_for(
  attacks: dict[str, dict[str, Any]], threshold: float | None
) -> dict[str, dict[str, Any]]:
  """The attacks of a plain config without those that are made for other models.

  Args:
    attacks: label -> settings.
    threshold: of the model, see `Classifier.pixel_threshold`.

  Raises:
    ValueError: if one does not fit, be it for this model or not.
  """
  every = specs(attacks)
  for spec in every:
    check_spec(spec)
  check_after(every)
  found = {label: each for label, each in attacks.items() if applies(each["models"], threshold)}
  for label, each in found.items():  # what is left out hands nothing on
    before = tuple(name for name in each["after"] or () if name in found)
    found[label] = {**each, "after": before or None}
  left_out = [
    f"{label} ({each['models']})" for label, each in attacks.items() if label not in found
  ]
  if left_out:
    logging.warning("left out, since they are for other models: %s", ", ".join(left_out))
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


def place_of_images(text: str, folder: str, name: str) -> tuple[Path, str, bool]:
  """(work directory, evaluation, whether of this run) of what is written in transfer_from.

  Args:
    text: "workdir:evaluation"; "workdir" for the evaluation of the same name there; ":evaluation"
      for another one of the same run, whose attacks were others or have followed another gradient.
    folder: the work directory that is evaluated.
    name: of the evaluation that grades the images.

  Raises:
    ValueError: if it would grade its own images.
  """
  where, other = merging.folder(f"{folder}{text}" if text.startswith(":") else text, name)
  same_run = where.resolve() == Path(folder).resolve()
  if same_run and other == name:
    raise ValueError(
      f"transfer_from={text!r} is this evaluation itself: name another one of this run, as "
      "':other', or another run"
    )
  return where, other, same_run


def probes(config: dict[str, Any], folder: str, graded: runs.Run, dataset: data.Dataset) -> Probes:
  """What a plain config asks for beside the attacks."""
  surface = Surface(**config["surface"])
  places = [place_of_images(each, folder, config["name"]) for each in config["transfer_from"]]
  own = graded.config["model"].get("num_samples")

  @functools.cache  # one checkpoint and one program for each K
  def estimate(num_samples: int) -> Estimate:
    run = graded
    if num_samples != own:
      overrides = {**given(config["model"]), "num_samples": num_samples}
      run = runs.load(folder, graded.step, **overrides)  # training may have gone on meanwhile
    anew = None if run.classifier.prepare is None else run.redraw
    return Estimate(run.logits_fn, anew, num_samples / own)

  counts = tuple(config["regrade_samples"])
  check_regrade(counts, config["keep_images"])
  again = own is not None and counts
  return Probes(
    gradient=config["probe_gradient"],
    surface=surface if surface.num_images else None,
    sources=tuple(
      transfer_source.read(where, name, dataset, same_run=same_run)
      for where, name, same_run in places
    ),
    regrade=Regrade(tuple(sorted({own, *counts})), estimate) if again else None,
    unseen=True,
  )


def _without_dropout(graded: runs.Run) -> Classifier:
  """The classifier whose loss is reported: as trained, with every unit."""
  if not graded.config["model"].get("dropout_rate"):
    return graded.classifier
  return runs.build_model(graded.record, **(graded.config["model"] | {"dropout_rate": 0.0}))


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
  attacks = made_for(config["attacks"], attacked.classifier.pixel_threshold)
  looked_at = probes(config, folder, graded, dataset)
  config = config | {"transfer_from": [portable_command(each) for each in config["transfer_from"]]}
  record = workdir.provenance()
  record = {**record, "command": portable_command(record["command"])}
  statement = {
    "name": config["name"],
    "title": title(graded.config["model"]["name"], overrides),
    **identity,
    "gradient": attacked.classifier.gradient,
    "pixel_threshold": attacked.classifier.pixel_threshold,
    "protocol": {name: value for name, value in protocol._asdict().items() if name != "batch_size"},
    "attacks": attacks,
    "config": config,
    "record": record,
    "training": training(graded, folder),
  }
  images = np.asarray(data.to_float(dataset.images[: protocol.keep_images], dataset.num_levels))
  cells = evaluate(
    subject,
    dataset,
    protocol,
    [for_score(spec, attacked.classifier.score) for spec in specs(attacks)],
    folder=results / "cells",
    identity=identity,
    record={"config": config, **record},
    progress=progress,
    detection=detection(config["detector"], graded),
    probes=looked_at,
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
  runtime.start_reading()
  summary = run(CONFIG.value.to_dict(), WORKDIR.value, progress=PROGRESS.value)
  print(markdown(summary))
  print(f"Written to {WORKDIR.value}/results/{summary['name']} and {WORKDIR.value}/figures.")


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
