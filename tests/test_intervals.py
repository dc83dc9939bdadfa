"""Intervals, calibration, likelihood: against closed forms, NumPy and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gencls.bits import bits_per_dimension, dequantise
from gencls.calibration import expected_calibration_error, label_nll
from gencls.intervals import share_interval, wilson
from gencls.keys import example_keys


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 7), (186, 200), (9912, 10000)])
def test_wilson_agrees_with_scipy(right, n):
  expected = stats.binomtest(right, n).proportion_ci(method="wilson")
  np.testing.assert_allclose(wilson(right / n, n), expected, rtol=1e-9, atol=1e-12)


def test_one_draw_is_wilson_over_images():
  values = np.repeat([1.0, 0.0], [30, 10])
  found = share_interval(values)
  assert (found.low, found.high) == wilson(0.75, 40)
  assert found.n == 40


def test_equal_shares_count_every_draw():
  found = share_interval(np.full(50, 0.5), draws=20)
  assert (found.low, found.high) == pytest.approx(wilson(0.5, 1000))


def test_identical_draws_count_each_image_once():
  values = np.repeat([1.0, 0.0], [30, 10])
  found = share_interval(values, draws=20)
  # n p (1-p) / s² with the unbiased s² is n - 1, never less than n.
  assert (found.low, found.high) == pytest.approx(wilson(0.75, 40))


def test_the_effective_number_of_trials_by_hand():
  values = np.array([1.0, 1.0, 0.6, 0.9, 0.5])  # mean 0.8; s² = 0.22 / 4 = 0.055
  found = share_interval(values, draws=10)
  assert (found.low, found.high) == pytest.approx(wilson(0.8, 5 * 0.16 / 0.055))


def test_all_right_is_not_certain():
  assert share_interval(np.ones(100), draws=20).low == pytest.approx(wilson(1.0, 100)[0])


@pytest.mark.parametrize(("a", "b"), [(8.0, 2.0), (0.3, 0.1), (30.0, 0.5)])
def test_intervals_cover_the_truth(a, b):
  """Beta-binomial images: 95% of the intervals hold the mean (4000 runs, 3 standard errors)."""
  rng, n, draws, runs = np.random.default_rng(0), 100, 20, 4000
  shares = rng.binomial(draws, rng.beta(a, b, (runs, n))) / draws
  found = [share_interval(row, draws) for row in shares]
  covered = np.mean([i.low <= a / (a + b) <= i.high for i in found])
  # The image-level interval must not be too short; counting draws as images would cover far less.
  assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs) - 0.01
  short = [wilson(float(np.mean(row)), n * draws) for row in shares]
  assert np.mean([low <= a / (a + b) <= high for low, high in short]) < covered


def test_a_few_lucky_draws_do_not_say_more_of_the_other_images_than_none():
  """A larger mean must not have a smaller upper end, nor a smaller one a larger lower end."""
  high = [share_interval(np.repeat([k / 20, 0], [1, 99]), 20).high for k in range(21)]
  low = [share_interval(np.repeat([1 - k / 20, 1], [1, 99]), 20).low for k in range(21)]
  assert high == sorted(high) and high[0] == high[1] == wilson(0.0, 100)[1]
  assert low == sorted(low, reverse=True) and low[0] == low[1] == wilson(1.0, 100)[0]


def test_rare_images_that_are_sometimes_right_are_covered():
  """One image in fifty is right in nine draws of ten, the others never are."""
  rng, n, draws, runs = np.random.default_rng(1), 100, 20, 2000
  rare = rng.random((runs, n)) < 0.02
  shares = np.where(rare, rng.binomial(draws, 0.9, (runs, n)) / draws, 0.0)
  found = [share_interval(row, draws) for row in shares]
  assert np.mean([i.low <= 0.02 * 0.9 <= i.high for i in found]) > 0.94


@pytest.mark.parametrize("values", [[], [0.5, 1.2], [np.nan, 0.0], [-0.1]])
def test_bad_shares_are_refused(values):
  with pytest.raises(ValueError, match="values must be"):
    share_interval(np.array(values))


def test_calibration_against_a_loop():
  rng = np.random.default_rng(1)
  p = rng.dirichlet([0.5] * 4, 300)
  y = rng.integers(0, 4, 300)
  confidence, right = p.max(1), p.argmax(1) == y
  expected = 0.0
  for low in np.arange(15) / 15:
    inside = (confidence > low) & (confidence <= low + 1 / 15)
    if inside.any():
      expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
  assert expected_calibration_error(p, y) == pytest.approx(expected, abs=1e-12)


def test_calibration_of_certain_predictions():
  p = np.eye(2)[[0, 0, 1, 1]]
  assert expected_calibration_error(p, np.array([0, 0, 1, 1])) == 0.0
  assert expected_calibration_error(p, np.array([1, 1, 0, 0])) == 1.0
  with pytest.raises(ValueError, match="finite"):
    expected_calibration_error(p * np.nan, np.array([0, 0, 1, 1]))


def test_label_nll_far_from_the_winner():
  logits = np.array([[0.0, -1000.0], [2.0, 2.0]])
  np.testing.assert_allclose(label_nll(logits, np.array([1, 0])), [1000.0, np.log(2)])


def test_uniform_density_costs_log2_levels():
  # p(x') = 1 on [0, 1]^D: every level is equally likely, log2(256) = 8 bits each.
  np.testing.assert_allclose(bits_per_dimension(np.zeros(3), 784, 256), 8.0)
  np.testing.assert_allclose(bits_per_dimension(np.zeros(1), 64, 17), np.log2(17))


def test_dequantised_histogram_is_a_bound_of_the_discrete_likelihood():
  """A density constant on each level's cell gives exactly the discrete log-likelihood."""
  rng = np.random.default_rng(2)
  probabilities = rng.dirichlet(np.ones(4))
  levels = rng.integers(0, 4, (50, 3, 3, 1))
  x = np.asarray(dequantise(example_keys(0, jnp.arange(50)), jnp.asarray(levels), 4))
  assert x.dtype == np.float32
  np.testing.assert_array_equal(np.floor(x * 4).astype(int), levels)
  density = np.sum(np.log(4 * probabilities[np.floor(x * 4).astype(int)]), axis=(1, 2, 3))
  expected = -np.sum(np.log2(probabilities[levels]), axis=(1, 2, 3)) / 9
  np.testing.assert_allclose(bits_per_dimension(density, 9, 4), expected, rtol=1e-6)


def test_dequantised_top_level_stays_below_one():
  levels = jnp.full((2000, 4, 4, 1), 255)
  x = jax.jit(dequantise, static_argnums=2)(example_keys(0, jnp.arange(2000)), levels, 256)
  assert float(jnp.max(x)) < 1.0
  assert float(jnp.min(x)) >= 255 / 256
