"""Gradients taken in the forward pass against reverse mode, and what they save."""

import jax
import jax.numpy as jnp
import numpy as np

from gencls.models.row_gradients import row_gradients

B, M, K, P, L = 3, 2, 4, 6, 5


def log_density(rest, x, z):
  """A row's scalar: Gaussian in x around a tanh layer of z."""
  weights, offset = rest
  mean = jnp.tanh(z @ weights) + offset
  return -0.5 * jnp.sum((x - mean) ** 2, axis=-1)


def arguments():
  """(weights, offset per class), x, z."""
  keys = jax.random.split(jax.random.key(0), 4)
  rest = jax.random.normal(keys[0], (L, P)), jax.random.normal(keys[1], (1, M, 1, P))
  return rest, jax.random.normal(keys[2], (B, 1, 1, P)), jax.random.normal(keys[3], (B, M, K, L))


def objective(f):
  """A non-linear function of the rows, as the importance-weighted mean is."""
  return lambda *arguments: jnp.sum(jax.nn.logsumexp(f(*arguments), axis=-1) ** 2)


def assert_close(found, expected):
  """To 1e-5 of each array's largest entry: a gradient is a sum whose terms cancel."""
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(other))))


def test_value_and_every_gradient_equal_reverse_mode():
  ours = jax.jit(jax.value_and_grad(objective(row_gradients(log_density)), argnums=(0, 1, 2)))
  plain = jax.jit(jax.value_and_grad(objective(log_density), argnums=(0, 1, 2)))
  assert_close(ours(*arguments()), plain(*arguments()))


def test_gradients_in_a_loop_and_under_remat():
  def looped(f):
    return lambda rest, x, z: jax.lax.map(
      lambda row: f(rest, row[0][None], row[1][None])[0], (x, z)
    )

  expected = jax.grad(objective(log_density), argnums=(0, 1))(*arguments())
  for f in (row_gradients(log_density), jax.checkpoint(row_gradients(log_density))):
    found = jax.grad(objective(looped(f)), argnums=(0, 1))(*arguments())
    assert_close(found, expected)


def test_gradients_that_nobody_asks_for_are_not_computed():
  def flops(f):
    return (
      jax.jit(jax.grad(objective(f), argnums=1)).lower(*wide()).compile().cost_analysis()["flops"]
    )

  def wide():
    rest, x, _ = arguments()
    z = jnp.ones((B, M, 64, 256))
    return (jnp.ones((256, P)), rest[1]), x, z

  # The parameters' gradient and z's, which nobody asks for, are gone from the program.
  forward = 2 * B * M * 64 * 256 * P
  assert flops(row_gradients(log_density)) < 1.2 * forward
