"""Who is ahead, and the sentences that say so."""

import pytest

from gencls.report import verdicts
from gencls.report.verdicts import AHEAD, BEHIND, LOST, PARTIAL, UNDECIDED

BOUNDS = {AHEAD: (0.1, 0.3), BEHIND: (-0.3, -0.1), UNDECIDED: (-0.1, 0.1)}


def row(norm, eps, kind, first=0.5):
  low, high = BOUNDS.get(kind, BOUNDS[AHEAD])
  partial = ["first", "second"] if kind == PARTIAL else []
  return {"norm": norm, "eps": eps, "first": first, "second": first, "partial": partial,
          "difference": {"low": low, "high": high}}  # fmt: skip


def pair(first, second, rows, cost=None):
  return {"first": first, "second": second, "rows": rows, "cost": cost}


@pytest.mark.parametrize("kind", [AHEAD, BEHIND, UNDECIDED, PARTIAL])
def test_the_verdict(kind):
  assert verdicts.verdict(row("l2", 1.0, kind)) == kind


@pytest.mark.parametrize("kind", [AHEAD, BEHIND, UNDECIDED, PARTIAL])
def test_a_lead_among_two_that_have_lost_is_none(kind):
  assert verdicts.verdict(row("l2", 1.0, kind, first=0.049)) == LOST
  assert verdicts.verdict({**row("l2", 1.0, kind, first=0.049), "second": 0.051}) == kind


@pytest.mark.parametrize(
  ("lead", "missing", "told"),
  [
    (BEHIND, "first", BEHIND),
    (BEHIND, "second", PARTIAL),
    (AHEAD, "first", PARTIAL),
    (AHEAD, "second", AHEAD),
    (UNDECIDED, "first", PARTIAL),
    (UNDECIDED, "second", PARTIAL),
  ],
)
def test_attacks_that_are_missing_only_widen_the_lead_over_the_one_they_are_missing_for(
  lead, missing, told
):
  assert verdicts.verdict({**row("l2", 1.0, lead), "partial": [missing]}) == told


def test_the_answer_in_words():
  curve = [("l2", 1.0, 0.6), ("l2", 2.0, 0.06), ("l2", 3.0, 0.0), ("linf", 0.1, 0.3)]

  def rows(*kinds):
    clean = row("", 0.0, AHEAD)
    return [clean, *(row(n, e, kind, a) for (n, e, a), kind in zip(curve, kinds, strict=True))]

  both = (AHEAD, AHEAD, UNDECIDED, AHEAD)
  found = [
    pair("Mixture", "MLP", rows(*both), cost=1.44),
    pair("Mixture", "Regression", rows(*both), cost=1.94),
    pair("Mixture", "CNN", rows(BEHIND, AHEAD, UNDECIDED, UNDECIDED)),
    pair("Ising", "CNN", rows(UNDECIDED, UNDECIDED, UNDECIDED, PARTIAL), cost=2.0),
  ]
  unknown = [pair("Ising", "CNN", rows(*[PARTIAL] * 4))]
  assert verdicts.in_words(unknown).splitlines()[0].endswith("at some; 1 are not run in full.")
  assert "no difference" not in verdicts.in_words(unknown)
  assert "no difference" not in verdicts.in_words(found[:3])
  assert verdicts.in_words(found).splitlines() == [
    "In 3 of 4 pairs the generative classifier is ahead at some budget, in 1 it is behind at some, "
    "in 1 no difference is shown.",
    "",
    "- **Mixture**: ahead of MLP and Regression at l2 1, 2 and linf 0.1, of CNN at l2 2; behind "
    "CNN at l2 1; under 5% are left from l2 3 on; attacks take 1.4 to 1.9 times as long.",
    "- **Ising**: no difference is shown; under 5% are left from l2 3 on; attacks take 2 times as "
    "long.",
  ]


@pytest.mark.parametrize(
  ("cost", "text"), [(0.1749, "0.17"), (1.44, "1.4"), (9.96, "10"), (12.4, "12"), (182.3, "182")]
)
def test_a_ratio_of_costs_has_two_digits_and_no_exponent(cost, text):
  assert verdicts.ratio(cost) == text
