"""Checks of worst cases that a headline would pass by construction."""

import numpy as np
from test_sanity import _graded, _minimum, _untouched

from gencls import sanity
from gencls.evaluation.candidates import attacks_first, candidate, groups
from gencls.summary.checks import WORST
from gencls.summary.worst_checks import falling, of_attacks


def _falls(cells, untouched):
  (check,) = falling(WORST, groups(cells, untouched), untouched, 1)
  return check


def test_a_worst_case_that_rises_is_found_though_the_headline_falls():
  untouched = _untouched([1, 1, 1, 1])
  cells = [
    _graded("pgd", "pgd", [0, 0, 0, 1], 0.1),
    _graded("pgd", "pgd", [1, 1, 1, 1], 0.2),
    _graded("grey", "", [0, 0, 0, 0], 0.2),
  ]
  assert not candidate(attacks_first(groups(cells, untouched)[1], untouched))[1].any()
  found = _falls(cells, untouched)
  assert found.name == "worst case by the attacks of each eps alone (linf): accuracy falls with eps"
  assert (found.status, found.detail) == ("fail", "0.1 → 0.2: +75.0 points")
  steady = [*cells, _graded("apgd", "apgd", [1, 0, 0, 0], 0.1)]
  assert _falls([*steady, _graded("apgd", "apgd", [0, 0, 0, 0], 0.2)], untouched).status == "pass"


def test_only_attacks_of_both_eps_are_compared():
  untouched = _untouched([1, 1, 1, 1])
  strong = _graded("square", "square", [0, 0, 0, 0], 0.1)
  moved = [
    _graded("moved", "transfer", right, eps) for right, eps in (([0] * 4, 0.1), ([1] * 4, 0.2))
  ]
  far = _minimum("fmn", "fmn", [0, 0, 0, 0], [0.05, 0.1, 0.1, 0.1], [0.1, 0.2])
  alone = [_graded("pgd", "pgd", [0, 1, 1, 1], eps) for eps in (0.1, 0.2)]
  assert _falls([*alone, strong, *moved, far], untouched).status == "pass"
  for cells in ([strong], moved, [far], alone[:1]):
    assert _falls(cells, untouched).status == "not run"


def test_an_attack_that_leaves_grey_to_do_its_work_is_found():
  """Nothing but grey breaks an image at eps 0.5."""
  labels = np.array([0, 1, 2, 3])
  untouched = _untouched([1, 1, 1, 1])
  cells = [_graded("pgd", "pgd", [1, 1, 1, 1], 0.5), _graded("grey", "", [1, 0, 0, 0], 0.5)]
  attacked = of_attacks(groups(cells, untouched), untouched, "linf")
  assert sanity.half_box(attacked, labels).status == "fail"
  better = [_graded("pgd", "pgd", [0, 0, 1, 0], 0.5), *cells[1:]]
  attacked = of_attacks(groups(better, untouched), untouched, "linf")
  assert sanity.half_box(attacked, labels).status == "pass"
  only_grey = [_graded("pgd", "pgd", [1, 1, 1, 1], 0.3), cells[1]]
  attacked = of_attacks(groups(only_grey, untouched), untouched, "linf")
  assert sanity.half_box(attacked, labels).status == "not run"
