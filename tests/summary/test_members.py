"""Ensembles are taken apart: gradients in one view, each member that sees none in its own."""

import copy

import numpy as np
import pytest

from gencls.evaluation.candidates import Group
from gencls.evaluation.results import Cell
from gencls.summary import checks, members

N, MARGIN = 100, 10.0
STANDARD = {"version": "standard", "num_classes": 10}  # apgd_ce, apgd_t, fab_t, square


def _arrays(right):
  right = np.asarray(right, np.float32)
  return {"correct": right, "select_correct": right, "select_margin": MARGIN * (2 * right - 1)}


def _cell(label, name, right, against="classifier", **arrays):
  attack = {"name": name, "against": against, "hyperparameters": STANDARD, "target": None}
  header = {"label": label, "norm": "linf", "eps": 0.1, "settings": {"attack": attack}}
  return Cell(header, {**_arrays(right), **arrays})


UNTOUCHED = Cell({"label": "untouched"}, {**_arrays(np.ones(N)), "index": np.arange(N)})
# Member 1 breaks ten images, member 4 (Square) sixty of the rest, thirty stand.
BROKEN_BY = np.repeat([1, 4, -1], [10, 60, 30])
ENSEMBLE = _cell("aa", "auto_attack", BROKEN_BY == -1, broken_by=BROKEN_BY)
SQUARE = _cell("square", "square", np.repeat([0, 1], [70, 30]))


def test_an_ensemble_is_what_follows_gradients_and_each_member_that_does_not():
  white, black = members.split([ENSEMBLE], UNTOUCHED)
  assert [c.header["label"] for c in (white, black)] == ["aa", "aa (square)"]
  assert [c.header["settings"]["attack"]["name"] for c in (white, black)] == [
    "auto_attack",
    "square",
  ]
  assert np.sum(white.arrays["correct"]) == 90 and np.sum(black.arrays["correct"]) == 40
  np.testing.assert_array_equal(white.arrays["correct"] == 0, BROKEN_BY == 1)
  np.testing.assert_array_equal(black.arrays["select_margin"] < 0, BROKEN_BY == 4)
  only = _cell("pgd", "pgd", np.ones(N))
  assert members.split([only, SQUARE], UNTOUCHED) == [only, SQUARE]


def test_what_gradients_follow_is_no_evidence_against_them():
  """In "plus" the targeted attacks come behind Square, and have not met what it broke."""
  settings = copy.deepcopy(ENSEMBLE.header["settings"])
  settings["attack"]["hyperparameters"] = {"version": "plus", "num_classes": 10}
  plus = ENSEMBLE._replace(header={**ENSEMBLE.header, "settings": settings})
  assert members.split([plus], UNTOUCHED) == [plus]


def test_without_fab_the_members_have_other_places():
  """Past a detector there are three: Square is the third."""
  evading = _cell("aa", "auto_attack", BROKEN_BY == -1, "detector", broken_by=BROKEN_BY - 1)
  assert np.sum(members.split([evading], UNTOUCHED)[1].arrays["correct"]) == 40


@pytest.mark.parametrize("cells", [[ENSEMBLE], [ENSEMBLE, SQUARE]], ids=["alone", "beside Square"])
def test_what_square_breaks_in_an_ensemble_is_no_success_of_gradients(cells):
  pairs = checks._pairs([Group("linf", 0.1, cells)], UNTOUCHED)
  found = {pair.where: (np.mean(pair.white), np.mean(pair.both)) for pair in pairs}
  assert found["aa (square) linf 0.1"] == pytest.approx((0.9, 0.3))
  assert all(white == pytest.approx(0.9) for white, _ in found.values())
  assert len(found) == len(cells)
  rates = checks.sanity.white_beats_black(pairs, draws=1)
  assert rates.status == ("not run" if len(cells) == 1 else "fail")  # Square alone breaks more
  everything = checks.sanity.nothing_new(pairs, draws=1)
  assert everything.status == "fail"
  assert "aa (square) linf 0.1 breaks 60.0 points more (images 10, 11," in everything.detail
