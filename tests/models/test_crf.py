"""The mean-field CRF against loops over pairs of pixels, and against enumeration on 3×3."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lattice_enumeration import boltzmann, states

from gencls import models
from gencls.keys import example_keys
from gencls.nets.crf import INITIAL_WEIGHT, LEFT_OUT, CRFDecoder, MeanFieldCRF, filtered
from gencls.nets.images import ConvDecoder

RNG = np.random.default_rng(0)
KEYS = example_keys(0, jnp.arange(4))


def kernel(height, width, inverse_widths, left_out):
  """k(i, j) over all pairs of pixels, by loops, [P, P]."""
  pixels = list(np.ndindex(height, width))
  out = np.zeros((len(pixels), len(pixels)))
  for i, a in enumerate(pixels):
    for j, b in enumerate(pixels):
      d = np.abs(np.subtract(a, b))
      zero = (d == 0).all() if left_out == "centre" else (d == 0).any()
      if not zero and d.max() <= 5:
        out[i, j] = np.exp(-0.5 * np.sum((d * inverse_widths) ** 2))
  return out


def variables(weight=1.0, widths=(1.0, 1.0)):
  return {"params": {"weight": jnp.float32(weight), "inverse_widths": jnp.asarray(widths)}}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_the_bands_are_the_kernel(left_out):
  t, widths = RNG.normal(size=(2, 7, 13)).astype("f4"), np.asarray([0.4, 0.9], "f4")
  expected = t.reshape(2, -1) @ kernel(7, 13, widths, left_out)
  got = jax.jit(filtered, static_argnums=2)(t, jnp.asarray(widths), left_out)
  np.testing.assert_allclose(got.reshape(2, -1), expected, rtol=1e-4, atol=1e-5)


def test_kernel_sums_at_the_start():
  ones, widths = jnp.ones((1, 28, 28)), jnp.ones(2)
  axis = 2 * np.exp(-0.5 * np.arange(1, 6) ** 2).sum()
  np.testing.assert_allclose(axis, 1.507, atol=5e-4)
  published = filtered(ones, widths, "row_and_column")[0, 14, 14]
  np.testing.assert_allclose(published, 2.270, atol=5e-4)
  np.testing.assert_allclose(published, axis**2, rtol=1e-5)
  np.testing.assert_allclose(
    filtered(ones, widths, "centre")[0, 14, 14], (1 + axis) ** 2 - 1, rtol=1e-5
  )
  assert filtered(ones, widths, "centre")[0, 0, 0] < 2.2  # zero outside the image
  strength = {
    name: INITIAL_WEIGHT[name] * filtered(ones, widths, name)[0, 14, 14] for name in LEFT_OUT
  }
  np.testing.assert_allclose(strength["centre"], strength["row_and_column"], rtol=0.01)


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_updates_are_those_of_two_labels(left_out):
  """Q = softmax(U), m_l = w k ∗ Q_l, U ← U₀ + m, and U₁ − U₂ at the end, as published."""
  a, widths = RNG.normal(size=(2, 6 * 5)), (0.7, 1.2)
  k = kernel(6, 5, np.asarray(widths), left_out)
  unary = np.stack([a, np.zeros_like(a)])
  u = unary
  for _ in range(5):
    q = np.exp(u) / np.exp(u).sum(0)
    u = unary + 0.6 * q @ k
  crf = MeanFieldCRF((6, 5, 1), left_out=left_out)
  got = crf.apply(variables(0.6, widths), jnp.asarray(a, jnp.float32))
  np.testing.assert_allclose(got, u[0] - u[1], rtol=1e-4, atol=1e-5)


def test_mean_field_marginals_within_the_stated_error():
  """p(l) ∝ exp(Σ a_i [l_i = 1] + w Σ_{i<j} k(i, j) [l_i = l_j]) on a fully connected 3×3.

  Off by 0.0003 at w = 0.05, 0.003 at 0.15, of second order in w; by 0.26 at 1, where mean field
  is sure of what is not.
  """
  a = RNG.normal(size=9)
  k = kernel(3, 3, np.ones(2), "centre")
  on = (states(3, 3).reshape(-1, 9) + 1) / 2
  same = on[:, :, None] == on[:, None, :]
  crf = jax.jit(MeanFieldCRF((3, 3, 1), num_updates=60).apply)
  error = {}
  for weight in (0.0, 0.05, 0.1, 0.15, 1.0):
    energy = -on @ a - 0.5 * weight * np.einsum("ij,nij->n", k, same)
    exact = boltzmann(energy)[0] @ on
    logits = crf(variables(weight), jnp.asarray(a[None], jnp.float32))
    error[weight] = np.abs(jax.nn.sigmoid(logits[0]) - exact).max()
  assert error[0.0] < 1e-6 and error[0.05] < 3e-4 and error[0.15] < 3e-3 and error[1.0] < 0.3
  assert 3.5 < error[0.1] / error[0.05] < 5


@pytest.mark.parametrize(
  ("left_out", "weight", "stated"),  # as in the module's docstring
  [
    ("centre", 0.15, 0.0023),
    ("centre", 0.43, 0.029),
    ("centre", 1.0, 0.23),
    ("row_and_column", 1.0, 0.027),
  ],
)
def test_the_model_is_off_by_what_is_stated(left_out, weight, stated):
  assert INITIAL_WEIGHT == {"centre": 0.43, "row_and_column": 1.0}  # two of the rows
  a = np.random.default_rng(1).normal(size=(200, 9))
  k = kernel(3, 3, np.ones(2), left_out)
  on = (states(3, 3).reshape(-1, 9) + 1) / 2
  pairs = np.einsum("ij,nij->n", k, on[:, :, None] == on[:, None, :])
  exact = np.stack([boltzmann(-on @ each - 0.5 * weight * pairs)[0] @ on for each in a])
  crf = MeanFieldCRF((3, 3, 1), left_out=left_out)
  got = jax.nn.sigmoid(crf.apply(variables(weight), jnp.asarray(a, jnp.float32)))
  assert np.abs(got - exact).max() == pytest.approx(stated, rel=0.05)


def test_gradients_against_finite_differences():
  crf, direction = MeanFieldCRF((5, 4, 1)), RNG.normal(size=(2, 20))
  a = jnp.asarray(RNG.normal(size=(2, 20)), jnp.float32)

  @jax.jit
  def value(inputs):
    return jnp.sum(direction * crf.apply(inputs[0], inputs[1]))

  at = (variables(0.2, (0.8, 1.1)), a)
  gradient, structure = jax.tree.flatten(jax.grad(value)(at))
  leaves = jax.tree.leaves(at)
  assert len(leaves) == 3
  for n, leaf in enumerate(leaves):
    step = jnp.asarray(RNG.normal(size=leaf.shape), jnp.float32)
    moved = [
      value(jax.tree.unflatten(structure, [*leaves[:n], leaf + t * step, *leaves[n + 1 :]]))
      for t in (1e-2, -1e-2)
    ]
    slope = (moved[0] - moved[1]) / 2e-2
    np.testing.assert_allclose(jnp.sum(gradient[n] * step), slope, rtol=5e-3, atol=2e-3)


def test_channels_are_images_of_their_own():
  a = jnp.asarray(RNG.normal(size=(2, 4, 5, 3)), jnp.float32)
  one_channel = jax.jit(MeanFieldCRF((4, 5, 1)).apply)
  both = jax.jit(MeanFieldCRF((4, 5, 3)).apply)(variables(), a.reshape(2, -1)).reshape(a.shape)
  for c in range(3):
    one = one_channel(variables(), a[..., c].reshape(2, -1))
    np.testing.assert_allclose(both[..., c].reshape(2, -1), one, rtol=1e-5, atol=1e-5)


def test_behind_a_decoder():
  decoder = ConvDecoder((8, 8, 1), (3,), 6)
  both = CRFDecoder(decoder, MeanFieldCRF((8, 8, 1)))
  z = [jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)]
  params = jax.jit(both.init)(jax.random.key(0), z)["params"]
  assert {k: v.shape for k, v in params["crf"].items()} == {"weight": (), "inverse_widths": (2,)}
  inner = jax.jit(decoder.apply)({"params": params["decoder"]}, z)
  expected = jax.jit(MeanFieldCRF((8, 8, 1)).apply)({"params": params["crf"]}, inner)
  got = jax.jit(both.apply)({"params": params}, z)
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
  assert both.floats_per_row() > decoder.floats_per_row()


def test_gfz_crf_is_not_built_without_its_layer():
  with pytest.raises(ValueError, match="crf must be one of centre, row_and_column, got None"):
    models.build("gfz_crf", image_shape=(6, 6, 1), num_classes=2, crf=None)


@pytest.mark.slow
def test_the_three_numbers_of_gfz_crf_are_trained():
  size = {"latent_size": 2, "hidden_size": 8, "channels": (3,), "num_samples": 2}
  model = models.build("gfz_crf", image_shape=(6, 6, 1), num_classes=2, **size)
  x, y = jnp.asarray(RNG.random((4, 6, 6, 1)), jnp.float32), jnp.arange(4) % 2
  params = jax.jit(model.init)(jax.random.key(0), x, y)
  loss = jax.jit(
    jax.value_and_grad(lambda p, x: model.loss(p, KEYS, x, y, jnp.int32(0)).total.mean())
  )
  gradient = loss(params, x)[1]["heads"]["x"]["crf"]
  assert all((jnp.abs(leaf) > 0).all() for leaf in jax.tree.leaves(gradient))
  # Binary images: the likelihood is a probability.
  assert model.score == "estimate"
  np.testing.assert_array_equal(loss(params, x)[0], loss(params, jnp.where(x >= 0.5, 1.0, 0.0))[0])


def test_wrong_names_and_numbers_are_refused():
  with pytest.raises(ValueError, match="did you mean 'row_and_column'"):
    MeanFieldCRF((4, 4, 1), left_out="row_and_colum")
  with pytest.raises(ValueError, match="num_updates must be >= 1"):
    MeanFieldCRF((4, 4, 1), num_updates=0)
