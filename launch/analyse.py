"""Runs analyses of a trained classifier; finished ones are never computed again.

  python launch/analyse.py --workdir=runs/gfz_mnist --config=configs/analyses/all.py:cpu
  python launch/analyse.py --workdir=... --config=... --config.run="('interpolation',)"

Leaves workdir/results/analyses/ (<analysis>.json with the numbers and what made them, *.npz with
the arrays, page.md with every analysis of this model that is there) and
workdir/figures/analyses_*.png, and prints the page; --out=docs/results/mnist/gfz_analyses copies
page, figures and numbers into one folder. Started several times at once, the processes share the
analyses.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from gencls import data, runs, runtime, workdir
from gencls.analyses import run as running
from gencls.analyses import settings
from gencls.analyses.inputs import Caption, Examined
from gencls.bits import density_levels
from gencls.evaluation.cells import first_images
from gencls.evaluation.results import params_digest, portable_command
from gencls.statements import given, portable_source, title, training

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/analyses/<name>.py[:variant]")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder that also gets the page, its figures and numbers.")
PROGRESS = flags.DEFINE_bool("progress", True, "Show a progress bar.")


def examined(
  config: dict[str, Any], found: runs.Run, folder: str, *, progress: bool = True
) -> Examined:
  """What is examined, of a plain config and a run that was read back."""
  fitting, most = found.split(config["fitted_on"]), config["num_fitting_images"]
  fitting = fitting if most is None else first_images(fitting, min(most, len(fitting.labels)))
  whole = found.split(config["split"])
  place = found.config["data"]["dir"]

  def there(name: str) -> bool:  # nothing is downloaded for an analysis
    return data.on_disk(name, place) is not None

  def load(name: str) -> data.Dataset:
    return data.load(name, split=config["split"], data_dir=place)

  return Examined(
    logits_fn=found.logits_fn,
    score=found.classifier.score,
    density_levels=density_levels(found.classifier, whole.num_levels),
    class_prior=np.asarray(found.record["class_prior"], np.float64),
    dataset=first_images(whole, config["num_images"]),
    whole=whole,
    fitting=fitting,
    there=there,
    load=load,
    workdir=Path(folder),
    progress=progress,
    **{n: config[n] for n in ("detectors", "false_positive_rate", "seed", "batch_size")},
  )


def run(config: dict[str, Any], folder: str, *, progress: bool = True) -> str:
  """Analyses a work directory as a plain config says; returns the page."""
  settings.check(config)
  overrides = given(config["model"])
  found = runs.load(folder, config["step"], **overrides)
  subject = examined(config, found, folder, progress=progress)
  identity = {
    "model": found.config["model"],
    "params": params_digest(found.params),
    "step": found.step,
    "backend": jax.default_backend(),
  }
  record = workdir.provenance()
  record = {"config": config, **record, "command": portable_command(record["command"])}
  chosen = {name: config[name] for name in config["run"]}
  cells = running.run(subject, chosen, identity=identity, record=record)
  name = title(found.config["model"]["name"], overrides)
  dataset = subject.dataset
  caption = Caption(
    f"{name} on {dataset.name}",
    f"First {len(dataset.labels)} {dataset.split} images, known seed {subject.seed}.",
  )
  statement = {
    "title": caption.title,
    "data": {**running.describe(dataset), "source": portable_source(dataset.source)},
    "training": training(found, folder),
  }
  return running.write(cells, statement, Path(folder), caption)


def main(argv: list[str]) -> None:
  """Reads the flags, analyses, and prints the page."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  runtime.start_reading()
  page = run(CONFIG.value.to_dict(), WORKDIR.value, progress=PROGRESS.value)
  print(page)
  print(f"Written to {WORKDIR.value}/results/analyses and {WORKDIR.value}/figures.")
  if OUT.value is not None:
    running.publish(page, Path(WORKDIR.value), Path(OUT.value))
    print(f"Copied to {OUT.value}.")


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
