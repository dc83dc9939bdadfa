"""Logistic regression against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.linear_model
from fit_problems import images, same_structure

from gencls import models

SHAPE, CLASSES = (4, 4, 1), 3


def build(name="logistic_regression", **hyperparameters):
  return models.build(name, image_shape=SHAPE, num_classes=CLASSES, **hyperparameters)


@pytest.mark.parametrize("l2", [1.0, 20.0])
def test_probabilities_are_those_of_scikit_learn(l2):
  data = images(SHAPE, CLASSES, 200)
  classifier = build(l2=l2, tol=1e-6)
  fitted = classifier.fit(jax.random.key(0), data)
  assert same_structure(classifier, fitted, data)
  flat = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
  reference = sklearn.linear_model.LogisticRegression(C=1 / l2, tol=1e-9, max_iter=5000)
  expected = reference.fit(flat, np.asarray(data.y)).predict_proba(flat)
  got = jax.nn.softmax(classifier.logits(fitted.params, None, data.x))
  np.testing.assert_allclose(got, expected, atol=1e-4)
  penalty = 0.5 * l2 * np.sum(np.square(reference.coef_)) / len(flat)
  best = penalty - np.mean(np.log(expected[np.arange(len(flat)), data.y]))
  assert fitted.metrics["objective_nats"] == pytest.approx(best, rel=1e-5)
  assert fitted.metrics["largest_derivative"] <= 1e-6


def test_the_penalty_is_chosen_on_validation():
  """Of several the one of most right, each at its own minimum though they start at each other's."""
  data = images(SHAPE, CLASSES, 60)
  penalties = (1e-3, 1.0, 300.0)
  fitted = build(l2=penalties, tol=1e-5).fit(jax.random.key(0), data)
  right = {}
  for l2 in penalties:
    alone = build(l2=l2, tol=1e-5).fit(jax.random.key(0), data)
    logits = build().logits(alone.params, None, data.validation_x)
    right[l2] = float(np.mean(np.argmax(logits, axis=1) == data.validation_y))
    assert fitted.metrics[f"validation_accuracy/l2={l2:g}"] == pytest.approx(right[l2])
    if l2 == fitted.metrics["l2"]:
      np.testing.assert_allclose(fitted.params["weights"], alone.params["weights"], atol=2e-2)
  assert len(set(right.values())) > 1  # there is something to choose
  assert right[fitted.metrics["l2"]] == max(right.values())
  empty = data._replace(validation_x=data.x[:0], validation_y=data.y[:0])
  with pytest.raises(ValueError, match=r"a choice between l2=300, l2=1, l2=0\.001 needs"):
    build(l2=penalties).fit(jax.random.key(0), empty)


def test_behind_a_threshold_it_is_scikit_learns_of_bits():
  data = images(SHAPE, CLASSES, 200)
  classifier = build("logistic_regression_binary", l2=1.0, tol=1e-6, at=0.3)
  fitted = classifier.fit(jax.random.key(0), data)
  bits = np.float64(np.asarray(data.x) >= np.float32(0.3)).reshape(len(data.x), -1)
  reference = sklearn.linear_model.LogisticRegression(C=1.0, tol=1e-9, max_iter=5000)
  expected = reference.fit(bits, np.asarray(data.y)).predict_proba(bits)
  got = jax.nn.softmax(classifier.logits(fitted.params, None, data.x))
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_gradient_descent_may_start_as_in_pytorch():
  x, y = jnp.zeros((2, *SHAPE)), jnp.zeros(2, jnp.int32)
  zero = build().init(jax.random.key(0), x, y)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(zero))
  start = build(init_scale=1.0).init(jax.random.key(0), x, y)
  assert jax.tree.structure(start) == jax.tree.structure(zero)
  most = 1 / np.sqrt(16)
  assert 0.9 * most < np.abs(start["weights"]).max() <= most
  # 48 draws of variance most² / 3, four standard errors of their mean square.
  wanted = most**2 / 3
  assert np.mean(start["weights"] ** 2) == pytest.approx(wanted, abs=4 * 0.9 * wanted / np.sqrt(48))
  assert 0 < np.abs(start["bias"]).max() <= most
  with pytest.raises(ValueError, match="init_scale must be >= 0"):
    build(init_scale=-1.0)


@pytest.mark.parametrize("l2", [1.0, 20.0])
def test_log_densities_are_those_of_scikit_learn_with_its_parameters(l2):
  data = images(SHAPE, CLASSES, 200)
  flat = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
  reference = sklearn.linear_model.LogisticRegression(C=1 / l2).fit(flat, np.asarray(data.y))
  params = {
    "weights": jnp.asarray(reference.coef_.T, jnp.float32),
    "bias": jnp.asarray(reference.intercept_, jnp.float32),
  }
  got = jax.nn.log_softmax(build(l2=l2).logits(params, None, data.x))
  np.testing.assert_allclose(got, reference.predict_log_proba(flat), rtol=1e-4)


def test_the_fit_ends_where_it_is_told_to(caplog):
  data = images(SHAPE, CLASSES, 60)
  coarse = build(tol=1e-2).fit(jax.random.key(0), data).metrics
  fine = build(tol=1e-4).fit(jax.random.key(0), data).metrics
  assert coarse["largest_derivative"] <= 1e-2 and fine["largest_derivative"] <= 1e-4
  assert coarse["iterations"] < fine["iterations"]
  assert coarse["converged"] == fine["converged"] == 1.0 and not caplog.text
  short = build(tol=0.0, max_iterations=3).fit(jax.random.key(0), data).metrics
  assert short["iterations"] == 3 and short["converged"] == 0.0
  assert "L-BFGS ended at max_iterations=3" in caplog.text


def test_bad_values():
  data = images(SHAPE, CLASSES, 30)
  for message, changes in (
    ("l2 must be >= 0", {"l2": -1.0}),
    ("l2 must be >= 0", {"l2": (1.0, -1.0)}),
    ("l2 must be >= 0", {"l2": ()}),
    ("tol must be >= 0", {"tol": -1.0}),
    ("max_iterations must be >= 1", {"max_iterations": 0}),
  ):
    with pytest.raises(ValueError, match=message):
      build(**changes)
  with pytest.raises(ValueError, match=r"none of \[2\]"):
    build().fit(jax.random.key(0), data._replace(y=data.y % 2))
