"""The published lattice classifier against loops of NumPy, and its fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_problems import digits, images, same_structure

from gencls.models import linear_mrf
from gencls.models.ising import ising
from gencls.types import FitData

SHAPE, CLASSES = (4, 4, 1), 3


def test_the_published_score_is_linear_and_its_batches_matter():
  rng = np.random.default_rng(0)
  x, num = (rng.random((7, 12)) < 0.5).astype("f4"), 12
  around = linear_mrf.neighbour_indices(3, 4)
  params = {
    "unary": rng.normal(size=(2, num)),
    "pairwise": rng.normal(size=(2, 4 * num)),
    "gamma": 0.4,
  }
  u, v = np.abs(params["unary"]), np.abs(params["pairwise"])
  expected = np.zeros((7, 2))
  for b, y, p in np.ndindex(7, 2, num):
    row, column = divmod(p, 4)
    expected[b, y] += u[y, p] * x[b, p]
    for k, (dr, dc) in enumerate(((0, -1), (0, 1), (-1, 0), (1, 0))):
      inside = 0 <= row + dr < 3 and 0 <= column + dc < 4
      n = (row + dr) * 4 + column + dc if inside else 0
      expected[b, y] += 0.4 * u[y, n] * x[b, n] + v[y, p + k] * x[b, n]
  params = jax.tree.map(jnp.float32, params)
  np.testing.assert_allclose(linear_mrf.linear_scores(params, x, around), expected, rtol=1e-5)
  batch = linear_mrf.batch_normalised_scores(params, x, around)
  np.testing.assert_allclose(batch, expected - np.log(expected.sum(0)), rtol=1e-4, atol=1e-4)
  half = linear_mrf.batch_normalised_scores(params, x[:3], around)
  assert (np.abs(half - batch[:3]) > 0.1).all()
  # Ours has a fixed batch in its parameters, and is the published score on it.
  model = ising(image_shape=(3, 4, 1), num_classes=2, training="linear_batch_normalised")
  images = x.reshape(7, 3, 4, 1)
  own = model.init(jax.random.key(0), images, np.zeros(7, "i4")) | params
  np.testing.assert_allclose(model.logits(own, None, images), batch, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(model.logits(own, None, images[:3]), batch[:3], rtol=1e-4, atol=1e-4)


def test_the_published_training_is_descent_on_the_probability_itself():
  """20 steps of 0.01 from 10 on the mean of −p_y, without a logarithm, by central differences."""
  rng = np.random.default_rng(3)
  y = np.arange(8) % 2
  x = np.float32(rng.random((8, 2, 2, 1)) < np.where(y, 0.8, 0.2)[:, None, None, None])
  model = ising(
    image_shape=(2, 2, 1), num_classes=2, training="linear_batch_normalised", max_iterations=20
  )
  # All of class 1, which the start finds in none: the last step is the best.
  fitted = model.fit(jax.random.key(0), FitData(x, y, x[y == 1], y[y == 1]))
  assert fitted.metrics["step"] == 20
  start = model.init(jax.random.key(0), x, y)
  shapes = {name: np.shape(start[name]) for name in ("unary", "pairwise", "gamma")}
  flat = np.concatenate([np.full(8, 10.0), np.full(32, 10.0), [0.5]])
  bits = x.reshape(8, 4)

  def loss(flat):
    unary, pairwise = flat[:8].reshape(2, 4), flat[8:40].reshape(2, 16)
    score = np.zeros((8, 2))
    for c, p in np.ndindex(2, 4):
      score[:, c] += abs(unary[c, p]) * bits[:, p]
      for k, (dr, dc) in enumerate(((0, -1), (0, 1), (-1, 0), (1, 0))):
        row, column = p // 2 + dr, p % 2 + dc
        n = row * 2 + column if 0 <= row < 2 and 0 <= column < 2 else 0
        score[:, c] += (flat[40] * abs(unary[c, n]) + abs(pairwise[c, p + k])) * bits[:, n]
    logits = score - np.log(score.sum(axis=0))
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.mean(p[np.arange(8), y])

  for _ in range(20):
    slopes = [(loss(flat + d) - loss(flat - d)) / 2e-5 for d in 1e-5 * np.eye(len(flat))]
    flat = flat - 1e-2 * np.array(slopes)
  found = np.concatenate([np.ravel(fitted.params[name]) for name in shapes])
  moved = np.abs(flat - np.concatenate([np.ravel(start[name]) for name in shapes]))
  assert moved.max() > 0.01
  np.testing.assert_allclose(found, flat, atol=0.02 * moved.max())


@pytest.mark.slow
def test_the_published_training_learns_from_600_images():
  (x, y), (vx, vy), (tx, ty) = digits()
  model = ising(
    image_shape=(8, 8, 1), num_classes=10, training="linear_batch_normalised", max_iterations=200
  )
  fitted = model.fit(jax.random.key(0), FitData(x, y, vx, vy))
  assert np.mean(model.logits(fitted.params, None, tx).argmax(1) == ty) > 0.6
  again = model.fit(jax.random.key(0), FitData(x[:600], y[:600], vx, vy))
  np.testing.assert_array_equal(fitted.params["unary"], again.params["unary"])


@pytest.mark.slow
def test_the_published_lattice_fit_needs_validation_and_tells_how_it_went(caplog):
  data = images(SHAPE, CLASSES, 60)
  model = linear_mrf.classifier(SHAPE, CLASSES, at=0.5, num_steps=30)
  fitted = model.fit(jax.random.key(0), data)
  assert same_structure(model, fitted, data) and fitted.metrics["iterations"] == 30
  logits = model.logits(fitted.params, None, data.validation_x)
  right = np.mean(np.argmax(logits, axis=1) == data.validation_y)
  assert fitted.metrics["validation_accuracy"] == pytest.approx(right)
  last = fitted.metrics["step"] == 30
  assert fitted.metrics["converged"] == (not last) and ("max_iterations=30" in caplog.text) == last
  empty = data._replace(validation_x=data.x[:0], validation_y=data.y[:0])
  with pytest.raises(ValueError, match="a choice between 30 steps needs validation images"):
    model.fit(jax.random.key(0), empty)


def test_the_published_lattice_fit_needs_a_bright_pixel():
  data = images(SHAPE, CLASSES, 60)
  model = linear_mrf.classifier(SHAPE, CLASSES, at=0.5, num_steps=1)
  dark = data._replace(x=0.4 * data.x / data.x.max())
  with pytest.raises(ValueError, match=r"bright pixels .* first 60 .* none at at=0.5: lower at"):
    model.fit(jax.random.key(0), dark)


def test_the_fit_says_where_it_looked_for_a_class():
  """Only the first 600 images are used: a class may be missing there alone."""
  data = images(SHAPE, CLASSES, 700)
  late = data._replace(y=jnp.where(jnp.arange(700) < 600, data.y % 2, data.y))
  model = linear_mrf.classifier(SHAPE, CLASSES, at=0.5, num_steps=1)
  with pytest.raises(ValueError, match=r"none of \[2\] among the first 600 training images"):
    model.fit(jax.random.key(0), late)
