"""Projections on balls by sorting, against sorting in NumPy."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from gencls.attacks.fmn import NORMS

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  foolbox = pytest.importorskip("foolbox")
  ep = pytest.importorskip("eagerpy")


def _sorted_l1(delta, radius):
  """Duchi et al. 2008, by sorting."""
  size = np.abs(delta)
  if size.sum() <= radius:
    return delta
  falling = -np.sort(-size)
  theta = (np.cumsum(falling) - radius) / np.arange(1, len(size) + 1)
  last = np.flatnonzero(falling > theta)
  theta = theta[last[-1]] if last.size else falling[0]
  return np.sign(delta) * np.maximum(size - theta, 0)


def _sorted_l0(delta, count):
  kept = np.argsort(-np.abs(delta), kind="stable")[: int(count)]
  return np.where(np.isin(np.arange(len(delta)), kept), delta, 0)


@pytest.mark.parametrize(("norm", "reference"), [("l1", _sorted_l1), ("l0", _sorted_l0)])
def test_projections_by_sorting(norm, reference):
  rng = np.random.default_rng(0)
  x = rng.uniform(0.4, 0.6, size=(40, 4, 5, 1)).astype("f4")
  delta = rng.normal(size=x.shape).astype("f4") * 0.1
  delta[::3] = np.round(delta[::3], 1)  # ties
  delta[5] = 0
  x[::3] = 0.5
  radius = rng.uniform(0, 2, 40).astype("f4") if norm == "l1" else rng.integers(0, 22, 40) * 1.0
  radius[1], radius[2] = 0.0, np.inf
  ours = NORMS[norm].project(jnp.asarray(x + delta), jnp.asarray(x), jnp.asarray(radius, "f4"))
  moved = ((x + delta) - x).reshape(40, -1)
  pairs = zip(moved, np.minimum(radius, 99), strict=True)
  expected = np.clip(x.reshape(40, -1) + [reference(d, r) for d, r in pairs], 0, 1)
  np.testing.assert_allclose(np.asarray(ours).reshape(40, -1), expected, atol=1e-6)
