"""The Ising denoiser against enumeration of a 3×3 lattice, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lattice_enumeration import boltzmann, energies, states

from gencls import models
from gencls.keys import example_keys
from gencls.models import lattice
from gencls.models.denoised import METHODS, denoise, denoised
from gencls.models.lattice import neighbour_field, uniform
from gencls.types import Classifier, Loss

S = states(3, 3)
RNG = np.random.default_rng(0)
SMALL = jnp.asarray(RNG.random((6, 3, 3, 1)), jnp.float32)
LARGE = jnp.asarray(RNG.random((6, 9, 8, 1)), jnp.float32)
KEYS = example_keys(0, jnp.arange(6))
DEFAULTS = {"h": 0.8, "beta": 0.3, "num_sweeps": 30, "burn_in": 5, "centre": 0.5}


def run(method, x, keys=KEYS, **changes):
  f = jax.jit(lambda keys, x: denoised(keys, x, method=method, **(DEFAULTS | changes)))
  return f(keys, x)


def marginals(x, h, beta):
  """p(ŝ_i = 1 | x) of every image by enumeration."""
  s, out = 2 * np.asarray(x)[..., 0] - 1, []
  for each in s:
    right, down = np.full((3, 2), beta), np.full((2, 3), beta)
    probability, _ = boltzmann(energies(S, h * each, right, down))
    out.append(np.einsum("n,nij->ij", probability, (S + 1) / 2))
  return np.stack(out)


def energy(x, hard, h, beta):
  s = lambda image: 2 * image[..., 0] - 1  # noqa: E731
  return lattice.energy(uniform(beta, 3), h * s(x), s(hard))


def test_mean_field_marginals_within_the_stated_error():
  """At h = 0.8: 0.007 at β = 0.1, 0.03 at 0.2, 0.09 at 0.3, of second order in β."""
  error = {}
  for beta in (0.0, 0.05, 0.1, 0.2, 0.3):
    got = run("mean_field", SMALL, beta=beta)[..., 0]
    error[beta] = np.abs(got - marginals(SMALL, 0.8, beta)).max()
  assert error[0.0] < 1e-6 and error[0.1] < 0.007 and error[0.2] < 0.03 and error[0.3] < 0.09
  assert 3.5 < error[0.1] / error[0.05] < 5


def test_mean_field_is_a_fixed_point_of_each_pixel():
  m = 2 * run("mean_field", LARGE, num_sweeps=200)[..., 0] - 1
  h = 0.8 * (2 * LARGE[..., 0] - 1)
  np.testing.assert_allclose(m, np.tanh(h + neighbour_field(uniform(0.3, 3), m)), atol=1e-6)


def test_gibbs_marginals_within_their_error():
  num = 600
  x = jnp.tile(SMALL[:1], (num, 1, 1, 1))
  each = run("gibbs", x, example_keys(1, jnp.arange(num)), num_sweeps=20, burn_in=20)[..., 0]
  error = np.std(each, axis=0) / np.sqrt(num)
  difference = np.abs(np.mean(each, axis=0) - marginals(SMALL[:1], 0.8, 0.3)[0])
  assert (difference < 4.5 * error).all() and error.max() < 0.01
  few = run("gibbs", x[:3], example_keys(1, jnp.arange(num))[:3], num_sweeps=20, burn_in=20)
  np.testing.assert_allclose(few[..., 0], each[:3], atol=1e-6)  # a key, not a batch
  assert (each[0] != each[1]).any()


@pytest.mark.parametrize("beta", [0.1, 0.3, 3.0])
def test_icm_never_raises_the_energy_and_ends_in_a_local_minimum(beta):
  steps = [jnp.where(LARGE >= 0.5, 1.0, 0.0)]
  steps += [run("icm", LARGE, beta=beta, num_sweeps=n) for n in (1, 2, 3, 30)]
  along = np.stack([energy(LARGE, step, 0.8, beta) for step in steps])
  assert (np.diff(along, axis=0) <= 1e-4).all() and (along[-1] < along[0] - 0.1).any()
  last = np.asarray(steps[-1])
  assert set(np.unique(last)) <= {0.0, 1.0}
  for at in np.ndindex(9, 8):
    flipped = last.copy()
    flipped[:, at[0], at[1]] = 1 - flipped[:, at[0], at[1]]
    assert (energy(LARGE, jnp.asarray(flipped), 0.8, beta) >= along[-1] - 1e-4).all()


def test_the_published_rule_in_numpy():
  x = np.asarray(LARGE, np.float64)[..., 0]
  for centre in (0.5, 0.1307):
    s, expected = 2 * (x - centre), np.zeros(x.shape)
    for b, i, j in np.ndindex(*x.shape):
      if 0 < i < 8 and 0 < j < 7:  # the border is always dark
        around = s[b, i - 1, j] + s[b, i + 1, j] + s[b, i, j - 1] + s[b, i, j + 1]
        expected[b, i, j] = 0.2 * s[b, i, j] + 3 * around >= 0
    got = run("one_shot", LARGE, h=0.2, beta=3.0, centre=centre)[..., 0]
    np.testing.assert_array_equal(got, expected)


def test_gradients_of_mean_field_against_finite_differences():
  weight = RNG.normal(size=SMALL.shape)

  def value(x):
    return jnp.sum(weight * denoised(KEYS, x, method="mean_field", **DEFAULTS))

  gradient = jax.jit(jax.grad(value))(SMALL)
  value = jax.jit(value)
  for at in ((0, 0, 0, 0), (2, 1, 1, 0), (5, 2, 1, 0)):
    step = np.zeros(SMALL.shape, "f4")
    step[at] = 1e-2
    slope = (value(SMALL + step) - value(SMALL - step)) / 2e-2
    np.testing.assert_allclose(gradient[at], slope, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["icm", "gibbs"])
def test_sweeps_of_signs_are_straight_through(method):
  weight = jnp.asarray(RNG.normal(size=LARGE.shape), jnp.float32)
  f = lambda x: jnp.sum(weight * denoised(KEYS, x, method=method, **DEFAULTS) ** 2)  # noqa: E731
  out = run(method, LARGE)
  np.testing.assert_allclose(jax.jit(jax.grad(f))(LARGE), 2 * weight * out, rtol=1e-4, atol=1e-6)


def test_the_published_rule_passes_the_derivative_of_the_field_it_thresholds():
  """Of pixel i a weight of 0.2, of each neighbour 3, over their sum; the border passes nothing."""
  weight = RNG.normal(size=LARGE.shape)
  options = DEFAULTS | {"method": "one_shot", "h": 0.2, "beta": 3.0}
  f = lambda x: jnp.sum(weight * denoised(KEYS, x, **options))  # noqa: E731
  expected = np.zeros((6, 9, 8))
  for b, i, j in np.ndindex(6, 9, 8):
    if 0 < i < 8 and 0 < j < 7:
      expected[b, i, j] += 0.2 / 12.2 * weight[b, i, j, 0]
      for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
        expected[b, k, m] += 3 / 12.2 * weight[b, i, j, 0]
  np.testing.assert_allclose(jax.jit(jax.grad(f))(LARGE)[..., 0], expected, rtol=1e-4, atol=1e-6)


TOY = Classifier(
  init=lambda key, x, y: {},
  loss=lambda params, keys, x, y, step: Loss(x.sum((1, 2, 3)), {}),
  logits=lambda params, keys, x: 3 * x.reshape(len(x), -1),
  score="posterior",
)


def build(**changes):
  return models.build(
    "cnn_denoised", image_shape=(8, 8, 1), num_classes=3, hidden_size=8, channels=(3,), **changes
  )


def test_a_model_behind_it_sees_the_denoised_image():
  for method in METHODS:
    outer = denoise(TOY, method=method, h=0.8, beta=0.3, num_sweeps=7)
    clean = run(method, LARGE, num_sweeps=7)
    got = jax.jit(outer.logits)({}, KEYS, LARGE)
    np.testing.assert_allclose(got, 3 * clean.reshape(6, -1), rtol=1e-6)
  hidden = denoise(TOY, method="icm", detached=True)
  slope = jax.jit(jax.grad(lambda x: hidden.logits({}, KEYS, x).sum()))(LARGE)
  assert not slope.any()  # as published: attacks by gradients see nothing


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"method": "icn"}, "did you mean 'icm'"),
    ({"h": 0.0}, "h must be > 0"),
    ({"beta": -1.0}, "beta must be >= 0"),
    ({"num_sweeps": 0}, "num_sweeps must be >= 1"),
    ({"burn_in": -1}, "burn_in must be >= 0"),
    ({"centre": 1.0}, r"centre must be in \(0, 1\)"),
    ({"detached": 1}, "model.detached must be True or False"),
  ],
)
def test_bad_hyperparameters(changes, message):
  with pytest.raises(ValueError, match=message):
    build(**changes)


def test_colours_are_refused():
  with pytest.raises(ValueError, match=r"the denoiser has one spin .* got \(8, 8, 3\)"):
    models.build("cnn_denoised", image_shape=(8, 8, 3), num_classes=3)
  model = denoise(models.build("cnn", image_shape=(8, 8, 3), num_classes=3))
  with pytest.raises(ValueError, match=r"the denoiser has one spin .* got \(2, 8, 8, 3\)"):
    model.init(jax.random.key(0), jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32))
