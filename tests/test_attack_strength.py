import sys
from pathlib import Path

import numpy as np
import pytest
from attack_models import linear

from gencls import attacks

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from strength_report import local_optimality, markdown, scores
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
  return {**facts, "kind": kind, "row": row, "found": found, "versions": versions,
          "devices": {"kind": "cpu"}}  # fmt: skip


def test_scores_use_the_best_of_all_attacks_of_a_norm():
  first = _record("passes", {"ours": [0.1, 0.4], "theirs": [0.2, -1.0]})
  second = _record("passes", {"ours": [0.3, 0.2]}, attack="fmn")
  rows = scores([first, second])
  assert [row[1:3] for row in rows] == [
    ("ddn", "gencls"),
    ("ddn", "foolbox"),
    ("fmn", "gencls"),
  ]
  # Best curve 0.1, 0.2 with end 0.2: its area is 0.1, and 0.1, 0 and 0 of the others.
  assert [row[-1] for row in rows] == pytest.approx([1, 0, 0])
  assert rows[1][3] == 0.5 and rows[1][4] == INF


def test_a_weaker_row_says_so():
  found = {"eps": 0.1, "seed": 0, "ours": 40.0, "theirs": 50.0, "at_least_as_strong": False}
  found |= {"seconds": {"ours": 1.0, "theirs": 2.0}, "passes": {"ours": 3.0, "theirs": None}}
  assert "**weaker**" in markdown({"comparisons": [_record("compare", [found])]})
  assert "**weaker**" not in markdown(
    {"comparisons": [_record("compare", [{**found, "at_least_as_strong": True}])]}
  )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_every_row_names_an_attack_and_its_settings(row):
  own = {"norm": row.norm} if attacks.takes(row.attack, "norm") else {}
  own |= {"eps": 0.1} if attacks.takes_eps(row.attack) else {}
  for more in ({}, row.budget or {}):
    attack = attacks.build(row.attack, linear(num_classes=10), **(own | row.ours | more))
    assert attack is not None


def test_labels_are_unique():
  assert len({row.label for row in ROWS}) == len(ROWS)
