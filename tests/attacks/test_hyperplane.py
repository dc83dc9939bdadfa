"""The box-constrained projections against SciPy's optimisers, which know nothing of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from gencls.attacks.hyperplane import PROJECTIONS
from gencls.attacks.norms import DUAL_NORMS, NORMS

SIZE, NUM = 10, 24


def _instances(seed=0):
  """(x, w, gap): pixels at the walls, zero and equal weights, feasible gaps of all sizes."""
  rng = np.random.default_rng(seed)
  x = np.clip(rng.uniform(-0.3, 1.3, size=(NUM, SIZE)), 0, 1)
  w = rng.normal(size=(NUM, SIZE)) * (rng.uniform(size=(NUM, SIZE)) > 0.2)
  w[::3] = np.round(w[::3])  # many ties
  w[1] *= 1e-25
  w[2] *= 1e25
  sign = rng.choice([-1.0, 1.0], size=NUM)
  x, w = x.astype("f4").astype(float), w.astype("f4").astype(float)
  most = np.sum(np.where(w * sign[:, None] > 0, w * (1 - x), -w * x) * sign[:, None], axis=1)
  return x, w, sign * most * rng.uniform(0.02, 0.98, size=NUM)


def _project(norm, x, w, gap):
  shape = (len(x), 5, 2, 1)
  args = (x.reshape(shape), w.reshape(shape), gap)
  delta = jax.jit(PROJECTIONS[norm])(*(jnp.asarray(a, jnp.float32) for a in args))
  return np.asarray(delta, float).reshape(x.shape)


def _smallest(norm, x, w, gap):
  """The optimal norm: linear programmes for ℓ∞ and ℓ1, sequential quadratic programming for ℓ2."""
  scale = np.abs(w).max()
  w, gap, num = w / scale, gap / scale, len(x)
  walls = [(-v, 1 - v) for v in x]
  if norm == "l2":
    best = minimize(
      lambda d: 0.5 * d @ d,
      np.zeros(num),
      jac=lambda d: d,
      bounds=walls,
      constraints={"type": "eq", "fun": lambda d: w @ d - gap, "jac": lambda d: w},
      method="SLSQP",
      options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best.success
    return np.linalg.norm(best.x)
  one = np.eye(num)
  if norm == "l1":  # δ = p − n
    both = [(0, 1)] * 2 * num
    inside = np.vstack([np.hstack([one, -one]), np.hstack([-one, one])])
    room = np.concatenate([1 - x, x])
    best = linprog(np.ones(2 * num), inside, room, np.hstack([w, -w])[None], [gap], both)
  else:  # |δ_i| <= t
    column = -np.ones((num, 1))
    bound = np.vstack([np.hstack([one, column]), np.hstack([-one, column])])
    cost = np.append(np.zeros(num), 1.0)
    best = linprog(
      cost, bound, np.zeros(2 * num), np.append(w, 0)[None], [gap], [*walls, (0, None)]
    )
  assert best.success
  return best.fun


@pytest.mark.parametrize("norm", PROJECTIONS)
def test_projection_is_the_optimisers(norm):
  x, w, gap = _instances()
  delta = _project(norm, x, w, gap)
  assert np.all(x + delta >= -1e-6) and np.all(x + delta <= 1 + 1e-6)
  assert not delta[w == 0].any()
  scale = np.abs(w).max(axis=1)
  np.testing.assert_allclose(np.sum(w * delta, axis=1) / scale, gap / scale, atol=2e-6)
  sizes = np.asarray(NORMS[norm](jnp.asarray(delta, jnp.float32)))
  best = [_smallest(norm, *instance) for instance in zip(x, w, gap, strict=True)]
  np.testing.assert_allclose(sizes, best, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", PROJECTIONS)
def test_without_a_wall_the_distance_is_that_of_the_dual_norm(norm):
  w = np.random.default_rng(1).normal(size=(NUM, SIZE))
  gap = np.linspace(-0.2, 0.2, NUM)
  delta = _project(norm, np.full_like(w, 0.5), w, gap)
  dual = np.asarray(DUAL_NORMS[norm](jnp.asarray(w, jnp.float32)))
  sizes = np.asarray(NORMS[norm](jnp.asarray(delta, jnp.float32)))
  np.testing.assert_allclose(sizes, np.abs(gap) / dual, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("norm", PROJECTIONS)
def test_out_of_reach_it_goes_to_the_nearest_corner(norm):
  x, w, gap = _instances(2)
  delta = _project(norm, x, w, 100.0 * gap)  # at least twice what the box allows
  toward = w * np.sign(gap)[:, None]
  corner = np.where(toward > 0, 1.0, np.where(toward < 0, 0.0, x))
  np.testing.assert_allclose(x + delta, corner, atol=1e-6)


@pytest.mark.parametrize("norm", PROJECTIONS)
def test_no_weight_or_no_gap_moves_nothing_and_nobody_touches_another(norm):
  x, w, gap = _instances(3)
  assert not _project(norm, x, np.zeros_like(w), gap).any()
  assert not _project(norm, x, w, np.zeros_like(gap)).any()
  order = np.random.default_rng(0).permutation(NUM)
  together = _project(norm, x, w, gap)
  np.testing.assert_array_equal(_project(norm, x[order], w[order], gap[order]), together[order])
  broken = np.where(np.arange(NUM)[:, None] == 4, np.nan, w)
  others = np.arange(NUM) != 4
  np.testing.assert_array_equal(_project(norm, x, broken, gap)[others], together[others])
