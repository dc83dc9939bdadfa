"""The detector in the columns of `load_results`."""

import re
from pathlib import Path

import numpy as np
import pytest
from toy_report import write_run

import gencls
from gencls import columns
from gencls.report.checks import HELD
from gencls.report.reading import read

ATTACKS = ("pgd", "pgd_detector")
TITLES = ("GFZ", "CNN")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs")
  for i, title in enumerate(TITLES):
    write_run(folder / title, title, attacks=ATTACKS, skill=(0.9, 0.2)[i], seed=i, detector=True)
  return [folder / title for title in TITLES]


def evading(summary, kind="either"):
  found = (row for row in summary["detection"]["worst"] if row["kind"] == kind)
  return {(row["norm"], row["eps"]): row["evading"] for row in found}


def test_columns_give_what_ends_misclassified_and_accepted(runs):
  results, summary = gencls.load_results(runs[0], "toy"), read(runs[0], "toy").summary
  cells = {(c.header["label"], c.header["eps"]): c.arrays for c in read(runs[0], "toy").cells}
  for row in summary["detection"]["rows"]:
    own = columns.at(results, row["label"], row["norm"], row["eps"])
    assert 1 - np.mean(own.held_counted) == pytest.approx(row["evading"]["mean"])
    arrays = cells[row["label"], row["eps"]]
    np.testing.assert_array_equal(own.score, arrays["score"][:, 0])
    np.testing.assert_array_equal(own.held, arrays["held"])
    np.testing.assert_array_equal(own.accepted, arrays["accepted"][:, 0])
    alone = (own.prediction == own.label) | (own.accepted == 0)
    np.testing.assert_array_equal(own.held, alone)
  for (norm, eps), share in evading(summary).items():
    worst = columns.at(results, HELD, norm, eps)
    assert 1 - np.mean(worst.held_counted) == pytest.approx(share["mean"])
    np.testing.assert_array_equal(worst.held_counted, worst.held)  # the image alone, and counted
    np.testing.assert_array_equal(worst.correct, worst.prediction == worst.label)
    assert set(worst.chosen) <= {*ATTACKS, "grey", "untouched"} and len(set(worst.chosen)) > 2
    assert np.all(np.isnan(worst.counted))
  assert len(evading(summary)) == 5
  assert np.all(np.isnan(columns.at(results, "clean").held))
  assert not np.any(np.isnan(columns.at(results, "worst case", "linf", 0.1).accepted))
  assert {len(column) for column in results} == {len(results.eps)}


def test_without_a_detector_nothing_is_accepted_or_rejected(tmp_path):
  write_run(tmp_path, "GFZ", attacks=("pgd",))
  results = gencls.load_results(tmp_path, "toy")
  for name in ("score", "accepted", "held", "held_counted"):
    assert np.all(np.isnan(getattr(results, name)))
  assert HELD not in set(results.attack)


def test_the_schema_names_what_a_detector_adds(runs):
  text = (Path(__file__).parent.parent / "docs" / "results_schema.md").read_text()
  named = set(re.findall(r"`(\w+)`", text))
  cells = read(runs[0], "toy").cells
  assert {name for cell in cells for name in cell.arrays} <= named
  detector = next(cell for cell in cells if cell.header["label"] == "detector")
  assert {"detector", *detector.header} <= named
  assert f"`{HELD}`" in text and "results/analyses/" in text
