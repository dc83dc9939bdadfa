"""Intervals of differences: against the published formula, McNemar's case, and by simulation."""

import numpy as np
import pytest

from gencls.intervals import wilson
from gencls.paired import paired_interval, unpaired_interval


def bonett_price(n12, n21, n):
  """Equation 3 of Bonett and Price 2012, from counts."""
  p12, p21 = (n12 + 1) / (n + 2), (n21 + 1) / (n + 2)
  half = 1.959964 * np.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
  return p12 - p21 - half, p12 - p21 + half


def _pairs(n11, n12, n21, n22):
  first = np.repeat([1.0, 1.0, 0.0, 0.0], [n11, n12, n21, n22])
  return first, np.repeat([1.0, 0.0, 1.0, 0.0], [n11, n12, n21, n22])


@pytest.mark.parametrize("counts", [(40, 12, 3, 5), (0, 0, 0, 7), (90, 0, 10, 0), (0, 1, 0, 0)])
def test_for_one_draw_it_is_the_published_interval(counts):
  found = paired_interval(*_pairs(*counts))
  n = sum(counts)
  assert (found.first_better, found.second_better, found.n) == (counts[1], counts[2], n)
  assert found.mean == pytest.approx((counts[1] - counts[2]) / n)
  expected = np.clip(bonett_price(counts[1], counts[2], n), -1, 1)
  np.testing.assert_allclose([found.low, found.high], expected, atol=1e-6)


def test_the_order_only_changes_the_sign():
  first, second = np.random.default_rng(0).random((2, 50))
  one, two = paired_interval(first, second), paired_interval(second, first)
  np.testing.assert_allclose([one.low, one.mean, one.high], [-two.high, -two.mean, -two.low])


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("p12, p21", [(0.1, 0.1), (0.2, 0.05), (0.02, 0.01), (0.4, 0.1)])
def test_it_covers_the_truth_in_95_percent_of_samples(n, p12, p21):
  """3,000 simulated comparisons: coverage within 4 standard errors of 95%, or above it."""
  rng, hits, times = np.random.default_rng(n), 0, 3000
  counts = rng.multinomial(n, [p12, p21, 1 - p12 - p21], times)
  for n12, n21, rest in counts:
    found = paired_interval(*_pairs(rest, n12, n21, 0))
    hits += found.low <= p12 - p21 <= found.high
  error = np.sqrt(0.95 * 0.05 / times)
  assert hits / times > 0.95 - 4 * error - 0.005  # the score itself is discrete
  if min(p12, p21) * n > 20:
    assert hits / times < 0.95 + 4 * error + 0.005  # and not by being far too wide


def test_pairing_pays_where_errors_are_shared():
  """Unpaired, the difference of two Wilson intervals would be wider."""
  rng = np.random.default_rng(1)
  easy = rng.random(400)
  first, second = (easy < 0.6).astype(float), (easy < 0.55).astype(float)
  found = paired_interval(first, second)
  unpaired = 1.96 * np.sqrt(0.6 * 0.4 / 400 + 0.55 * 0.45 / 400)
  assert found.low > 0
  assert found.high - found.low < unpaired


def test_means_over_draws_are_covered_too():
  rng, hits = np.random.default_rng(2), 0
  for _ in range(400):
    p = rng.beta(2, 2, 100)
    first, second = rng.binomial(20, p) / 20, rng.binomial(20, np.clip(p - 0.05, 0, 1)) / 20
    truth = np.mean(p - np.clip(p - 0.05, 0, 1))
    found = paired_interval(first, second)
    hits += found.low <= truth <= found.high
  assert hits / 400 >= 0.95


def test_wrong_arrays_are_refused():
  with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
    paired_interval(np.zeros(3), np.zeros(4))
  with pytest.raises(ValueError, match="N >= 1"):
    paired_interval(np.zeros(0), np.zeros(0))
  with pytest.raises(ValueError, match=r"got 0\.0 to 2\.0"):
    paired_interval(np.zeros(3), np.full(3, 2.0))
  with pytest.raises(ValueError, match="shares"):
    paired_interval(np.zeros(3), np.full(3, np.nan))


@pytest.mark.parametrize(
  ("first", "second", "n", "expected"),
  [(9, 3, 10, (0.1705, 0.8090)), (6, 2, 7, (0.0582, 0.8062)), (10, 0, 10, (0.6075, 1.0))],
)
def test_without_the_images_it_is_newcombes_table(first, second, n, expected):
  """Newcombe 1998, Table II, method 10."""
  found = unpaired_interval(_share(first, n), _share(second, n))
  assert (found.mean, found.n) == (pytest.approx((first - second) / n), n)
  np.testing.assert_allclose([found.low, found.high], expected, atol=5e-5)


def test_without_the_images_it_is_wider_where_models_fail_together():
  together = (60, 20, 5, 15)
  one = paired_interval(*_pairs(*together))
  other = unpaired_interval(_share(80, 100), _share(65, 100))
  assert other.mean == pytest.approx(one.mean) and other.low < one.low and other.high > one.high
  with pytest.raises(ValueError, match="same images are compared, got 100 and 50"):
    unpaired_interval(_share(80, 100), _share(40, 50))


def _share(right, n):
  low, high = wilson(right / n, n)
  return {"mean": right / n, "low": low, "high": high, "n": n}
