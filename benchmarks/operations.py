"""Floating-point operations of the GFZ at MNIST size, counted by hand.

Two operations for each multiply-add of the matrix products and convolutions, each layer as often as
its inputs differ: the encoder once per x, the q-head once per (x, y), decoder and p(y | z) once per
(x, y, z). A convolution (or transpose) between sizes H and h = ceil(H / 2) has 2 · h² · 25 · I · O,
taps over the padding included. Activations, densities and random numbers are not counted (a few
percent), nor what an implementation computes twice: these are the useful operations, and speeds
made from them can be compared.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks import objective
from gencls.attacks.objective import Query
from gencls.keys import example_keys
from gencls.types import Array, Classifier, Goal, Keys, Params

SIZES = (14, 7, 4)  # the strided sides
CHANNELS, HIDDEN, LATENT, CLASSES = 64, 500, 64, 10


def _dense(inputs: int, outputs: int) -> int:
  return 2 * inputs * outputs


def _convolutions() -> list[int]:
  inputs = (1, CHANNELS, CHANNELS)
  return [2 * h * h * 25 * i * CHANNELS for h, i in zip(SIZES, inputs, strict=True)]


def logits(batch: int, num_samples: int, labels: int = CLASSES) -> int:
  """Operations of `logits`; labels=1 with num_samples=1 is the forward pass of the ELBO."""
  pairs = batch * labels
  rows = pairs * num_samples
  flat = SIZES[-1] ** 2 * CHANNELS
  encoder = sum(_convolutions()) + _dense(flat, HIDDEN)
  q_head = batch * _dense(HIDDEN, HIDDEN) + pairs * _dense(CLASSES, HIDDEN)
  q_head += pairs * _dense(HIDDEN, 2 * LATENT)
  decoder = _dense(LATENT, HIDDEN) + _dense(HIDDEN, flat) + sum(_convolutions())
  y_head = _dense(LATENT, HIDDEN) + _dense(HIDDEN, CLASSES)
  return batch * encoder + q_head + pairs * _dense(CLASSES, HIDDEN) + rows * (decoder + y_head)


def input_gradient(batch: int, num_samples: int) -> int:
  """Operations of a loss of the logits and its gradient in x: each layer forward and once back."""
  return 2 * logits(batch, num_samples)


def margin_gradient(batch: int, num_samples: int) -> int:
  """Operations of a margin and its gradient: all classes forward, two forward and back again."""
  return logits(batch, num_samples) + 2 * logits(batch, num_samples, labels=2)


def training_step(batch: int) -> int:
  """Operations of the ELBO and its gradient in the parameters; x itself needs none."""
  return 3 * logits(batch, 1, labels=1) - batch * _convolutions()[0]


def by_xla(function: Callable[..., Any], *arguments: Any) -> float:
  """XLA's own count for a compiled function; the bodies of loops are counted once."""
  analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
  if analysis is None:
    raise RuntimeError("XLA counts no operations on this backend; run this check on CPU")
  return float(analysis["flops"])


def ratios_to_xla(classifier: Classifier, batch: int, num_samples: int) -> dict[str, float]:
  """XLA's count over ours for a GFZ that decodes in one piece (`max_rows` large).

  Args:
    classifier: the GFZ; compiled, not run.
    batch: B.
    num_samples: K of the classifier.

  Returns:
    {task: ratio}.
  """
  x = jax.ShapeDtypeStruct((batch, 28, 28, 1), jnp.float32)
  y = jax.ShapeDtypeStruct((batch,), jnp.int32)
  keys = jax.eval_shape(lambda: example_keys(0, jnp.arange(batch)))
  params = jax.eval_shape(classifier.init, jax.random.key(0), x, y)

  def mean_loss(params: Params, keys: Keys, x: Array, y: Array) -> Array:
    return jnp.mean(classifier.loss(params, keys, x, y, jnp.int32(0)).total)

  def total(x: Array, params: Params, keys: Keys) -> Array:
    return jnp.sum(classifier.logits(params, keys, x))

  def margin(x: Array, params: Params, keys: Keys, y: Array) -> Query:
    goal = Goal(y, jnp.full_like(y, -1))
    margins = objective.build(Partial(classifier.logits, params), loss="margin")
    return objective.query(margins, keys, jnp.zeros(batch, jnp.int32), x, goal)

  forward = by_xla(classifier.logits, params, keys, x)
  gradient = by_xla(jax.value_and_grad(total), x, params, keys)
  of_margin = by_xla(margin, x, params, keys, y)
  training = by_xla(jax.value_and_grad(mean_loss), params, keys, x, y)
  return {
    "prediction": forward / logits(batch, num_samples),
    "input gradient": gradient / input_gradient(batch, num_samples),
    "input gradient of a margin": of_margin / margin_gradient(batch, num_samples),
    "training step": training / training_step(batch),
  }
