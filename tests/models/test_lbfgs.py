"""L-BFGS against a solution in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls.models.lbfgs import minimise


def test_lbfgs_against_least_squares():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(30, 4)).astype("f4"), rng.normal(size=30).astype("f4")

  def objective(p, a, b):
    return jnp.mean((a @ p["w"] - b) ** 2)

  found = minimise(objective, {"w": jnp.zeros(4)}, a, b, tolerance=1e-6)
  np.testing.assert_allclose(found.params["w"], np.linalg.lstsq(a, b)[0], atol=1e-4)
  assert found.iterations < 30 and found.gradient_norm <= 1e-6
  assert minimise(objective, {"w": jnp.zeros(4)}, a, b, max_iterations=2).iterations == 2
  with pytest.raises(FloatingPointError, match="objective is nan"):
    minimise(objective, {"w": jnp.zeros(4)}, a * jnp.nan, b)


def test_a_gradient_that_is_not_finite_is_an_error():
  """While the value is."""

  @jax.custom_jvp
  def level(w):
    return jnp.float32(w.size)

  @level.defjvp
  def _(primals, tangents):
    return level(*primals), jnp.nan * jnp.sum(tangents[0])

  with pytest.raises(FloatingPointError, match="derivative of L-BFGS's objective is nan"):
    minimise(level, jnp.ones(2))
