"""Parity of the convolutions with XLA's own and with loops in NumPy, in every direction."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gencls.nets.conv import Conv, ConvTranspose, conv2d, conv2d_transpose

# size, channels in, channels out, kernel, stride. Both sides of `conv_cpu.FEW_CHANNELS`.
CASES = [
  (28, 1, 64, (5, 5), 2),
  (14, 64, 64, (5, 5), 2),
  (7, 64, 64, (5, 5), 2),
  (8, 32, 40, (5, 5), 2),
  (4, 32, 32, (5, 5), 2),
  ((7, 10), 32, 33, (3, 4), 3),
  ((5, 6), 16, 32, (1, 3), 2),  # a kernel smaller than the stride leaves phases without taps
  (8, 3, 5, (5, 5), 2),
  ((7, 10), 3, 4, (3, 4), 3),
  ((5, 6), 2, 3, (1, 3), 2),
  (6, 8, 4, (5, 5), 2),
  (6, 9, 4, (5, 5), 2),
  (1, 16, 8, (5, 5), 2),  # an axis of size 1 has one phase
  ((1, 4), 3, 3, (5, 5), 2),
  (6, 4, 8, (3, 3), 1),
  (6, 32, 8, (3, 3), 1),  # `conv_cpu.MANY_CHANNELS`
]
VALID_CASES = [
  (12, 20, 70, (5, 5), 1),
  (12, 1, 5, (5, 5), 1),
  ((6, 8), 33, 7, (3, 4), 1),
  ((9, 10), 16, 7, (3, 4), 2),
  ((10, 9), 3, 7, (5, 3), 3),  # pixels that no output reads
  ((5, 4), 3, 7, (5, 4), 1),  # one output
]


def _reference(x, kernel, stride, padding="SAME"):
  dimensions = ("NHWC", "HWIO", "NHWC")
  strides = (stride, stride)
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


def _inputs(size, channels, features, kernel, stride, batch=3, padding="SAME"):
  height, width = size if isinstance(size, tuple) else (size, size)
  rng = np.random.default_rng(0)
  small = (-(-height // stride), -(-width // stride))
  if padding == "VALID":
    small = tuple((s - k) // stride + 1 for s, k in zip((height, width), kernel, strict=True))
  shapes = (
    (batch, height, width, channels),
    (*kernel, channels, features),
    (batch, *small, features),
  )
  return tuple(jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)


def _assert_close(got, want):
  for one, other in zip(map(np.asarray, got), map(np.asarray, want), strict=True):
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(
  ("case", "padding"),
  [(case, "SAME") for case in CASES] + [(case, "VALID") for case in VALID_CASES],
  ids=str,
)
def test_conv_and_both_gradients_equal_the_plain_operation(case, padding):
  x, kernel, g = _inputs(*case, padding=padding)
  stride = case[-1]

  @jax.jit
  def both(x, kernel, g):
    ours = lambda x, k: conv2d(x, k, stride=stride, padding=padding)  # noqa: E731
    got, pull = jax.vjp(ours, x, kernel)
    want, pull_reference = jax.vjp(lambda x, k: _reference(x, k, stride, padding), x, kernel)
    return (got, *pull(g)), (want, *pull_reference(g))

  _assert_close(*both(x, kernel, g))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_transpose_and_both_gradients_equal_the_adjoint_of_the_plain_operation(case):
  big, kernel, small = _inputs(*case)
  stride, shape = case[-1], big.shape[1:3]

  def adjoint(small, kernel):
    pull = jax.linear_transpose(lambda x: _reference(x, kernel.swapaxes(2, 3), stride), big)
    return pull(small)[0]

  @jax.jit
  def both(small, kernel, big):
    ours = lambda x, k: conv2d_transpose(x, k, stride=stride, output_shape=shape)  # noqa: E731
    got, pull = jax.vjp(ours, small, kernel)
    want, pull_reference = jax.vjp(adjoint, small, kernel)
    return (got, *pull(big)), (want, *pull_reference(big))

  _assert_close(*both(small, kernel.swapaxes(2, 3), big))


def test_conv_and_transpose_equal_loops_over_pixels_and_taps():
  x, kernel, g = (np.asarray(a, np.float64) for a in _inputs(7, 32, 32, (5, 5), 2, batch=1))
  low = 2  # SAME: (4 - 1) * 2 + 5 - 7 = 4 in all, half of it on the low side
  y, back = np.zeros_like(g), np.zeros_like(x)
  for i, j, a, b in np.ndindex(4, 4, 5, 5):
    row, column = 2 * i + a - low, 2 * j + b - low
    if 0 <= row < 7 and 0 <= column < 7:
      y[0, i, j] += x[0, row, column] @ kernel[a, b]
      back[0, row, column] += kernel[a, b] @ g[0, i, j]
  x, kernel, g = (jnp.asarray(a, jnp.float32) for a in (x, kernel, g))
  got = jax.jit(lambda x, k: conv2d(x, k, stride=2))(x, kernel)
  got_back = jax.jit(lambda g, k: conv2d_transpose(g, k, stride=2, output_shape=(7, 7)))(
    g, kernel.swapaxes(2, 3)
  )
  _assert_close((got, got_back), (y, back))


@pytest.mark.parametrize(("small", "big"), [(4, 7), (7, 14), (14, 28), (2, 4), (4, 8)])
def test_modules_have_the_sizes_of_the_decoders(small, big):
  x = jnp.ones((2, small, small, 3))
  module = ConvTranspose(8, (big, big), use_bias=True)
  y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  assert y.shape == (2, big, big, 8)
  assert {k: v.shape for k, v in variables["params"].items()} == {
    "kernel": (5, 5, 3, 8),
    "bias": (8,),
  }
  assert jax.eval_shape(Conv(3).init_with_output, jax.random.key(0), y)[0].shape == x.shape


def test_map_over_chunks_and_vmap_change_nothing():
  x, kernel, _ = _inputs(4, 32, 32, (5, 5), 2, batch=4)

  def loss(x):
    y = conv2d_transpose(x, kernel, stride=2, output_shape=(7, 7))
    return jnp.sum(conv2d(y, kernel, stride=2) ** 2)

  whole = jax.jit(jax.grad(loss))(x)
  chunks = jax.jit(lambda x: lax.map(jax.grad(loss), x))(x.reshape(4, 1, 4, 4, 32))
  _assert_close((chunks.reshape(x.shape),), (whole,))
  mapped = jax.jit(jax.vmap(jax.grad(loss)))(x.reshape(2, 2, 4, 4, 32))
  _assert_close((mapped.reshape(x.shape),), (whole,))


@pytest.mark.slow
def test_four_devices_agree_with_one():
  code = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from gencls.nets.conv import conv2d, conv2d_transpose
rng = np.random.default_rng(0)
x = rng.standard_normal((8, 4, 4, 32), np.float32)
k = rng.standard_normal((5, 5, 32, 32), np.float32)
def loss(x, k):
  y = conv2d_transpose(x, k, stride=2, output_shape=(7, 7))
  return (conv2d(y, k, stride=2) ** 2).mean()
step = jax.jit(jax.value_and_grad(loss, (0, 1)))
one = jax.tree.leaves(step(x, k))
mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
rows = jax.device_put(x, NamedSharding(mesh, P("data")))
compiled = step.lower(rows, jax.device_put(k, NamedSharding(mesh, P()))).compile()
assert "all-gather" not in compiled.as_text()  # examples stay where they are
four = jax.tree.leaves(step(rows, jax.device_put(k, NamedSharding(mesh, P()))))
for a, b in zip(one, four):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())
"""
  env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
  done = subprocess.run(
    [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def test_asking_for_the_input_gradient_alone_leaves_no_kernel_gradient():
  x, kernel, _ = _inputs(8, 32, 32, (5, 5), 2)

  def loss(x, kernel):
    return jnp.sum(conv2d(x, kernel, stride=2) ** 2)

  def flops(argnums):
    compiled = jax.jit(jax.grad(loss, argnums)).lower(x, kernel).compile()
    return compiled.cost_analysis()["flops"]

  # forward + input gradient, against forward + both: 2 of 3 equal parts
  assert flops(0) < 0.72 * flops((0, 1))


def test_other_backends_get_the_plain_operation():
  x, kernel, _ = _inputs(8, 32, 32, (5, 5), 2)
  gradient = jax.jit(jax.grad(lambda x, k: jnp.sum(conv2d(x, k, stride=2) ** 2), (0, 1)))
  plain = gradient.trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
  fast = gradient.trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
  assert plain.count("stablehlo.convolution") == 3
  assert "stablehlo.dot_general" not in plain
  assert "stablehlo.convolution" not in fast


def test_stride_1_with_a_few_channels_has_a_product_for_input_gradient_on_cpu_alone():
  x, kernel, _ = _inputs(8, 20, 32, (5, 5), 1)
  gradient = jax.jit(jax.grad(lambda x, k: jnp.sum(conv2d(x, k, stride=1) ** 2), (0, 1)))
  plain = gradient.trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
  fast = gradient.trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
  assert plain.count("stablehlo.convolution") == 3
  assert fast.count("stablehlo.convolution") == 2 and "stablehlo.dot_general" in fast


def test_forward_mode_fails_clearly():
  x, kernel, _ = _inputs(4, 2, 2, (3, 3), 2)
  with pytest.raises(TypeError, match="forward-mode"):
    jax.jvp(lambda x: conv2d(x, kernel, stride=2), (x,), (x,))


def test_what_does_not_fit_is_refused():
  x, kernel = jnp.zeros((1, 4, 4, 2)), jnp.zeros((5, 5, 3, 2))
  with pytest.raises(ValueError, match="must agree"):
    conv2d(x, kernel, stride=2)
  with pytest.raises(ValueError, match="stride must be >= 1, got 0"):
    conv2d(x, kernel[:, :, :2], stride=0)
  with pytest.raises(ValueError, match=r"needs an input of spatial size \(5, 5\)"):
    conv2d_transpose(x, kernel[:, :, :2], stride=2, output_shape=(9, 9))
  with pytest.raises(ValueError, match=r"x must be \[B, H, W, I\]"):
    conv2d(x[0], kernel, stride=2)
  with pytest.raises(ValueError, match="unknown padding 'FULL'"):
    conv2d(x, kernel[:, :, :2], stride=2, padding="FULL")
  with pytest.raises(ValueError, match=r"as large as the kernel, got \(4, 4\) and \(5, 5\)"):
    conv2d(x, kernel[:, :, :2], stride=1, padding="VALID")
