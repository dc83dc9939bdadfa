"""Signs of masked gradients, each against arrays that show them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gencls import data, keys, models
from gencls.attacks.losses import LOSSES
from gencls.evaluation import masking
from gencls.evaluation.gradient_cell import probe, probe_flips
from gencls.types import FitData


def test_a_gradient_that_does_not_predict_the_loss_is_found():
  def check(ratio, size=1.0):
    predicted = np.full(20, 0.1)
    return masking.gradient_fits(
      {"gradient_norm": np.full(20, size), "predicted": predicted, "measured": ratio * predicted}
    )

  good = np.ones(20)
  assert check(good).status == "pass" and check(1.9 * good).status == "pass"
  assert check(2.1 * good).status == "fail" and check(-good).status == "fail"
  few, many = np.ones(20), np.ones(20)
  few[:2], many[:3] = 0.0, 0.0
  assert check(few).status == "pass" and check(many).status == "fail"
  assert check(good, np.nan).status == "fail"
  assert check(good, np.nan).detail.endswith("20 images: zero for 0, not finite for 20")
  assert masking.gradient_fits(None).detail == "set config.probe_gradient=True"
  assert masking.gradient_fits(None, planned=True).detail == "not finished yet"


def test_a_gradient_that_few_images_can_be_judged_by_does_not_pass():
  def check(size, measured, predicted=1.0):
    n = len(size)
    values = {"gradient_norm": size, "predicted": np.full(n, predicted), "measured": measured}
    return masking.gradient_fits(values)

  one = np.ones(20)
  mostly_zero, half_zero, lost, undefined = one.copy(), one.copy(), one.copy(), one.copy()
  mostly_zero[1:], half_zero[10:], lost[9:], undefined[:3] = 0.0, 0.0, np.nan, np.nan
  found = check(mostly_zero, one)
  assert found.status == "fail"
  assert found.detail.startswith("the gradient is zero for 19 of 20 images; ")
  assert check(half_zero, one).status == "pass"
  assert "at 10 usable images" in check(half_zero, one).detail
  found = check(lost, one)
  assert found.status == "fail"
  assert found.detail.startswith("only 9 of 20 images with a gradient can be judged; ")
  assert check(one, undefined).status == "fail"
  assert "15% beyond a factor of 2 or not finite" in check(one, undefined).detail
  assert "median none, 100%" in check(one, np.nan * one).detail


def test_a_gradient_that_lacks_what_is_orthogonal_to_it_is_found():
  """Of a linear loss of 784 pixels: the share of the gradient that is missing, and nothing else."""
  rng = np.random.default_rng(0)
  signs = rng.choice([-1.0, 1.0], (50, 8, 784))

  def check(missing, off=50, unseen=(0.0, 0)):
    """`missing` of the length of what is there, orthogonal to it; `unseen`: a value, how often."""
    true = np.tile(rng.normal(size=784), (50, 1))
    lost = np.roll(true.reshape(50, 392, 2) * [1, -1], 1, axis=2).reshape(50, 784) * missing
    lost[off:] = 0.0
    aside = [np.einsum("nrd,nd->nr", signs, g) for g in (true, true + lost)]
    aside[1][:, : unseen[1]] = unseen[0]
    along = np.sum(true**2, axis=1)
    return masking.gradient_fits(
      {"gradient_norm": np.sqrt(along), "predicted": along,
       "measured": np.sum(true * (true + lost), axis=1),
       "predicted_aside": aside[0], "measured_aside": aside[1]}
    )  # fmt: skip

  for found in (check(0.0), check(0.2), check(3.0, off=5)):
    assert found.status == "pass" and "median 1.00, 0% beyond" in found.detail, found
  for found in (check(3.0), check(3.0, off=6)):
    assert found.status == "fail" and "median 1.00, 0% beyond" in found.detail, found
  for value in (np.inf, -np.inf, np.nan):
    assert check(0.0, unseen=(value, 1)).status == check(0.0, unseen=(value, 8)).status == "fail"
  assert "12% off by more than half of the change at random" in check(3.0, off=6).detail


@pytest.mark.parametrize("level", [0.0, 4000.0])
@pytest.mark.parametrize(
  ("part", "status"), [("whole", "pass"), ("detached", "fail"), ("quantised", "fail")]
)
def test_a_loss_that_bends_within_the_step_lacks_nothing(part, status, level):
  """Ripples shorter than it, and thousands of nats; three times as much is lost, or rounded."""

  def logits(params, keys, x):
    wave = params[0] * jnp.sin(500.0 * x) / 500.0
    hidden = {
      "whole": 0.0 * x,
      "detached": jax.lax.stop_gradient(x),
      "quantised": jnp.round(255.0 * x) / 255.0,  # no short step changes it
    }[part]
    total = jnp.sum(wave + 3.0 * params[1] * hidden, axis=(1, 2, 3))
    return level + jnp.stack([jnp.zeros_like(total), total], axis=1)

  weights = jax.random.normal(jax.random.key(1), (2, 1, 16, 16, 1))
  x = jax.random.uniform(jax.random.key(0), (20, 16, 16, 1), minval=0.1, maxval=0.9)
  each = keys.example_keys(0, np.arange(20))
  found = probe(Partial(logits, weights), each, x, jnp.zeros(20, jnp.int32))
  check = masking.gradient_fits(found)
  assert check.status == status, check
  assert "(100% by the gradient at the image alone)" in check.detail


@pytest.mark.parametrize("detached", [False, True])
def test_a_detached_likelihood_of_a_latent_model_is_found(detached):
  """At random parameters: the published CNN-VAE, whose likelihood passes no gradient to x."""
  model = models.build(
    "gfz", image_shape=(8, 8, 1), num_classes=3, latent_size=4, hidden_size=16, channels=(4,),
    num_samples=2, detached_target=detached,
  )  # fmt: skip
  x = jax.random.uniform(jax.random.key(0), (20, 8, 8, 1))
  y = jnp.arange(20) % 3
  params = model.init(jax.random.key(1), x, y)
  each = keys.example_keys(0, np.arange(20))
  found = probe(Partial(model.logits, params), each, x, y)
  assert masking.gradient_fits(found).status == ("fail" if detached else "pass"), found


@pytest.mark.parametrize(
  ("name", "options", "status"),
  [
    ("gaussian_naive_bayes", {"binarized": True, "variance_floor": 1e-3}, "pass"),
    (
      "gaussian_naive_bayes",
      {"binarized": True, "variance_floor": 1e-3, "backward": "straight_through"},
      "fail",
    ),
    ("bernoulli_naive_bayes", {}, "pass"),
    ("ising", {"backward": "flip"}, "pass"),
    ("ising", {"backward": "straight_through"}, "fail"),
  ],
)
def test_of_thresholded_models_the_gradient_has_to_foresee_flips(name, options, status):
  """Fitted to digits: a density's derivative at a bit ranks flips wrong, their slope does not."""
  train, validation = (data.load("digits", split=split) for split in ("train", "validation"))
  (x, y), (vx, vy) = (
    (data.to_float(s.images, s.num_levels), jnp.asarray(s.labels)) for s in (train, validation)
  )
  model = models.build(name, image_shape=(8, 8, 1), num_classes=10, **options)
  params = model.fit(jax.random.key(0), FitData(x, y, vx, vy)).params
  each = keys.example_keys(0, np.arange(100))
  found = probe_flips(Partial(model.logits, params), each, vx[:100], vy[:100], jnp.float32(0.5))
  assert masking.gradient_fits(found).status == status, found


def test_the_histogram_of_gradient_norms_is_told():
  size = np.concatenate([[0.0, np.inf], np.linspace(1, 101, 101)])
  one = np.ones(103)
  detail = masking.gradient_fits({"gradient_norm": size, "predicted": one, "measured": one}).detail
  low, high = np.quantile(np.delete(size, 1), (0.05, 0.95))
  assert "norm zero for 1 of 103, not finite for 1, " in detail
  assert f"5% quantile {low:.3g}, median 50.5, 95% {high:.3g}" in detail


def test_probabilities_are_found():
  z = np.random.default_rng(0).standard_normal((5, 4)) * 3
  p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
  assert masking.not_probabilities(z).status == "pass"
  assert masking.not_probabilities(p).status == "fail"
  assert masking.not_probabilities(np.log(p)).status == "fail"
  assert masking.not_probabilities(np.log(p) + np.log(0.1)).status == "fail"  # p(y | x) p(y)
  assert masking.not_probabilities(np.log(p)[:1] - 3.0).status == "pass"  # one row shows nothing


def test_probabilities_are_found_among_odd_rows():
  z = np.random.default_rng(0).standard_normal((200, 10)) * 30
  p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
  for values in (p, np.log(p)):
    broken = values.copy()
    broken[7, 3] = np.nan
    assert masking.not_probabilities(broken).status == "fail"
    broken[8] = 3.0
    assert masking.not_probabilities(broken).status == "fail"
    broken[9:12] = 3.0
    assert masking.not_probabilities(broken).status == "pass"
  zero = np.where(p < 1e-9, -np.inf, np.log(p))
  assert np.any(np.isinf(zero), axis=1).mean() > 0.9
  assert masking.not_probabilities(zero).status == "fail"
  clipped = masking.not_probabilities(np.clip(p, 1e-3, 1 - 1e-3))
  assert (clipped.status, "in [0, 1]" in clipped.detail) == ("fail", True)
  assert masking.not_probabilities(np.full((5, 3), np.nan)).status == "not run"


def test_zero_gradients_of_a_saturated_loss_are_counted():
  logits = np.array([[0.0, -300.0], [0.0, -1.0], [-300.0, 0.0]], np.float32)
  labels = np.zeros(3, np.int32)
  found = {
    name: masking.zero_gradients(LOSSES[name], logits, labels).tolist()
    for name in ("cross_entropy", "margin")
  }
  assert found == {"cross_entropy": [True, False, False], "margin": [False] * 3}


def _plane(toward, across, points=5):
  """[1, P, P] of a margin that is -1 at the image."""
  found = np.full((1, points, points), -1.0)
  found[0, points // 2 + 1 :, points // 2] = toward
  found[0, points // 2, [0, 1, 3, 4]] = across
  return found


def test_a_loss_surface_that_does_not_rise_is_found():
  good = _plane([-0.5, 0.0], [-0.9, -0.9, -1.1, -1.2])
  stuck = _plane([-1.0, 1.0], [-2.0] * 4)
  lower = _plane([-0.9, -0.5], [-0.4, -1.0, -1.0, -1.0])
  lost = _plane([-0.5, np.nan], [-1.0] * 4)
  assert masking.surface_rises(good).status == "pass"
  for bad in (stuck, lower, lost):
    assert masking.surface_rises(np.repeat(bad, 3, axis=0)).status == "fail"
    few = np.concatenate([np.repeat(good, 9, axis=0), bad])
    assert masking.surface_rises(few).status == "pass"
    assert masking.surface_rises(few[1:]).status == "fail"
  detail = masking.surface_rises(np.concatenate([stuck, lower, good])).detail
  assert detail == (
    "1 of 3 images no higher after the first step along it, 1 of 3 higher along a random direction"
  )
  assert masking.surface_rises(None).detail == "set config.surface.num_images"
  assert masking.surface_rises(None, planned=True).detail == "not finished yet"
