"""p(x | parents) of an image, given the decoder's output before the sigmoid.

The names are values of the option `likelihood`. Squared error is N(x; μ, ½I), the published choice;
the Gaussian learns one scale for all pixels, with a floor.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gencls import densities
from gencls.models import products
from gencls.names import unknown_name
from gencls.types import Array, Params, Score

SCALE_FLOOR = 1e-3  # of a learned standard deviation: below 1/255 it only rewards grey-level spikes


def floored_log_scale(raw: Array) -> Array:
  """log(exp(raw) + SCALE_FLOOR): a standard deviation that cannot collapse."""
  return jnp.logaddexp(raw, math.log(SCALE_FLOOR))


class Likelihood(NamedTuple):
  """A density of flattened images, from the decoder's output."""

  init: Callable[[], Params]  # () -> params
  # (params, x [..., D], output [..., D]) -> [...]
  log_prob: Callable[[Params, Array, Array], Array]
  # (params, x [B, D], outputs [M, D]) -> [B, M], of every image under every output
  log_prob_of_each: Callable[[Params, Array, Array], Array]
  mean: Callable[[Array], Array]  # (output) -> E[x]
  score: Score  # what a classifier's logits are under this likelihood
  terms: Callable[[Array, int], dict[str, Array]] = lambda log_p_x, num_pixels: {}  # for the logs


def _gaussian(params: Params, x: Array, output: Array) -> Array:
  scale = floored_log_scale(params["raw_log_scale"]).reshape((1,) * output.ndim)
  return densities.normal(x, jax.nn.sigmoid(output), scale)


def _normal_of_each(x: Array, outputs: Array, log_scale: Array | float) -> Array:
  """log N(x; σ(outputs), exp(log_scale)² I) of one scale, [B, D] and [M, D] -> [B, M].

  Its float32 error is some 1e-6 ‖x − c‖² / exp(log_scale)² nats, c the mean of the M.
  """
  means = jax.nn.sigmoid(outputs)
  centre = jax.lax.stop_gradient(jnp.mean(means, axis=0, keepdims=True))
  x, means = x - centre, means - centre
  distance = products.squared_distances(x, jnp.sum(x**2, axis=1), means)
  constant = x.shape[1] * (log_scale + 0.5 * math.log(2 * math.pi))
  return -0.5 * distance * jnp.exp(-2.0 * log_scale) - constant


def _sum_of_squares(log_p_x: Array, num_pixels: int) -> dict[str, Array]:
  return {"squared_error": -log_p_x - 0.5 * num_pixels * math.log(math.pi)}


LIKELIHOODS: dict[str, Likelihood] = {
  "squared_error": Likelihood(
    init=dict,
    log_prob=lambda params, x, output: densities.squared_error(x, jax.nn.sigmoid(output)),
    log_prob_of_each=lambda params, x, outputs: _normal_of_each(x, outputs, 0.5 * math.log(0.5)),
    mean=jax.nn.sigmoid,
    score="estimate",
    terms=_sum_of_squares,
  ),
  "gaussian": Likelihood(
    init=lambda: {"raw_log_scale": jnp.float32(math.log(0.5))},
    log_prob=_gaussian,
    log_prob_of_each=lambda params, x, outputs: _normal_of_each(
      x, outputs, floored_log_scale(params["raw_log_scale"])
    ),
    mean=jax.nn.sigmoid,
    score="estimate",
  ),
  # A log-probability for binary images alone; on grey ones the soft cross-entropy is an energy.
  "bernoulli": Likelihood(
    init=dict,
    log_prob=lambda params, x, output: densities.bernoulli(x, output),
    log_prob_of_each=lambda params, x, outputs: products.bernoulli(x, outputs),
    mean=jax.nn.sigmoid,
    score="unnormalised",
    terms=lambda log_p_x, num_pixels: {"pixel_cross_entropy": -log_p_x},
  ),
}


def build(name: str) -> Likelihood:
  """The likelihood of that name.

  Raises:
    ValueError: if the name is unknown.
  """
  if name not in LIKELIHOODS:
    raise ValueError(unknown_name("likelihood", name, LIKELIHOODS))
  return LIKELIHOODS[name]
