"""Attacks beside the exact worst case of models whose scores are sums over pixels.

Within ‖x′ − x‖_∞ <= eps and the box every pixel has an interval of its own, so that the largest
log p(x′, c) − log p(x′, y) is the sum of each pixel's largest: at an end of its interval, or at the
vertex of a parabola between them. A gradient sees the nearer end of one that opens upwards:
restarts and Square find the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gencls import attacks, data, keys, models
from gencls.types import FitData

MODELS = ("logistic_regression", "gaussian_naive_bayes", "bernoulli_naive_bayes")
OF_BITS = {
  "bernoulli_naive_bayes": {},
  "gaussian_naive_bayes": {"binarized": True, "variance_floor": 1e-3},
}


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
  return fitted_to_digits(request.param)


def fitted_to_digits(name, **settings):
  """A classifier, its parameters, and the first 200 test digits with their labels."""
  splits = [data.load("digits", split=split) for split in ("train", "validation", "test")]
  x, y = zip(
    *[(data.to_float(s.images, s.num_levels), jnp.asarray(s.labels)) for s in splits], strict=True
  )
  classifier = models.build(name, image_shape=(8, 8, 1), num_classes=10, **settings)
  assert classifier.fit is not None
  fit = classifier.fit(jax.random.key(0), FitData(x[0], y[0], x[1], y[1]))
  return name, classifier, fit.params, x[2][:200], np.asarray(y[2][:200])


def pixel_scores(name, params, v):
  """What a pixel of value v [V, N, D] adds to the score of every class, [V, N, C, D]."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  if name == "logistic_regression":
    return v[:, :, None] * params["weights"].T
  if name == "gaussian_naive_bayes":
    z = (v[:, :, None] - params["mean"]) / np.exp(params["log_scale"])
    return -0.5 * z**2 - params["log_scale"]
  on = v[:, :, None] >= 0.5
  logit = params["logits"]
  return np.where(on, -np.logaddexp(0, -logit), -np.logaddexp(0, logit))


def largest_margins(name, params, x, y, eps):
  """max over the ball of max_{c ≠ y} score_c − score_y, [N], from the scores at x."""
  flat = np.asarray(x, np.float64).reshape(len(x), -1)
  low, high = np.clip(flat - eps, 0, 1), np.clip(flat + eps, 0, 1)
  own = np.arange(len(x)), y

  def gains(v):  # over the clean pixel, of every class against the label, [N, C, D]
    scores = pixel_scores(name, params, np.stack([v, flat]))
    gain = scores[0] - scores[1]
    return gain - gain[own][:, None]

  best = np.maximum(gains(low), gains(high))
  if name == "gaussian_naive_bayes":
    mean, precision = (np.asarray(leaf, np.float64) for leaf in (
      params["mean"], jnp.exp(-2 * params["log_scale"])))  # fmt: skip
    for c in range(10):
      curve = precision[c] - precision[y]
      with np.errstate(divide="ignore", invalid="ignore"):
        vertex = (precision[c] * mean[c] - precision[y] * mean[y]) / curve
      inside = np.clip(np.nan_to_num(vertex), low, high)
      best[:, c] = np.maximum(best[:, c], gains(inside)[:, c])
  return best.sum(axis=2)


def exact_margins(name, classifier, params, x, y, eps):
  """max over the ball of max_{c ≠ y} logit_c − logit_y, [N]: positive where it can be broken."""
  own = np.arange(len(x)), y
  logits = np.asarray(classifier.logits(params, None, x), np.float64)
  margins = largest_margins(name, params, x, y, eps) + logits - logits[own][:, None]
  margins[own] = -np.inf
  return margins.max(axis=1)


@pytest.mark.parametrize("num_steps", [4, 13])  # of 64 values: the last of 13 steps has 4 of 5
def test_the_separable_attack_is_exact(fitted, num_steps):
  """It breaks all that can be broken and nothing else, as far as its image's own margin."""
  name, classifier, params, x, y = fitted
  eps = 0.06 if name == "gaussian_naive_bayes" else 0.15
  exact = exact_margins(name, classifier, params, x, y, eps)
  attack = attacks.build(
    "separable", Partial(classifier.logits, params), eps=eps, num_steps=num_steps
  )
  result = attacks.run(attack, keys.example_keys(0, np.arange(len(x))), x, y)
  np.testing.assert_array_less(np.abs(result.x - x), eps * (1 + 1e-6))
  logits = np.asarray(classifier.logits(params, None, result.x), np.float64)
  broken = np.argmax(logits, axis=1) != y
  assert 0.1 < np.mean(broken) < 0.99
  np.testing.assert_array_equal(broken, np.where(np.abs(exact) < 1e-3, broken, exact > 0))
  reached = np.max(np.where(np.eye(10)[y] > 0, -np.inf, logits), axis=1) - logits[range(len(x)), y]
  stands = ~broken  # of a success the first class will do, of these the nearest is wanted
  np.testing.assert_allclose(reached[stands], exact[stands], rtol=1e-4, atol=1e-3)
  images = max(3 * -(-64 // num_steps), 10)  # of a step; the last has one for each class
  np.testing.assert_array_equal(result.info.forward, 1 + (num_steps + 1) * images)


@pytest.mark.parametrize("share", [pytest.param(1 / 3, marks=pytest.mark.slow), 1.0])
def test_no_attack_is_better_and_the_best_are_as_good(fitted, share):
  name, classifier, params, x, y = fitted
  eps = share * (0.06 if name == "gaussian_naive_bayes" else 0.15)
  n = len(x)
  each = keys.example_keys(0, np.arange(n))
  exact = exact_margins(name, classifier, params, x, y, eps)
  logits_fn = Partial(classifier.logits, params)
  found, breakable = np.zeros(n, bool), exact > 1e-3
  for attack, options in {
    "pgd": {"num_steps": 40, "loss": "margin"},
    "apgd": {"num_steps": 50, "num_targets": 9, "num_restarts": 3, "loss": "margin"},
    "square": {"num_steps": 1000},
  }.items():
    built = attacks.build(attack, logits_fn, norm="linf", eps=eps, **options)
    adv = attacks.run(built, each, x, y).x
    broken = np.argmax(classifier.logits(params, each, adv), axis=1) != y
    assert np.mean(broken[breakable]) > 0.8, attack  # each by itself
    found |= broken
  assert 0.1 < np.mean(exact > 0) < 0.99
  assert not np.any(found & (exact < -1e-3))  # nobody breaks what cannot be broken
  assert np.all(found[breakable])  # and all that can be broken is


def largest_within(costs, gains, budget):
  """The exact 0/1 knapsack, [N]: the largest sum of gains [N, D] of integer costs <= budget."""
  best = np.zeros((len(gains), budget + 1))
  for d in range(gains.shape[1]):
    cost, gain = costs[:, d], np.maximum(gains[:, d], 0.0)
    place = np.arange(budget + 1)[None] - cost[:, None]
    taken = np.take_along_axis(best, np.maximum(place, 0), axis=1) + gain[:, None]
    best = np.where(place >= 0, np.maximum(best, taken), best)
  return best[:, -1]


def test_the_knapsack_against_every_subset():
  rng = np.random.default_rng(0)
  costs, gains = rng.integers(1, 9, size=(5, 8)), rng.normal(size=(5, 8))
  subsets = (np.arange(2**8)[:, None] >> np.arange(8)) & 1
  every = np.where(subsets @ costs.T <= 12, subsets @ gains.T, -np.inf).max(axis=0)
  np.testing.assert_allclose(largest_within(costs, gains, 12), every)


@pytest.fixture(scope="module", params=OF_BITS)
def fitted_of_bits(request):
  return fitted_to_digits(request.param, **OF_BITS[request.param])


@pytest.mark.parametrize("eps", [0.25, 0.375])
def test_flips_find_the_exact_l2_worst_case_of_naive_bayes_of_bits(fitted_of_bits, eps):
  """A flip of level k of 16 costs (k − 8)² / 256: the optimum is a knapsack of integers."""
  name, classifier, params, x, y = fitted_of_bits
  n = len(x)
  own = np.arange(n), y
  levels = np.rint(np.asarray(x).reshape(n, -1) * 16).astype(int)
  on = levels >= 8
  bright, dark = pixel_scores(name, params, np.stack([np.ones((1, 64)), np.zeros((1, 64))]))[:, 0]
  weights = bright - dark
  each = keys.example_keys(0, np.arange(n))
  logits = np.asarray(classifier.logits(params, each, x), np.float64)
  exact = np.full(n, -np.inf)
  for rival in range(10):
    gains = np.where(on, -1, 1) * (weights[rival] - weights[y])
    gap = logits[:, rival] - logits[own]
    # On to off goes just past one half, by less than the float32 that the budget leaves out.
    total = gap + largest_within((levels - 8) ** 2, gains, int(256 * eps**2) - 1)
    exact = np.where(rival == y, exact, np.maximum(exact, total))
  breakable = exact > 1e-3
  assert 0.2 < np.mean(breakable) < 0.95, np.mean(breakable)
  logits_fn = Partial(classifier.logits, params)

  def broken_by(attack, **options):
    built = attacks.build(attack, logits_fn, norm="l2", eps=eps, **options)
    adv = attacks.run(built, each, x, y).x
    change = np.sum((np.asarray(adv, np.float64) - np.asarray(x)) ** 2, axis=(1, 2, 3))
    assert np.all(change <= eps**2 * (1 + 1e-5))
    return np.argmax(classifier.logits(params, each, adv), axis=1) != y

  found = broken_by("pixel_flips", flips_per_step=8, num_targets=9)
  assert not np.any(found & (exact < -1e-3))
  assert np.mean(found[breakable]) > 0.98  # greedy is the optimum but for the last flips that fit
  # The usual attacks cannot be trusted here: most of what they spend changes nothing.
  usual = broken_by("pgd", num_steps=40) | broken_by("square", num_steps=1000)
  assert np.mean(usual[breakable]) < 0.8
