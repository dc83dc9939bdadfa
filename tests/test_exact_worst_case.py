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


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
  """A classifier, its parameters, and the first 200 test digits with their labels."""
  splits = [data.load("digits", split=split) for split in ("train", "validation", "test")]
  x, y = zip(
    *[(data.to_float(s.images, s.num_levels), jnp.asarray(s.labels)) for s in splits], strict=True
  )
  classifier = models.build(request.param, image_shape=(8, 8, 1), num_classes=10)
  assert classifier.fit is not None
  fit = classifier.fit(jax.random.key(0), FitData(x[0], y[0], x[1], y[1]))
  return request.param, classifier, fit.params, x[2][:200], np.asarray(y[2][:200])


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


@pytest.mark.parametrize("share", [pytest.param(1 / 3, marks=pytest.mark.slow), 1.0])
def test_no_attack_is_better_and_the_best_are_as_good(fitted, share):
  name, classifier, params, x, y = fitted
  eps = share * (0.06 if name == "gaussian_naive_bayes" else 0.15)
  n = len(x)
  each = keys.example_keys(0, np.arange(n))
  logits = np.asarray(classifier.logits(params, each, x), np.float64)
  margins = largest_margins(name, params, x, y, eps) + logits - logits[np.arange(n), y][:, None]
  margins[np.arange(n), y] = -np.inf
  exact = margins.max(axis=1)
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
