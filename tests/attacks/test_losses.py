import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gencls.attacks.losses import LOSSES, cross_entropy, dlr, margin, misclassified
from gencls.types import Goal


def _goal(label, target=None):
  label = jnp.asarray(label, jnp.int32)
  return Goal(label, jnp.full_like(label, -1) if target is None else jnp.asarray(target, "int32"))


def _logits(num=6, classes=5, seed=0, scale=5.0):
  return np.random.default_rng(seed).normal(size=(num, classes)).astype("f4") * np.float32(scale)


def test_losses_agree_with_numpy_in_a_batch_of_both_kinds():
  z = _logits()
  label, target = np.array([0, 1, 2, 3, 4, 0]), np.array([-1, 3, -1, 4, -1, 2])
  expected = {name: [] for name in LOSSES}
  for row, y, t in zip(z.astype(np.float64), label, target, strict=True):
    own, others = (y, np.delete(row, y)) if t < 0 else (t, np.delete(row, t))
    sign = 1 if t < 0 else -1
    top = np.sort(row)[::-1]
    expected["cross_entropy"].append(-sign * special.log_softmax(row)[own])
    expected["margin"].append(sign * (others.max() - row[own]))
    p = special.softmax(row)
    own_p, others_p = (p[y], np.delete(p, y)) if t < 0 else (p[t], np.delete(p, t))
    expected["margin_of_probabilities"].append(sign * (others_p.max() - own_p))
    twice = -sign * special.log_softmax(p)[own]
    expected["cross_entropy_of_probabilities"].append(twice)
    expected["dlr"].append(
      -(row[y] - others.max()) / (top[0] - top[2])
      if t < 0
      else -(row[y] - row[t]) / (top[0] - (top[2] + top[3]) / 2)
    )
  for name, loss in LOSSES.items():
    np.testing.assert_allclose(loss(z, _goal(label, target)), expected[name], rtol=1e-5, atol=1e-6)


def test_a_soft_max_on_top_of_a_soft_max_hides_the_gradient():
  """The published mistake: at the gaps of generative classifiers nothing is left of it."""
  z = jnp.asarray([[200.0, 0.0, -50.0], [0.0, 200.0, -50.0]])
  slope = lambda name: jax.grad(lambda z: LOSSES[name](z, _goal([0, 0])).sum())(z)  # noqa: E731
  assert jnp.all(jnp.any(slope("margin") != 0, axis=1))
  for name in ("margin_of_probabilities", "cross_entropy_of_probabilities"):
    assert jnp.all(slope(name) == 0)
  loss = LOSSES["cross_entropy_of_probabilities"](z, _goal([0, 0]))
  np.testing.assert_allclose(loss, [np.log(1 + 2 / np.e), np.log(2 + np.e)], rtol=1e-6)


@pytest.mark.parametrize("gap", [50.0, 70.0])
def test_cross_entropy_keeps_the_gradient_of_the_true_class(gap):
  """At gaps of 17 to 88 nats log_softmax has a rival's gradient and none of the true class."""
  z = jnp.asarray([[gap, 0.0, -3.0]])

  def plain(z):
    return -jnp.sum(jax.nn.log_softmax(z)[:, 0])

  ours = np.asarray(jax.grad(lambda z: jnp.sum(cross_entropy(z, _goal([0]))))(z))[0]
  assert np.asarray(jax.grad(plain)(z))[0, 0] == 0 and np.asarray(jax.grad(plain)(z))[0, 1] > 0
  exact = special.softmax(np.asarray(z, np.float64)[0])
  np.testing.assert_allclose(ours, [-(exact[1] + exact[2]), exact[1], exact[2]], rtol=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_finite_at_extreme_logits(name):
  z = jnp.asarray([[100.0, -100.0, 0.0, 3.0], [-100.0, 100.0, 0.0, 3.0], [1e3, 2e3, -1e4, 0.0]])
  goal = _goal([0, 0, 1], [-1, 2, -1])
  gradient = jax.grad(lambda z: jnp.sum(LOSSES[name](z, goal)))(z)
  assert np.all(np.isfinite(gradient))


def test_dlr_and_margin_are_free_of_scale_as_stated():
  z, goal = _logits(), _goal([0, 1, 2, 3, 4, 0])
  np.testing.assert_allclose(dlr(1000 * z, goal), dlr(z, goal), rtol=1e-5)
  np.testing.assert_allclose(margin(1000 * z, goal), 1000 * margin(z, goal), rtol=1e-5)


def test_success_is_a_positive_margin():
  z, label, target = _logits(), np.array([0, 1, 2, 3, 4, 0]), np.array([-1, 3, -1, 4, -1, 2])
  goal = _goal(label, target)
  np.testing.assert_array_equal(misclassified(z, goal), np.asarray(margin(z, goal)) > 0)


def test_rows_without_a_prediction_are_no_success():
  bad = jnp.asarray([[jnp.nan, 1.0, 0.0], [0.0, jnp.inf, 0.0], [-jnp.inf, -jnp.inf, -jnp.inf]])
  assert not np.any(misclassified(bad, _goal([2, 2, 2])))
  assert not np.any(misclassified(bad, _goal([2, 2, 2], [0, 1, 0])))
  assert np.isnan(margin(bad, _goal([2, 2, 2])))[0]


def test_a_tie_goes_to_the_first_class_as_in_grading():
  tie = jnp.asarray([[1.0, 1.0, 0.0]] * 2)
  np.testing.assert_array_equal(misclassified(tie, _goal([0, 1])), [False, True])


@pytest.mark.parametrize(("name", "classes"), [("margin", 1), ("cross_entropy", 1), ("dlr", 2)])
def test_too_few_classes_are_refused(name, classes):
  with pytest.raises(ValueError, match=f"{name} needs logits"):
    LOSSES[name](jnp.zeros((2, classes)), _goal([0, 0]))
