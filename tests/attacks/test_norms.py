"""Norms and order statistics against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls.attacks import norms, order

ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}
DUALS = {"l1": np.inf, "l2": 2, "linf": 1}
SCALES = np.array([1e-30, 1e-20, 1e-6, 1.0, 1e6, 1e20, 1e30, 0.0], "f4")


def _expected(delta, order_of_norm):
  return np.linalg.norm(np.asarray(delta, float).reshape(len(delta), -1), ord=order_of_norm, axis=1)


@pytest.mark.parametrize("norm", ORDERS)
def test_norms_at_every_scale_and_beside_one_another(norm):
  rng = np.random.default_rng(0)
  delta = rng.normal(size=(len(SCALES), 4, 3, 2)).astype("f4") * SCALES[:, None, None, None]
  delta[:, 1] = 0
  size = jax.jit(getattr(norms, norm))
  np.testing.assert_allclose(size(delta), _expected(delta, ORDERS[norm]), rtol=2e-6)
  tame = delta[2:5]  # no other scale in the batch
  np.testing.assert_allclose(size(tame), _expected(tame, ORDERS[norm]), rtol=2e-6)
  broken = np.where(np.arange(len(SCALES))[:, None, None, None] == 3, np.nan, delta)
  if norm != "l0":
    np.testing.assert_array_equal(np.isnan(size(broken)), np.arange(len(SCALES)) == 3)


def test_the_tables_name_the_norms_and_their_duals():
  delta = np.random.default_rng(1).normal(size=(5, 3, 3, 1)).astype("f4")
  assert norms.NORMS.keys() == norms.DUAL_NORMS.keys() == DUALS.keys()
  for norm, dual in DUALS.items():
    np.testing.assert_allclose(norms.NORMS[norm](delta), _expected(delta, ORDERS[norm]), rtol=1e-6)
    np.testing.assert_allclose(norms.DUAL_NORMS[norm](delta), _expected(delta, dual), rtol=1e-6)


@pytest.mark.parametrize("p", [1.0, 1.01, 1.5, 3.0, 101.0, 1e5])
def test_lp_at_every_scale(p):
  rng = np.random.default_rng(5)
  delta = rng.normal(size=(len(SCALES), 4, 3, 2)) * SCALES[:, None, None, None]
  delta = delta.astype("f4")
  largest = np.max(np.abs(delta), axis=(1, 2, 3), keepdims=True)
  expected = largest.ravel() * _expected(delta / np.where(largest > 0, largest, 1), p)
  found = jax.jit(norms.lp)(jnp.float32(p), delta)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  broken = np.where(np.arange(len(SCALES))[:, None, None, None] == 3, np.nan, delta)
  found = norms.lp(jnp.float32(p), jnp.asarray(broken))
  np.testing.assert_array_equal(np.isnan(found), np.arange(len(SCALES)) == 3)


def test_a_norm_has_one_name():
  names = {"l0": 0, "l1": 1, "l1.5": 1.5, "l2": 2, "l3": 3, "l77": 77, "linf": np.inf}
  assert {name: norms.order(name) for name in names} == names


@pytest.mark.parametrize(
  ("name", "fix"),
  [
    ("l0.5", "write 'l1'"),
    ("l0.0", "for instance 'l2'"),
    ("l-1", "for instance 'l2'"),
    ("lx", "for instance 'l2'"),
    ("l", "for instance 'l2'"),
    ("lnan", "for instance 'l2'"),
    ("", "for instance 'l2'"),
    ("l2.0", "write 'l2'"),
    ("l1.50", "write 'l1.5'"),
    ("l_3", "for instance 'l2'"),
    ("l1.0000001", "write 'l1'"),
    ("3", "write 'l3'"),
    (3, "write 'l3'"),
    ("linfinity", "write 'linf'"),
  ],
)
def test_other_names_are_refused_with_the_rule_and_the_right_one(name, fix):
  with pytest.raises(ValueError, match=f"number p >= 1 .*, got {name!r}: {fix}"):
    norms.order(name)


def test_plain_l2_is_the_norm_of_ordinary_numbers():
  delta = np.random.default_rng(2).normal(size=(5, 3, 3, 1)).astype("f4")
  np.testing.assert_allclose(norms.plain_l2(jnp.asarray(delta)), _expected(delta, 2), rtol=1e-6)
  assert not norms.plain_l2(jnp.zeros((2, 3, 3, 1))).any()


def test_the_unit_of_any_scale():
  delta = np.random.default_rng(3).normal(size=(len(SCALES), 3, 3, 1)).astype("f4")
  delta *= SCALES[:, None, None, None]
  unit, size = jax.jit(norms.unit_and_l2)(delta)
  np.testing.assert_allclose(size, _expected(delta, 2), rtol=2e-6)
  np.testing.assert_allclose(_expected(unit, 2), SCALES > 0, rtol=1e-6)


TINY = np.finfo("f4").tiny  # what is below counts as 0


def test_kth_largest_is_that_of_a_sort():
  rng = np.random.default_rng(4)
  scale = 10.0 ** rng.integers(-20, 20, (40, 1, 1, 1))
  values = (rng.exponential(size=(40, 2, 5, 1)) * scale).astype("f4")
  values[rng.uniform(size=values.shape) < 0.2] = 0
  values[::3] = np.round(values[::3])  # ties
  falling = -np.sort(-values.reshape(40, -1), axis=1)
  count = np.arange(40) % 11
  expected = falling[np.arange(40), np.maximum(count, 1) - 1]
  found = jax.jit(order.kth_largest)(values, count)
  np.testing.assert_allclose(found, expected, rtol=0, atol=TINY)
  found = order.kth_largest(jnp.asarray(values), jnp.float32(2.5))
  np.testing.assert_allclose(found, falling[:, 2], rtol=0, atol=TINY)


def test_largest_float_is_exact_at_any_scale():
  at, high = np.array([0, 1e-30, 0.3, 1.0, 77.7, 1e30], "f4"), jnp.full(6, 3e38)
  found = order.largest_float(lambda t: t <= at, high)
  np.testing.assert_allclose(found, at, rtol=0, atol=TINY)
  np.testing.assert_array_equal(order.largest_float(lambda t: t < 0, high), np.zeros(6))
  np.testing.assert_array_equal(order.largest_float(lambda t: t >= 0, jnp.asarray(at)), at)
