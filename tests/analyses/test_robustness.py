"""Average robustness and the nearest wrong images, by hand."""

import numpy as np
import pytest

from gencls.analyses import robustness
from gencls.evaluation import minimum_norm
from gencls.evaluation.results import Cell


def cell(label, eps, norms, right, attack=None, graded=None):
  settings_ = {"attack": {"target": None, **(attack or {})}}
  header = {"label": label, "norm": "l2", "eps": eps, "settings": settings_}
  arrays = {"norm": np.array(norms, float), "select_correct": np.array(right, float)}
  arrays["select_margin"] = arrays["select_correct"] - 0.5
  arrays["correct"] = np.array(right if graded is None else graded, float)
  return Cell(header, arrays)


def test_the_nearest_wrong_image_by_hand():
  untouched = cell("untouched", 0.0, [0, 0, 0, 0], [0, 1, 1, 1])
  one = cell("pgd", 1.0, [1, 0.8, 1, 1], [0, 0, 1, 1])
  two = cell("pgd", 2.0, [2, 2, 1.5, 2], [0, 0, 0, 1])
  found = robustness.nearest([two, one], untouched)
  np.testing.assert_array_equal(found.distance, [0, 0.8, 1.5, np.inf])
  np.testing.assert_array_equal(found.l2_norm, found.distance)
  at, share = robustness.curve(found.distance)
  assert at.tolist() == [0, 0.8, 1.5] and share.tolist() == [0.25, 0.5, 0.75]


def test_the_select_draws_choose_and_the_grade_draws_count():
  clean = cell("untouched", 0.0, [0, 0, 0], [1, 1, 1])
  near = cell("pgd", 1.0, [1, 1, 1], [0.4, 0.4, 0.2], graded=[0.8, 0.8, 0.7])
  far = cell("pgd", 2.0, [2, 2, 2], [0.2, 0.6, 0.4], graded=[0.1, 0.6, 0.4])
  found = robustness.nearest([near, far], clean).distance
  np.testing.assert_array_equal(found, [2, np.inf, np.inf])


def test_images_that_are_mostly_right_are_not_broken_by_the_best_of_many_draws():
  rng, n = np.random.default_rng(0), 2000

  def made(eps, share):
    select, graded = (rng.binomial(d, share, n) / d for d in (5, 20))
    return cell("pgd", eps, np.full(n, eps), select, graded=graded)

  clean = cell("untouched", 0.0, np.zeros(n), np.ones(n))
  robust = [made(eps, 0.8) for eps in range(1, 13)]
  assert np.mean(np.isfinite(robustness.nearest(robust, clean).distance)) < 0.01
  # Hidden behind a lucky draw nearby are 0.092 · 0.078 + 0.004 · 0.51: 0.9%.
  broken = robustness.nearest([*robust, made(13, 0.02)], clean).distance
  assert np.mean(broken == 13) > 0.98


def test_average_robustness_by_hand():
  x = np.zeros((4, 2, 2, 1), np.float32)
  x[:, 0] = [[[0.3], [0.4]]] * 4  # of length 0.5

  def row_of(norm, distances, l2_norm):
    wrong = robustness.Nearest(np.array(distances), np.array(l2_norm))
    return robustness._row("a", "pgd", norm, wrong, x, 0)

  row = row_of("l2", [0, 0.25, 1.0, np.inf], [0, 0.25, 1.0, np.inf])
  assert row["mean_relative_norm"] is None  # a failure makes it infinite
  assert row["mean_relative_norm_of_successes"] == pytest.approx((0 + 0.5 + 2) / 3)
  assert row["median_relative_norm_all"] == pytest.approx(1.25)
  assert row["median_norm_all"] == pytest.approx(0.625) and row["broken"]["mean"] == 0.75
  row = row_of("linf", [0, 0.1, 0.2, 0.2], [0, 0.25, 1.0, 0.5])
  assert row["mean_relative_norm"] == pytest.approx((0 + 0.5 + 2 + 1) / 4)
  assert row["median_norm_all"] == pytest.approx(0.15)


def test_rho_is_of_the_l2_norms_or_not_stored():
  """Two attacks of linf; the second breaks what the first does not."""
  untouched = cell("untouched", 0.0, [0, 0, 0], [0, 1, 1])
  one = cell("pgd", 0.1, [0.1, 0.1, 0.1], [0, 0, 1])
  two = cell("pgd", 0.2, [0.2, 0.2, 0.2], [0, 0, 0])
  for each, sizes in ((one, [0.3, 0.4, 0.5]), (two, [0.6, 0.7, 0.8])):
    each.header["norm"] = "linf"
    each.arrays["l2_norm"] = np.array(sizes)
  found = robustness.nearest([one, two], untouched)
  np.testing.assert_allclose(found.distance, [0, 0.1, 0.2])
  np.testing.assert_allclose(found.l2_norm, [0, 0.4, 0.8])
  del two.arrays["l2_norm"]
  found = robustness.nearest([one, two], untouched)
  np.testing.assert_array_equal(np.isnan(found.l2_norm), [False, False, True])
  row = robustness._row("a", "pgd", "linf", found, np.ones((3, 2, 2, 1), np.float32), 0)
  assert row["median_norm_all"] == pytest.approx(0.1) and row["rho_norm"] is None
  numbers = {"rows": [{**row, "missing": False}], "left_out": {}, "missing": {}}
  assert robustness.markdown(Cell({"numbers": numbers}, {})).count("not stored") == 3


def test_distances_of_a_minimum_norm_attack_are_its_own():
  untouched = cell("untouched", 0.0, [0, 0, 0], [0, 1, 1])
  minimum = cell("fab", None, [0, 0.7, 0.0], [0, 0, 1])
  found = robustness.nearest([minimum], untouched).distance
  np.testing.assert_array_equal(found, minimum_norm.distances(minimum))
