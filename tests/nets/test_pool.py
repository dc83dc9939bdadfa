"""Max pooling against XLA's own and against PyTorch's convention, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gencls.nets.pool import max_pool


def _reference(x, window, padding):
  square = (1, window, window, 1)
  size = [-(-s // window) * window - s if padding == "SAME" else 0 for s in x.shape[1:3]]
  pads = ((0, 0), (0, size[0]), (0, size[1]), (0, 0))
  return lax.reduce_window(x, -jnp.inf, lax.max, square, square, pads)


# Few distinct values: most windows hold ties.
@pytest.mark.parametrize("values", [3, 10**6])
@pytest.mark.parametrize(
  ("shape", "window", "padding"),
  [
    ((3, 8, 6, 5), 2, "VALID"),
    ((2, 7, 9, 3), 2, "VALID"),
    ((2, 7, 9, 3), 2, "SAME"),
    ((2, 7, 9, 1), 3, "SAME"),
    ((2, 3, 4, 1), 1, "VALID"),
  ],
)
def test_value_and_gradient_equal_the_plain_operation(shape, window, padding, values):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.integers(-values, values, shape), jnp.float32)

  @jax.jit
  def both(x):
    got, pull = jax.vjp(lambda x: max_pool(x, window=window, padding=padding), x)
    want, pull_reference = jax.vjp(lambda x: _reference(x, window, padding), x)
    g = jnp.arange(1.0, got.size + 1).reshape(got.shape)
    return (got, *pull(g)), (want, *pull_reference(g))

  got, want = both(x)
  for one, other in zip(got, want, strict=True):
    np.testing.assert_array_equal(one, other)


def test_relu_and_bias_commute_with_it_bit_for_bit():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((4, 8, 8, 5)), jnp.float32)
  b = jnp.asarray(rng.standard_normal((1, 1, 1, 5)), jnp.float32)
  before = max_pool(jax.nn.relu(x + b))
  np.testing.assert_array_equal(jax.nn.relu(max_pool(x) + b), before)
  assert 0 < np.mean(np.asarray(before) == 0) < 0.5


def test_other_backends_get_the_plain_operation():
  x = jnp.ones((2, 4, 4, 3))
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(max_pool(x) ** 2)))
  plain = gradient.trace(x).lower(lowering_platforms=("cuda",)).as_text()
  fast = gradient.trace(x).lower(lowering_platforms=("cpu",)).as_text()
  assert "select_and_scatter" in plain and "reduce_window" in plain
  assert "select_and_scatter" not in fast


@pytest.mark.parametrize(
  ("shape", "options", "message"),
  [
    ((4, 4, 1), {}, r"x must be \[B, H, W, D\]"),
    ((1, 4, 4, 1), {"window": 0}, "window >= 1"),
    ((1, 4, 4, 1), {"padding": "FULL"}, "unknown padding"),
  ],
)
def test_what_does_not_fit_is_refused(shape, options, message):
  with pytest.raises(ValueError, match=message):
    max_pool(jnp.zeros(shape), **options)
