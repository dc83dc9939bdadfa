"""The detector of an evaluation: what is asked of it, and the cell of its fitted numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gencls import data, detect
from gencls.bits import density_levels
from gencls.evaluation import acceptance
from gencls.evaluation.batch_loop import Arrays, Turn, Work, over_batches
from gencls.evaluation.grading import forward, keys_for, predict
from gencls.evaluation.results import Cell, data_digest
from gencls.names import unknown_name
from gencls.thresholds import Rule
from gencls.types import Accept

CLASSES = ("prediction", "label")
PURPOSE = "detect"  # of the keys under which the fitting images are seen, one draw each


class DetectorSpec(NamedTuple):
  """What an evaluation asks of a detector."""

  name: str  # in detect.STATISTICS
  per_class: bool
  rule: Rule
  classes: str = "prediction"  # one of CLASSES: what a fitting image stands for
  only_correct: bool = False  # whether misclassified images are left out of the fit


class Detection(NamedTuple):
  """A detector to be fitted, and to which images."""

  spec: DetectorSpec
  dataset: data.Dataset


def check_detection(detection: Detection, score: str) -> None:
  """Raises ValueError for a detector that does not exist, or that no model of this score has."""
  spec = detection.spec
  detect.check_statistic(spec.name, spec.rule, score, spec.per_class)
  if spec.classes not in CLASSES:
    raise ValueError(unknown_name("classes", spec.classes, CLASSES))
  if not len(detection.dataset.labels):
    raise ValueError(
      f"the detector has no images to be fitted to: the {detection.dataset.split} split of "
      f"{detection.dataset.name} is empty; set config.detector.fitted_on='train'"
    )


def settings_of(detection: Detection, seed: int) -> dict[str, Any]:
  """Everything of a detector that decides its numbers, JSON-able."""
  spec, dataset = detection.spec, detection.dataset
  return {
    "detector": {**spec._asdict(), "rule": spec.rule._asdict()},
    "data": {
      "name": dataset.name,
      "split": dataset.split,
      "num_images": len(dataset.labels),
      "digest": data_digest(dataset.images, dataset.labels),
    },
    "seed": seed,
  }


def detector_cell(work: Work, spec: DetectorSpec, score: str) -> tuple[Arrays, dict[str, Any]]:
  """Fits a detector to the images of `work`, and judges these by it.

  Args:
    work: model, protocol and the fitting images.
    spec: the detector.
    score: `Classifier.score`.

  Returns:
    (per fitting image its logits, prediction, score and whether it is accepted; for the header
    "fitted": the numbers, `accept_from` reads them, and "fitting_images": how many were used).
  """

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    keys = keys_for(work.protocol.seed, batch.indices, PURPOSE)
    logits = np.asarray(forward(work.subject.logits_fn, keys, jnp.asarray(batch.x)))
    prediction = predict(logits)
    right = np.asarray(prediction == batch.labels, np.float32)
    return {"logits": logits, "prediction": prediction, "correct": right}

  arrays = over_batches(work, "detector", make)
  dataset, logits = work.dataset, arrays["logits"]
  used = arrays["correct"] > 0 if spec.only_correct else np.ones(len(logits), bool)
  classes = arrays["prediction"] if spec.classes == "prediction" else dataset.labels
  fitted = detect.fit(
    spec.name,
    logits[used],
    classes[used],
    spec.rule,
    per_class=spec.per_class,
    score=score,
    dims=int(np.prod(dataset.images.shape[1:])),
    num_levels=density_levels(work.subject.classifier, dataset.num_levels),
  )
  keys = keys_for(work.protocol.seed, dataset.indices, PURPOSE)
  accept = detect.detector(spec.name, fitted)
  found = acceptance.scores(accept, [keys], dataset.images, [logits])[:, 0]
  numbers = {
    "threshold": np.asarray(fitted.threshold).tolist(),
    "reference": {name: np.asarray(value).tolist() for name, value in fitted.reference.items()},
  }
  arrays |= {"score": found, "accepted": acceptance.accepts(found)}
  return arrays, {"fitted": numbers, "fitting_images": int(np.sum(used))}


def accept_from(cell: Cell) -> Accept:
  """The detector whose numbers a cell holds."""
  numbers: Mapping[str, Any] = cell.header["fitted"]
  leaves = {name: jnp.asarray(v, jnp.float32) for name, v in numbers["reference"].items()}
  fitted = detect.Fitted(leaves, jnp.asarray(numbers["threshold"], jnp.float32))
  return detect.detector(cell.header["settings"]["detector"]["name"], fitted)
