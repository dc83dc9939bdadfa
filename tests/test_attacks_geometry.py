import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys
from hypothesis import given, settings
from hypothesis import strategies as st

from gencls.attacks import geometry

NORMS = ["linf", "l2"]
SHAPE = (4, 2, 3, 1)


@jax.jit
def _project(ball, x_adv, x):
  return ball.project(x_adv, x), ball.project(ball.project(x_adv, x), x)


@jax.jit
def _random(ball, keys, x):
  return ball.random(keys, x)


def _numpy_norm(delta, norm):
  delta = np.asarray(delta, np.float64).reshape(len(delta), -1)
  return np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)


def _arrays(data, low, high):
  values = st.floats(low, high, width=32)
  size = int(np.prod(SHAPE))
  return np.asarray(data.draw(st.lists(values, min_size=size, max_size=size)), "f4").reshape(SHAPE)


@pytest.mark.parametrize("norm", NORMS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_projection_ends_in_ball_and_box_and_stays(norm, data):
  x = _arrays(data, 0, 1)
  x_adv = _arrays(data, float(np.float32(-3e38)), float(np.float32(3e38)))
  eps = data.draw(st.floats(0, 4, width=32))
  once, twice = (np.asarray(v) for v in _project(geometry.build(norm, eps), x_adv, x))
  assert once.min() >= 0 and once.max() <= 1
  assert np.all(_numpy_norm(once - x.astype(np.float64), norm) <= eps * (1 + 1e-6) + 1e-6)
  np.testing.assert_allclose(twice, once, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_points_inside_are_left_bit_for_bit(norm):
  x = images(4)
  delta = np.random.default_rng(0).normal(size=SHAPE).astype("f4")
  x_adv = x + delta * (0.0999 / _numpy_norm(delta, norm)).astype("f4")[:, None, None, None]
  inside, _ = _project(geometry.build(norm, 0.1), x_adv, x)
  np.testing.assert_array_equal(inside, x_adv)
  # The test can fail: a smaller ball does move them.
  assert not np.array_equal(_project(geometry.build(norm, 0.01), x_adv, x)[0], x_adv)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
def test_eps_zero_is_the_identity(norm, x):
  x = jnp.full(SHAPE, x)
  ball = geometry.build(norm, 0.0)
  for x_adv in (x, x + 0.5, jnp.full(SHAPE, jnp.inf)):
    np.testing.assert_array_equal(_project(ball, x_adv, x)[0], x)
  np.testing.assert_array_equal(_random(ball, keys(4), x), x)


def test_eps_is_not_shrunk_by_a_tolerance():
  """At eps = 0.5 a model that binarises at 0.5 flips every black pixel."""
  x_adv, _ = _project(geometry.build("linf", 0.5), jnp.ones(SHAPE), jnp.zeros(SHAPE))
  assert np.all(np.asarray(x_adv) >= 0.5)


def test_linf_projection_is_the_clip_of_numpy():
  rng = np.random.default_rng(0)
  x, x_adv = rng.uniform(size=SHAPE).astype("f4"), rng.normal(size=SHAPE).astype("f4")
  expected = np.clip(np.clip(x_adv, x - np.float32(0.2), x + np.float32(0.2)), 0, 1)
  np.testing.assert_array_equal(_project(geometry.build("linf", 0.2), x_adv, x)[0], expected)


def test_infinite_points_project_onto_the_ball_and_nan_stays():
  x = jnp.full(SHAPE, 0.5)
  far = x.at[0, 0, 0, 0].set(jnp.inf).at[1, 0, 0, 0].set(jnp.nan)
  for norm in NORMS:
    projected = np.asarray(_project(geometry.build(norm, 0.1), far, x)[0])
    assert projected[0, 0, 0, 0] == pytest.approx(0.6)
    assert np.isnan(projected[1]).any()
    assert np.isfinite(projected[[0, 2, 3]]).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_steepest_has_norm_one_at_any_scale(scale):
  """The squares of 1e-30 underflow, those of 1e30 overflow."""
  gradient = np.random.default_rng(0).normal(size=SHAPE).astype("f4") * np.float32(scale)
  gradient[0] = 0
  unit = np.asarray(geometry.l2(1.0).steepest(jnp.asarray(gradient)))
  np.testing.assert_allclose(_numpy_norm(unit, "l2"), [0, 1, 1, 1], rtol=1e-6)
  cosine = np.sum(unit * (gradient / np.float32(scale)), axis=(1, 2, 3))
  np.testing.assert_allclose(cosine, _numpy_norm(gradient / np.float32(scale), "l2"), rtol=1e-5)
  signs = np.asarray(geometry.linf(1.0).steepest(jnp.asarray(gradient)))
  np.testing.assert_array_equal(signs, np.sign(gradient))


@pytest.mark.parametrize("norm", NORMS)
def test_norm_agrees_with_numpy(norm):
  delta = np.random.default_rng(3).normal(size=SHAPE).astype("f4")
  ours = geometry.build(norm, 1.0).norm(jnp.asarray(delta))
  np.testing.assert_allclose(ours, _numpy_norm(delta, norm), rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_fill_the_ball_uniformly(norm):
  """The share of the radius, to the power of its cumulative distribution, is uniform."""
  num = 4000
  x = jnp.full((num, 2, 2, 1), 0.5)
  delta = np.asarray(_random(geometry.build(norm, 0.2), keys(num), x)) - 0.5
  share = (_numpy_norm(delta, norm) / 0.2) ** 4  # 4 pixels: P(radius <= r) = r^4 in both balls
  assert share.max() <= 1 + 1e-5
  counts = np.histogram(share, bins=10, range=(0, 1 + 1e-5))[0]
  assert np.all(np.abs(counts - num / 10) < 5 * np.sqrt(num * 0.09))  # 5 standard errors
  assert np.all(np.abs(delta.mean(0)) < 5 * delta.std(0) / np.sqrt(num))


def test_a_radius_per_example():
  """Minimum-norm attacks carry one eps per example in their state."""
  x, eps = jnp.full(SHAPE, 0.5), jnp.asarray([0.0, 0.1, 0.2, 0.3])
  for make in geometry.GEOMETRIES.values():
    ball = make(eps)
    moved = ball.project(x + 10.0, x) - x
    np.testing.assert_allclose(ball.norm(moved), eps, rtol=1e-5)
    assert np.all(np.asarray(ball.norm(ball.random(keys(4), x) - x)) <= np.asarray(eps) + 1e-6)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_bad_radii_are_refused(eps):
  with pytest.raises(ValueError, match="eps must be a finite number >= 0"):
    geometry.build("linf", eps)


def test_unknown_norm_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'linf'"):
    geometry.build("lin", 0.1)
