"""Detectors beside attacks of minimum norm, targets, and images clipped to each eps."""

import numpy as np
import pytest
from toy_detection import DETECTION, NEAREST, SEEING, detected
from toy_evaluation import (
  full_summary,
  protocol,
  specs,
)

from gencls.evaluation import minimum_norm
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.detector_cell import DetectorSpec
from gencls.report import table
from gencls.summary import targeted
from gencls.summary.summarise import summarise
from gencls.thresholds import Rule


@pytest.mark.slow
@pytest.mark.parametrize("spec", [NEAREST[0], pytest.param(NEAREST[1], marks=pytest.mark.slow)])
def test_minimum_norms_end_misclassified_and_accepted(spec, tmp_path):
  cells = detected(tmp_path, the_specs=[spec])
  by_label = {cell.header["label"]: cell for cell in cells}
  arrays = by_label[spec.label].arrays
  wrong = arrays["prediction"][:, 0] != arrays["label"]
  assert np.mean(wrong & arrays["accepted"][:, 0]) > 0.9
  np.testing.assert_array_equal(arrays["attack_success"], arrays["held"] == 0)
  summary = summarise(cells)
  for row in summary["minimum"]:
    held = by_label[row["label"]].arrays["held"]
    assert row["found"]["mean"] == pytest.approx(np.mean(held == 0))
  row = summary["detection"]["rows"][0]
  within = by_label[row["label"]].arrays["norm"] <= 1.0 + 1e-6
  held = np.where(
    within, by_label[row["label"]].arrays["held"], by_label["untouched"].arrays["held"]
  )
  held = np.minimum(held, by_label["untouched"].arrays["held"])
  assert row["evading"]["mean"] == pytest.approx(1 - np.mean(held))


def test_an_attack_on_the_detector_may_have_a_target(tmp_path):
  """In the target class *and* accepted, for both kinds of attack and their starts."""
  walk = NEAREST[1]._replace(label="walk", hyperparameters={"num_steps": 5, "directions": 1,
                                                            "blend_steps": 5})  # fmt: skip
  aimed = [SEEING[0]._replace(eps=(0.1, 0.5)), walk]
  strict = DETECTION._replace(spec=DetectorSpec("marginal", False, Rule("quantile", 0.6)))
  every = [*specs(), *(s._replace(target="next") for s in aimed)]
  cells = detected(tmp_path, the_specs=every, detection=strict)
  found = [cell for cell in cells if cell.header["label"] in ("pgd_detector", "walk")]
  target = (cells[1].arrays["label"] + 1) % 3
  for cell in found:
    arrays = cell.arrays
    reached = (arrays["prediction"][:, 0] == target) & arrays["accepted"][:, 0]
    np.testing.assert_array_equal(arrays["target"], target)
    np.testing.assert_array_equal(arrays["in_target"], reached)
    np.testing.assert_array_equal(arrays["attack_success"], reached)
  small, large, walked = (cell.arrays for cell in found)
  assert np.mean(large["in_target"]) > 0.9
  np.testing.assert_array_equal(walked["select_in_target"], walked["in_target"])
  assert np.all(walked["in_target"] == 1)  # from an accepted image of the target class
  summary = full_summary(summarise(cells), protocol(clean=()))
  checks = {check["name"]: check for check in summary["checks"]}
  assert [check for check in checks.values() if check["status"] == "fail"] == []
  assert checks["pgd_detector (linf): the share outside the target class falls with eps"]
  # No class but one: it need not find what those without a target find.
  assert checks["attacks on the detector beat those that do not see it"]["status"] == "not run"
  (row,) = summary["minimum"]
  assert row["found"]["mean"] == 1 and row["disagree"] == row["no_start"] == 0
  assert "end in has to be accepted, too" in table.markdown(summary)

  # Clean images in the target class count where they are accepted.
  astray = cells[1].arrays | {"prediction": target[:, None]}
  clean, accepted = cells[1]._replace(arrays=astray), astray["accepted"][:, 0]
  assert 0 < accepted.sum() < 30
  np.testing.assert_array_equal(targeted.curve(found[:2], clean).correct[0], ~accepted)
  near = minimum_norm.derive(found[2], clean, 0.01, "distance")
  assert not np.any(near.arrays["norm"])
  np.testing.assert_array_equal(near.arrays["in_target"], accepted)


def test_a_detector_that_accepts_nothing_leaves_a_walk_without_a_start(tmp_path):
  strict = DETECTION._replace(
    spec=DetectorSpec("marginal", False, Rule("fixed", bits_per_dim=-100.0))
  )
  few = {"num_steps": 2, "directions": 1, "blend_steps": 2}
  cells = detected(tmp_path, the_specs=[NEAREST[1]._replace(hyperparameters=few)], detection=strict)
  assert not cells[1].arrays["accepted"].any()
  summary = full_summary(summarise(cells), protocol(clean=()))
  (row,) = summary["minimum"]
  assert row["no_start"] == 30
  said = "**No start found, which counts as unbroken: boundary_detector (l2): 30 images.**"
  assert said in table.markdown(summary)


def test_what_is_clipped_to_each_eps_has_a_verdict_at_each(tmp_path):
  contrast = AttackSpec("contrast", "linear_search_contrast", "linf", (0.2, 0.5), "margin", 1,
                        {"num_steps": 5}, grade_as="clip")  # fmt: skip
  cells = detected(tmp_path, the_specs=[contrast])
  cell = next(cell for cell in cells if cell.header["label"] == "contrast")
  held, wrong = cell.arrays["clipped_held"], cell.arrays["clipped_correct"] == 0
  np.testing.assert_array_equal(held == 0, wrong & cell.arrays["clipped_accepted"][..., 0])
  np.testing.assert_array_equal(as_held(cell).arrays["clipped_correct"], held)
  rows = [r for r in summarise(cells)["detection"]["rows"] if r["label"] == "contrast"]
  clean = cells[1].arrays["held"]
  for column, row in enumerate(rows):
    expected = 1 - np.mean(np.minimum(held[:, column], clean))
    assert row["evading"]["mean"] == pytest.approx(expected)
