"""Every convolution of the GFZ at MNIST size, in every direction: XLA's own form against ours.

    python benchmarks/layers.py [--batch=100] [--repeats=15]

Prints a Markdown table of milliseconds (minimum over interleaved repeats) and GFLOP/s. The two
forms of a row see the same load, so that their ratio holds on a shared machine; the times do not.
Operations are counted as 2 * B * h * w * kh * kw * I * O in all three directions, h and w the
sizes on the strided side. A transposed convolution is the same three directions in another order:
forward is the input gradient of the row with its sizes swapped, and so on.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gencls.nets.conv import conv2d

# name, size of the large side, its channels, channels of the strided side
LAYERS = [
  ("encoder 28 -> 14, decoder 14 -> 28", 28, 1, 64),
  ("encoder 14 -> 7, decoder 7 -> 14", 14, 64, 64),
  ("encoder 7 -> 4, decoder 4 -> 7", 7, 64, 64),
]
KERNEL, STRIDE = 5, 2

Conv = Callable[[jax.Array, jax.Array], jax.Array]


def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """XLA's own convolution: [B, H, W, I], [kh, kw, I, O] -> [B, h, w, O]."""
  dimensions = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(x, kernel, (STRIDE, STRIDE), "SAME", dimension_numbers=dimensions)


def forward(conv: Conv, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
  """The convolution itself."""
  del g
  return conv(x, kernel)


def input_grad(conv: Conv, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
  """The gradient in x alone."""
  return jax.vjp(lambda x: conv(x, kernel), x)[1](g)[0]


def kernel_grad(conv: Conv, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
  """The gradient in the kernel alone."""
  return jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](g)[0]


DIRECTIONS = {"forward": forward, "input gradient": input_grad, "kernel gradient": kernel_grad}
FORMS: dict[str, Conv] = {"plain": plain, "ours": partial(conv2d, stride=STRIDE)}


def best_times(
  functions: dict[str, Callable[..., Any]], arguments: tuple, repeats: int
) -> dict[str, float]:
  """Seconds per call, the minimum over repeats that take turns."""
  times: dict[str, list[float]] = {name: [] for name in functions}
  for function in functions.values():
    jax.block_until_ready(function(*arguments))
  for _ in range(repeats):
    for name, function in functions.items():
      start = time.perf_counter()
      jax.block_until_ready(function(*arguments))
      times[name].append(time.perf_counter() - start)
  return {name: min(values) for name, values in times.items()}


def matmul_peak(repeats: int, size: int = 2048) -> float:
  """Operations per second of one large float32 matrix product."""
  a = jnp.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32))
  (seconds,) = best_times({"dot": jax.jit(jnp.matmul)}, (a, a), repeats).values()
  return 2 * size**3 / seconds


def layer_inputs(batch: int, size: int, channels: int, features: int) -> tuple[jax.Array, ...]:
  """Random x, kernel and output gradient of one layer."""
  small = -(-size // STRIDE)
  shapes = (
    (batch, size, size, channels),
    (KERNEL, KERNEL, channels, features),
    (batch, small, small, features),
  )
  rng = np.random.default_rng(0)
  return tuple(jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description="times every layer")
  parser.add_argument("--batch", type=int, default=100)
  parser.add_argument("--repeats", type=int, default=15)
  args = parser.parse_args()
  peak = matmul_peak(args.repeats)
  print(f"batch {args.batch}, matrix-product peak {peak / 1e9:.0f} GFLOP/s\n")
  print("| layer | direction | plain ms | ours ms | ratio | plain GFLOP/s | ours GFLOP/s |")
  print("| --- | --- | --- | --- | --- | --- | --- |")
  for name, size, channels, features in LAYERS:
    arguments = layer_inputs(args.batch, size, channels, features)
    operations = 2 * arguments[2].size * KERNEL**2 * channels
    for direction, function in DIRECTIONS.items():
      forms = {form: jax.jit(partial(function, conv)) for form, conv in FORMS.items()}
      seconds = best_times(forms, arguments, args.repeats)
      slow, fast = seconds["plain"], seconds["ours"]
      print(
        f"| {name} | {direction} | {slow * 1e3:.2f} | {fast * 1e3:.2f} | {slow / fast:.1f} "
        f"| {operations / slow / 1e9:.0f} | {operations / fast / 1e9:.0f} |",
        flush=True,
      )


if __name__ == "__main__":
  main()
