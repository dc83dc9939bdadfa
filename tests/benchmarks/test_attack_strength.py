import sys
from pathlib import Path

import numpy as np
import pytest
from attack_models import linear

from gencls import attacks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from kept_seeds import forget, records_of
from strength_report import Outcome, compared, local_optimality, markdown, scores, verdicts
from strength_rows import ROWS

INF = np.inf


def test_the_best_attack_has_local_optimality_one_and_a_useless_one_zero():
  best = np.array([0.1, 0.2, 0.4])
  assert local_optimality(best, best) == pytest.approx(1)
  assert local_optimality(np.full(3, INF), best) == 0
  assert local_optimality(np.full(3, 0.5), best) == 0  # nothing within the end of the best curve


def test_local_optimality_is_the_ratio_of_areas_above_the_curves():
  best, own = np.array([0.0, 0.1, 0.2, INF]), np.array([0.0, 0.3, 0.25, INF])
  eps = np.linspace(0, 0.2, 20001)
  area = lambda d: np.mean([np.mean(d <= e) for e in eps])  # noqa: E731  # above accuracy
  assert local_optimality(own, best) == pytest.approx(area(own) / area(best), rel=1e-3)


def _record(kind, found, attack="ddn", library="foolbox"):
  row = {"attack": attack, "norm": "l2", "library": library}
  facts = {"victim": "cnn", "dataset": "mnist", "num_images": 2, "passes": 10, "label": attack}
  versions = dict.fromkeys(("jax", "foolbox", "torch", "torchattacks"), "1")
  made = {"versions": versions, "devices": {"kind": "cpu"}, "git": {"revision": "f" * 40}}
  return {**facts, **made, "kind": kind, "row": row, "found": found}


def test_scores_use_the_best_of_all_attacks_of_a_norm():
  mine, theirs = {"distance": [0.1, 0.4], "passes": 9}, {"distance": [0.2, -1.0], "passes": 10}
  first = _record("passes", {"ours": mine, "theirs": theirs})
  second = _record("passes", {"ours": {"distance": [0.3, 0.2], "passes": 8}}, attack="fmn")
  rows = scores([first, second])
  assert [row[1:3] for row in rows] == [
    ("ddn", "gencls"),
    ("ddn", "foolbox"),
    ("fmn", "gencls"),
  ]
  # Best curve 0.1, 0.2 with end 0.2: its area is 0.1, and 0.1, 0 and 0 of the others.
  assert [row[-1] for row in rows] == pytest.approx([1, 0, 0])
  assert rows[1][3:6] == (10, 0.5, INF)


def _found(eps, seed, ours, theirs):
  seconds, passes = {"ours": 1.0, "theirs": 2.0}, {"ours": 3.0, "theirs": None}
  one = {"eps": eps, "seed": seed, "ours": ours, "theirs": theirs}
  return {**one, "seconds": seconds, "passes": passes}


def test_a_weaker_row_says_so():
  weaker, equal = (_record("compare", [_found(0.1, 0, ours, 90.0)]) for ours in (30.0, 90.0))
  assert "**weaker**" in markdown({"comparisons": [weaker]})
  assert "**weaker**" not in markdown({"comparisons": [equal]})


def test_the_mean_over_seeds_decides_and_the_worst_seed_stands_beside_it():
  found = [_found(0.1, 0, 30.0, 90.0), _found(0.1, 1, 90.0, 30.0), _found(0.2, 0, 90.0, 95.0)]
  record = {**_record("compare", found), "num_images": 500}
  first, second = verdicts(record)
  assert first.as_strong and first.worst == -60
  assert not second.as_strong and second.worst == -5
  table = markdown({"comparisons": [record]})
  assert "| 500 | 2 | 0.1 | 60.0% | 60.0% (foolbox) |  | -60.0 |" in table
  assert table.count("**weaker**") == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_every_row_names_an_attack_and_its_settings(row):
  own = {"norm": row.norm} if attacks.takes(row.attack, "norm") else {}
  own |= {"eps": 0.1} if attacks.takes_eps(row.attack) else {}
  for more in ({}, row.budget or {}):
    attack = attacks.build(row.attack, linear(num_classes=10), **(own | row.ours | more))
    assert attack is not None


# Our name of a setting -> foolbox's and torchattacks'.
SAME = {
  "num_steps": ("steps", "n_queries", "nb_iter"),
  "num_repeats": ("repeats",),
  "rel_step_size": ("rel_stepsize",),
  "step_size": ("stepsize", "lr"),
  "binary_search_steps": ("binary_search_steps",),
  "initial_const": ("initial_const",),
  "abort_early": ("abort_early",),
  "overshoot": ("overshoot",),
  "delta": ("delta",),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_both_sides_have_the_same_settings(row):
  pairs = [(row.ours, row.theirs)]
  if row.budget and row.their_budget:
    pairs.append((row.ours | row.budget, row.theirs | row.their_budget))
  for ours, theirs in pairs:
    for name, value in ours.items():
      found = [theirs[other] for other in SAME.get(name, ()) if other in theirs]
      assert found in ([], [value]), name
  if row.budget is not None and row.library == "foolbox":
    assert row.their_budget is not None and len(pairs) == 2


def _outcome(*distance):
  return Outcome(np.array(distance), 1.0, float("nan"))


def _passes(mine, peer, eps=None, library="foolbox"):
  found = compared(eps, 0, _outcome(*mine), _outcome(*peer))
  record = _record("compare", [found], library=library)
  (verdict,) = verdicts({**record, "num_images": len(mine)})
  return verdict.as_strong


def test_a_success_rate_may_miss_one_image_or_the_points_of_the_library():
  def passes(library, num, fewer):
    mine, peer = np.full(num, 0.1), np.full(num, 0.1)
    mine[:fewer] = INF
    return _passes(mine, peer, 0.1, library)

  assert passes("foolbox", 50, 1) and not passes("foolbox", 50, 2)
  assert passes("foolbox", 1000, 5) and not passes("foolbox", 1000, 6)
  assert passes("torchattacks", 1000, 10) and not passes("torchattacks", 1000, 11)
  # Within eps counts, beyond the tolerance it does not.
  assert compared(0.1, 0, _outcome(0.1 + 5e-7), _outcome(0.2))["ours"] == 100
  assert compared(0.1, 0, _outcome(0.1 + 5e-6), _outcome(0.2))["ours"] == 0


def test_medians_may_be_one_per_cent_larger_and_failures_are_infinite():
  assert _passes([1.01], [1.0]) and not _passes([1.011], [1.0])
  assert _passes([INF], [INF]) and not _passes([INF], [5.0])
  assert compared(None, 0, _outcome(INF), _outcome(1.0))["ours"] is None


def test_labels_are_unique():
  assert len({row.label for row in ROWS}) == len(ROWS)


def test_a_stop_loses_one_seed_at_most(tmp_path):
  path, made = tmp_path / "row.json", []

  def make(seed, stop_at=None):
    if seed == stop_at:
      raise KeyboardInterrupt
    made.append(seed)
    return [{"seed": seed, "ours": 0.5}, {"seed": seed, "ours": None}]

  with pytest.raises(KeyboardInterrupt):
    records_of(path, range(3), lambda seed: make(seed, stop_at=2))
  found = records_of(path, range(3), make)
  assert made == [0, 1, 2]
  assert [record["seed"] for record in found] == [0, 0, 1, 1, 2, 2]
  forget(path, range(3))
  assert not list(tmp_path.iterdir())
