import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys, linear, predictions
from jax.tree_util import Partial

from gencls import attacks
from gencls.straight_through import binarize, threshold

BELOW = np.nextafter(np.float32(0.5), np.float32(0))


def test_equality_goes_to_one_and_nan_stays():
  x = jnp.asarray([0.0, BELOW, 0.5, 0.7, 1.0, -3.0, np.inf, np.nan])
  hard = [0, 0, 1, 1, 1, 0, 1, np.nan]
  for value in (threshold(x), jax.jit(threshold)(x)):
    np.testing.assert_array_equal(value, hard)
    assert value.dtype == x.dtype
  np.testing.assert_array_equal(threshold(x[:5], 0.7), [0, 0, 0, 1, 1])
  np.testing.assert_array_equal(threshold(x[:5], jnp.float32(1.0)), [0, 0, 0, 0, 1])


def test_the_derivative_is_the_identity_at_the_thresholded_image():
  x = jnp.asarray([0.2, 0.5, 0.9])
  weight = jnp.asarray([3.0, -2.0, 0.5])

  def loss(x):
    return jnp.sum(weight * (1 + threshold(x)) ** 2)

  hard = np.asarray([0.0, 1.0, 1.0])
  for gradient in (jax.grad(loss)(x), jax.jit(jax.grad(loss))(x)):
    np.testing.assert_allclose(gradient, 2 * weight * (1 + hard), rtol=1e-6)
  primal, tangent = jax.jvp(threshold, (x,), (weight,))
  np.testing.assert_array_equal(primal, hard)
  np.testing.assert_array_equal(tangent, weight)
  # Without the estimator there is nothing to follow.
  assert not jax.grad(lambda x: jnp.sum(weight * jnp.where(x >= 0.5, 1.0, 0.0)))(x).any()


def test_binarize_sees_only_the_sides_of_the_threshold():
  x = images(8, low=0.0, high=1.0).at[0].set(0.5)
  model = binarize(linear())
  expected = linear()(keys(8), (x >= 0.5).astype("f4"))
  np.testing.assert_array_equal(model(keys(8), x), expected)
  np.testing.assert_array_equal(jax.jit(lambda m, x: m(keys(8), x))(model, x), expected)
  np.testing.assert_array_equal(
    binarize(linear(), 0.8)(keys(8), x), linear()(keys(8), (x >= 0.8).astype("f4"))
  )
  # Parameters and threshold are leaves: others do not compile again.
  assert isinstance(model, Partial) and len(jax.tree.leaves(model)) == 3


def test_gradient_attacks_see_through_it():
  x = images(32)
  y = predictions(binarize(linear()), x)

  def plain(keys, x):
    return linear()(keys, jnp.where(x >= 0.5, 1.0, 0.0))

  def run(logits_fn):
    attack = attacks.build("fgsm", logits_fn, eps=0.2)
    return attacks.run(attack, keys(32), x, y, compact=False).info

  seen, masked = run(binarize(linear())), run(plain)
  assert not np.asarray(seen.zero_gradient).any()
  np.testing.assert_array_equal(masked.zero_gradient, masked.num_steps)
  assert np.asarray(seen.success).mean() > np.asarray(masked.success).mean() + 0.1


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: threshold(jnp.zeros(3, jnp.uint8)), "floating-point x, got uint8"),
    (lambda: threshold(jnp.zeros(3), jnp.zeros(3)), "at must be one number"),
    (lambda: binarize(linear(), 0.0), r"at must be in \(0, 1\]"),
    (lambda: binarize(linear(), float("nan")), r"at must be in \(0, 1\]"),
  ],
)
def test_wrong_arguments_are_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
