"""Configs of analyses that mean nothing."""

import bad_input
from bad_input import Case
from bad_training import NAN
from finished import analyse

_FIELDS = [
  ("run", ("class_gaps",), "'class_gaps'", "did you mean 'class_gap'"),
  ("run", ()),
  ("run", "class_gap", "run must be a tuple of texts", "'class_gap'"),
  ("split", "tests", "unknown split 'tests'"),
  ("num_images", 0),
  ("num_images", 10_000),
  ("seed", -1),
  ("batch_size", 0),
  ("step", 999, "no checkpoint of step 999"),
  ("model.num_samples", 5, "'num_samples'", "of 'cnn'"),
  ("detectors", ("margnal",), "unknown detector 'margnal'"),
  ("detectors", "kl"),
  ("false_positive_rate", 1.0),
  ("false_positive_rate", NAN),
  ("fitted_on", "test", "unknown fitted_on 'test'"),
  ("num_fitting_images", 0),
]
_OTHERS = [
  ("interpolation.num_pairs", 0, {"run": ("interpolation",)}),
  ("interpolation.num_steps", 1, {"run": ("interpolation",)}),
  ("ambiguous.num_pairs", 0, {"run": ("ambiguous",)}),
  ("out_of_distribution.sets", ("mnst",), {"run": ("out_of_distribution",)}, "'mnst'"),
]
_MISSING = Case(
  "analysis",
  "an evaluation that is not there",
  lambda at: analyse(at, **{"run": ("robustness",), "robustness.evaluations": ("tou",)}),
  ("unknown evaluation 'tou'", "did you mean 'toy'"),
  FileNotFoundError,
)
CASES: list[Case] = [*bad_input.settings("analysis", analyse, [*_FIELDS, *_OTHERS]), _MISSING]
