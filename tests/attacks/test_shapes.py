"""Shapes without tracing twice."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls.attacks.shapes import shapes_of
from gencls.keys import example_keys


def test_shapes_are_those_of_the_result_and_traced_once():
  traced = []

  def scores(weights, keys, x):
    traced.append(x.shape)
    noise = jax.vmap(jax.random.normal)(keys)
    return {"scores": x @ weights, "noise": noise}

  keys = example_keys(0, np.arange(3))
  for size, again in ((3, np.float32), (3, np.float32), (2, np.float32), (3, jnp.bfloat16)):
    x = jnp.zeros((size, 4), again)
    weights = jnp.ones((4, 5), again)
    found = shapes_of(Partial(scores, weights), keys[:size], x)
    assert found["scores"].shape == (size, 5) and found["scores"].dtype == again
    assert found["noise"].shape == (size,)
  assert traced == [(3, 4), (2, 4), (3, 4)]
  # Other values of the same shapes are the same question.
  shapes_of(Partial(scores, 2 * jnp.ones((4, 5))), keys, jnp.ones((3, 4)))
  assert len(traced) == 3


def test_functions_that_differ_are_told_apart():
  def narrow(x):
    return x[:, :1]

  def wide(x):
    return x

  x = np.zeros((2, 3), np.float32)
  assert shapes_of(Partial(narrow), x).shape == (2, 1)
  assert shapes_of(Partial(wide), x).shape == (2, 3)
