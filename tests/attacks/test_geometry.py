import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from gencls.attacks import geometry

NORMS = ["linf", "l2", "l1"]
SHAPE = (4, 2, 3, 1)


@jax.jit
def _project(ball, x_adv, x):
  return ball.project(x_adv, x), ball.project(ball.project(x_adv, x), x)


@jax.jit
def _random(ball, keys, x):
  return ball.random(keys, x)


@jax.jit
def _sphere(ball, keys, x):
  return ball.sphere(keys, x)


def _numpy_norm(delta, norm):
  delta = np.asarray(delta, np.float64).reshape(len(delta), -1)
  return np.linalg.norm(delta, axis=1, ord={"linf": np.inf, "l2": 2, "l1": 1}[norm])


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


def _nearest_by_quadratic_programming(x_adv, x, eps):
  """delta = up − down, both >= 0: a smooth problem for SciPy."""
  u, size = np.asarray(x_adv - x, np.float64), x.size
  turn = np.concatenate([np.eye(size), -np.eye(size)], axis=1)
  solved = minimize(
    lambda v: np.sum((turn @ v - u) ** 2),
    np.zeros(2 * size),
    jac=lambda v: 2 * turn.T @ (turn @ v - u),
    bounds=[(0, high) for high in np.concatenate([1 - x, x]).astype(float)],
    constraints={
      "type": "ineq",
      "fun": lambda v: eps - np.sum(v),
      "jac": lambda v: -np.ones(v.size),
    },
    options={"ftol": 1e-13, "maxiter": 500},
  )
  assert solved.status in (0, 8)  # 8: no descent is left at this precision
  return x + turn @ solved.x


def test_l1_projection_is_the_nearest_point_of_ball_and_box():
  rng = np.random.default_rng(0)
  x = rng.choice([0.0, 0.05, 0.5, 0.9, 1.0], size=(40, 2, 3, 1)).astype("f4")
  x_adv = (x + rng.normal(size=x.shape) * rng.choice([0.1, 1, 3], size=(40, 1, 1, 1))).astype("f4")
  eps = rng.choice([0.05, 0.3, 1.5], size=40).astype("f4")
  ours, _ = _project(geometry.l1(eps), x_adv, x)
  pairs = zip(x_adv.reshape(40, -1), x.reshape(40, -1), eps, strict=True)
  nearest = np.stack([_nearest_by_quadratic_programming(*pair) for pair in pairs])
  np.testing.assert_allclose(np.reshape(ours, (40, -1)), nearest, atol=1e-5)
  # The box matters: clipping the nearest point of the ball alone is another point.
  assert np.sum(_numpy_norm(np.asarray(ours) - x, "l1") > eps - 1e-5) > 20


def test_l1_projection_fills_the_ball_of_a_large_image():
  x = images(3, shape=(40, 40, 1), low=0.0, high=1.0)
  x_adv = x + np.random.default_rng(0).normal(size=x.shape).astype("f4")
  eps = jnp.asarray([0.01, 5.0, 200.0])
  moved = np.asarray(_project(geometry.l1(eps), x_adv, x)[0], np.float64) - np.asarray(x)
  np.testing.assert_allclose(_numpy_norm(moved, "l1"), eps, rtol=2e-5)


def test_the_steepest_l1_step_moves_the_share_of_pixels_that_gain_most_and_can():
  gradient = jnp.asarray([4.0, -3.0, 2.0, -5.0, 1.0, 0.0]).reshape(1, 2, 3, 1)
  x_adv = jnp.asarray([1.0, 0.5, 0.5, 0.0, 0.5, 0.5]).reshape(1, 2, 3, 1)

  def direction(sparsity, *point):
    return np.ravel(geometry.l1(1.0, sparsity).steepest(gradient, *point))

  np.testing.assert_allclose(direction(0.01), [0, 0, 0, -1, 0, 0])
  np.testing.assert_allclose(direction(0.34), [1 / 3, -1 / 3, 0, -1 / 3, 0, 0], rtol=1e-6)
  np.testing.assert_allclose(direction(0.01, x_adv), [0, -1, 0, 0, 0, 0])
  np.testing.assert_allclose(direction(1.0, x_adv), [0, -1 / 3, 1 / 3, 0, 1 / 3, 0], rtol=1e-6)
  assert not np.any(geometry.l1(1.0).steepest(jnp.zeros((1, 2, 3, 1))))
  with pytest.raises(ValueError, match="sparsity must be a share"):
    geometry.l1(1.0, 0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_starts_on_the_sphere_are_at_distance_eps_and_apart(norm):
  x = images(50)
  delta = np.asarray(_sphere(geometry.build(norm, 0.2), keys(50), x)) - np.asarray(x)
  np.testing.assert_allclose(_numpy_norm(delta, norm), 0.2, rtol=1e-5)
  assert np.abs(delta.mean(0)).max() < 5 * delta.std() / np.sqrt(50)
