"""The detector in the columns of `load_results` and in differences of two runs."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
from toy_evaluation import record
from toy_report import write_run

import gencls
from gencls import paired
from gencls.report import compare, detection_table, difference, results_file, views
from gencls.report.reading import read
from gencls.summary import columns, shares
from gencls.summary.checks import HELD

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


def test_differences_of_what_is_right_or_rejected(runs, tmp_path):
  text = difference.write(runs, "toy", tmp_path, views.record(record()))
  first, second = (read(folder, "toy") for folder in runs)
  rows = [row for row in difference.rows(first, second) if row["what"] == HELD]
  shares = [evading(entry.summary) for entry in (first, second)]
  assert [(row["norm"], row["eps"]) for row in rows] == sorted(shares[0])
  for row in rows:
    one, two = (1 - each[row["norm"], row["eps"]]["mean"] for each in shares)
    assert (row["first"], row["second"]) == pytest.approx((one, two))
    assert row["difference"]["mean"] == pytest.approx(one - two)
    assert f"{HELD} linf {row['eps']:g}, right or rejected" in text
    assert difference.points(row["difference"]) in text
  page = (tmp_path / "toy_difference.html").read_text()
  for words in (text, page):
    assert words.count("Detector: kl, one threshold") == 2
  assert f"{HELD} linf 0.1, right or rejected" in page


def test_the_images_of_a_results_file_are_those_of_the_columns(runs, tmp_path):
  compare.write(compare.gather(runs, "toy"), "toy", tmp_path)
  for entry, run in zip(compare.gather([tmp_path / "toy.json"], "toy"), runs, strict=True):
    results = columns.load_results(run, "toy")
    rows = [row for row in entry.summary["detection"]["worst"] if row["kind"] == "either"]
    assert len(rows) == 5
    for row in rows:
      held = columns.at(results, HELD, row["norm"], row["eps"]).held_counted
      np.testing.assert_allclose(1 - shares.unpack(row["counted"]), held, atol=1e-6)
    damaged = {**entry.summary, "detection": copy.deepcopy(entry.summary["detection"])}
    damaged["detection"]["worst"][-1]["counted"]["images"] += 8
    (tmp_path / "damaged.json").write_text(json.dumps({entry.title: damaged}))
    with pytest.raises(ValueError, match="damaged"):
      results_file.load(tmp_path / "damaged.json")


def _before_images(entry):
  """As of an older results file, which does not say which images are right."""
  detection = copy.deepcopy(entry.summary["detection"])
  for row in detection["worst"]:
    del row["counted"]
  return entry._replace(summary={**entry.summary, "detection": detection})


def test_differences_without_the_images(runs, tmp_path):
  """Models of an older file: by their intervals, the shares that evade turned round."""
  compare.write(compare.gather(runs, "toy"), "toy", tmp_path)
  of_file = [_before_images(e) for e in compare.gather([tmp_path / "toy.json"], "toy")]
  of_runs = compare.gather(runs, "toy")
  found = [row for row in difference.rows(*of_file) if row["what"] == HELD]
  exact = [row for row in difference.rows(*of_runs) if row["what"] == HELD]
  assert len(found) == len(exact) == 5
  evades = [detection_table.worst(e.summary["detection"])["either"] for e in of_file]
  for one, two in zip(found, exact, strict=True):
    assert (one["first"], one["second"]) == pytest.approx((two["first"], two["second"]))
    assert one["difference"]["method"] == paired.UNPAIRED != two["difference"]["method"]
    a, b = (each[one["norm"], one["eps"]] for each in evades)
    # Newcombe: of what is held the distance to its lower end is that of what evades to its upper.
    below = np.hypot(a["high"] - a["mean"], b["mean"] - b["low"])
    above = np.hypot(a["mean"] - a["low"], b["high"] - b["mean"])
    mean = b["mean"] - a["mean"]
    ends = one["difference"]["low"], one["difference"]["high"]
    assert ends == pytest.approx((mean - below, mean + above), abs=1e-9)
  older = [e._replace(summary={n: v for n, v in e.summary.items() if n != "detection"})
           for e in of_file]  # fmt: skip
  assert not [row for row in difference.rows(*older) if row["what"] == HELD]
  none = [of_file[0], of_file[1]._replace(summary={**of_file[1].summary, "detection": None})]
  assert not [row for row in difference.rows(*none) if row["what"] == HELD]


def test_attacks_that_do_not_see_the_detector_say_nothing_of_its_worst_case(tmp_path):
  for i, title in enumerate(TITLES):
    write_run(tmp_path / title, title, attacks=("pgd",), seed=i, detector=True)
  entries = [read(tmp_path / title, "toy") for title in TITLES]
  assert evading(entries[0].summary)
  assert not [row for row in difference.rows(*entries) if row["what"] == HELD]


def test_the_schema_names_what_a_detector_adds(runs):
  text = (Path(__file__).resolve().parents[2] / "docs" / "results_schema.md").read_text()
  named = set(re.findall(r"`(\w+)`", text))
  cells = read(runs[0], "toy").cells
  assert {name for cell in cells for name in cell.arrays} <= named
  detector = next(cell for cell in cells if cell.header["label"] == "detector")
  assert {"detector", *detector.header} <= named
  assert f"`{HELD}`" in text and "results/analyses/" in text
