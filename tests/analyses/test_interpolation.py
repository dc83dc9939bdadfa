"""Paths between images of two classes, against the Gaussian whose densities are known."""

import numpy as np
import pytest
import toy_analyses
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from toy_analyses import CAPTION, DEFAULTS, PRIOR, gaussian
from toy_evaluation import CLASSES, toy_subject

from gencls.analyses import interpolation, paths
from gencls.analyses.inputs import floats
from gencls.evaluation.results import Cell


@pytest.fixture(scope="module")
def walked(inputs):
  return interpolation.analyse(inputs, DEFAULTS["interpolation"])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 5))
def test_pairs_are_eligible_and_of_two_classes(seed, n, classes):
  rng = np.random.default_rng(seed)
  labels, eligible = rng.integers(0, classes, n), rng.random(n) < 0.8
  if len(np.unique(labels[eligible])) < 2:
    with pytest.raises(ValueError, match="at least two classes"):
      paths.draw_pairs(labels, eligible, 10, 0)
    return
  pairs = paths.draw_pairs(labels, eligible, 200, seed)
  assert np.all(eligible[pairs]) and np.all(labels[pairs[:, 0]] != labels[pairs[:, 1]])
  assert len(np.unique(pairs)) == 2 * len(pairs)  # independent: no image is in two of them
  left = np.setdiff1d(np.flatnonzero(eligible), pairs)
  assert len(np.unique(labels[left])) <= 1  # as many as the images last for
  np.testing.assert_array_equal(paths.draw_pairs(labels, eligible, 1, seed), pairs[:1])


def test_pairs_are_uniform():
  labels, draws = np.array([0, 1, 0, 2, 1, 0]), 12_000
  counts = np.zeros((6, 6))
  for seed in range(draws):
    counts[tuple(paths.draw_pairs(labels, np.ones(6, bool), 1, seed)[0])] += 1
  others = np.sum(labels[:, None] != labels[None], axis=1)
  expected = np.where(labels[:, None] != labels[None], draws / 6 / others[:, None], 0)
  allowed = expected > 0
  assert np.all(counts[~allowed] == 0)
  chi = np.sum((counts[allowed] - expected[allowed]) ** 2 / expected[allowed])
  assert chi < stats.chi2.ppf(0.9999, np.sum(allowed) - 1)


def test_paths_start_and_end_at_the_images(inputs, walked):
  arrays, _ = walked
  first, second = (floats(inputs.examined.dataset, arrays["pair"][:, end]) for end in (0, 1))
  for alpha, image in ((0, first), (1, second)):
    found = paths.between(first, second, np.full(len(first), alpha))
    np.testing.assert_array_equal(found, image)
  for end, step in ((0, 0), (1, -1)):
    own = inputs.logits[arrays["pair"][:, end]]
    np.testing.assert_allclose(arrays["logits"][:, step], own, rtol=1e-5, atol=1e-4)
  assert np.all(arrays["accepted"][:, [0, -1]])
  assert np.all(np.argmax(arrays["logits"][:, 0], 1) == arrays["label"][:, 0])


def test_the_likelihoods_along_a_path_are_the_gaussians(inputs, walked):
  arrays, numbers = walked
  values = paths.profile(arrays["logits"], arrays["label"], PRIOR)
  dataset, rows = inputs.examined.dataset, np.arange(12)
  for step, alpha in enumerate(np.linspace(0, 1, 5)):
    ends = (floats(dataset, arrays["pair"][:, end]).astype(np.float64) for end in (0, 1))
    first, second = ends
    density = gaussian((1 - alpha) * first + alpha * second)
    for name, end in (("first", 0), ("second", 1)):
      own = density[rows, arrays["label"][:, end]]
      np.testing.assert_allclose(values[f"log_lik_{name}"][:, step], own, atol=1e-3)
      posterior = np.exp(own - special.logsumexp(density, axis=1))
      np.testing.assert_allclose(values[f"posterior_{name}"][:, step], posterior, atol=1e-4)
    marginal = special.logsumexp(density - np.log(CLASSES), axis=1)
    np.testing.assert_allclose(values["log_marginal"][:, step], marginal, atol=1e-3)
  density = values["log_marginal"]
  drop = np.mean(density[:, 2] - (density[:, 0] + density[:, 4]) / 2)
  assert numbers["middle_minus_ends_nats"]["mean"] == pytest.approx(drop)
  assert drop > 0  # the mean of two draws is nearer to both means: a Gaussian is fooled


def test_pairs_count_only_if_both_ends_hold_under_the_key_of_the_path():
  noisy = toy_analyses.inputs(subject=toy_subject(noise=12.0))
  arrays, numbers = interpolation.analyse(noisy, {"num_pairs": 60, "num_steps": 3})
  assert 0 < numbers["num_pairs"] < numbers["num_drawn"] <= 15
  assert np.all(arrays["accepted"][:, [0, -1]])
  assert np.array_equal(np.argmax(arrays["logits"][:, [0, -1]], axis=2), arrays["label"])
  own = noisy.logits[arrays["pair"][:, 1]]
  assert not np.allclose(arrays["logits"][:, -1], own)  # another key


def test_a_model_that_knows_one_class_has_no_paths():
  inputs = toy_analyses.inputs()
  blind = inputs._replace(logits=inputs.logits * 0 + np.array([1.0, 0, 0], np.float32))
  arrays, numbers = interpolation.analyse(blind, DEFAULTS["interpolation"])
  assert arrays == {} and "one class" in numbers["reason"]
  made = Cell({"numbers": numbers}, arrays)
  assert interpolation.figures(made, CAPTION) == {} and "one class" in interpolation.markdown(made)


def test_shares_of_paths_by_hand():
  labels = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
  predicted = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 1, 1], [0, 0, 0, 1]])
  logits = np.eye(3)[predicted]
  accepted = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1]], bool)
  found = interpolation.summarise(logits, labels, accepted)
  means = {name: each["mean"] for name, each in found.items()}
  expected = {"third_class": 0.25, "never_rejected": 0.25, "flip_accepted": 0.75}
  assert means == {**expected, "middle_accepted": 0.75}
  assert set(interpolation.summarise(logits, labels, None)) == {"third_class"}
