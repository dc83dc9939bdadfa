"""Log-densities against SciPy, with every constant; predictions from logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gencls import classify, densities

RNG = np.random.default_rng(0)
X, MEAN, LOG_SCALE = RNG.uniform(size=(3, 4, 7)), RNG.normal(size=(3, 4, 7)), RNG.normal(size=7)


def f32(a):
  return jnp.asarray(a, jnp.float32)


def test_normal():
  expected = scipy.stats.norm(MEAN, np.exp(LOG_SCALE)).logpdf(X).sum(-1)
  got = densities.normal(f32(X), f32(MEAN), f32(LOG_SCALE).reshape(1, 1, 7))
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  np.testing.assert_allclose(
    densities.standard_normal(f32(X)), scipy.stats.norm.logpdf(X).sum(-1), rtol=1e-5
  )


def test_squared_error_is_a_normal_of_variance_one_half():
  expected = scipy.stats.norm(MEAN, np.sqrt(0.5)).logpdf(X).sum(-1)
  np.testing.assert_allclose(densities.squared_error(f32(X), f32(MEAN)), expected, rtol=1e-5)


def test_bernoulli():
  bits = (X > 0.5).astype(float)
  expected = scipy.stats.bernoulli(scipy.special.expit(MEAN)).logpmf(bits).sum(-1)
  np.testing.assert_allclose(densities.bernoulli(f32(bits), f32(MEAN)), expected, rtol=1e-5)


@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_bernoulli_is_finite_at_extreme_logits(logit, bit):
  value, slope = jax.value_and_grad(lambda a: densities.bernoulli(jnp.full(1, bit), a[None]))(logit)
  assert value == (0.0 if (logit > 0) == (bit > 0) else -100.0)
  assert jnp.isfinite(slope)


def test_categorical():
  logits = RNG.normal(size=(5, 3)) * 50
  expected = scipy.special.log_softmax(logits, axis=-1)[np.arange(5), [0, 1, 2, 1, 0]]
  got = densities.categorical(jax.nn.one_hot(jnp.asarray([0, 1, 2, 1, 0]), 3), f32(logits))
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_classify():
  logits = f32([[1.0, 3.0, -2.0], [jnp.nan, 1.0, 0.0], [2.0, 1.0, 0.0]])
  np.testing.assert_array_equal(classify.correct(logits, jnp.asarray([1, 1, 1])), [1, 0, 0])
  np.testing.assert_allclose(
    classify.log_posterior(logits[:1]), scipy.special.log_softmax(logits[:1], axis=-1), rtol=1e-6
  )
  np.testing.assert_allclose(
    classify.log_marginal(logits[:1], "exact"), scipy.special.logsumexp(logits[:1], axis=-1)
  )
  assert classify.predict(logits).dtype == jnp.int32
