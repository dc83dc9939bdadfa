"""Evaluations of the Gaussian toy with a detector."""

from toy_evaluation import (
  IDENTITY,
  protocol,
  record,
  specs,
  toy_images,
  toy_subject,
)

from gencls import evaluate
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.detector_cell import Detection, DetectorSpec
from gencls.thresholds import Rule

DETECTION = Detection(
  DetectorSpec("marginal", False, Rule("quantile", 0.05)),
  toy_images(80, seed=3)._replace(split="validation"),
)
SEEING = [specs()[1]._replace(label="pgd_detector", against="detector")]
NEAREST = [
  AttackSpec("carlini_wagner_detector", "carlini_wagner", "l2", (1.0,), "margin", 1,
             {"binary_search_steps": 4, "num_steps": 40, "step_size": 0.05, "initial_const": 1.0},
             against="detector"),
  AttackSpec("boundary_detector", "boundary", "l2", (1.0,), "margin", 1, {"num_steps": 150},
             against="detector"),
]  # fmt: skip


def detected(folder, subject=None, the_protocol=None, the_specs=None, detection=DETECTION):
  return evaluate.evaluate(
    subject or toy_subject(),
    toy_images(),
    the_protocol or protocol(clean=()),
    [*specs(), *SEEING] if the_specs is None else the_specs,
    folder=folder,
    identity=IDENTITY,
    record=record(),
    progress=False,
    detection=detection,
  )
