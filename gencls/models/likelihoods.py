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
from gencls.names import unknown_name
from gencls.types import Array, Params, Score

SCALE_FLOOR = 1e-3  # of a learned standard deviation: below 1/255 it only rewards grey-level spikes


def floored_log_scale(raw: Array) -> Array:
  """log(exp(raw) + SCALE_FLOOR): a standard deviation that cannot collapse."""
  return jnp.logaddexp(raw, math.log(SCALE_FLOOR))


class Likelihood(NamedTuple):
  """A density of flattened images, from the decoder's output."""

  init: Callable[[], Params]  # () -> params
  log_prob: Callable[
    [Params, Array, Array], Array
  ]  # (params, x [..., D], output [..., D]) -> [...]
  mean: Callable[[Array], Array]  # (output) -> E[x]
  score: Score  # what a classifier's logits are under this likelihood
  terms: Callable[[Array, int], dict[str, Array]] = lambda log_p_x, num_pixels: {}  # for the logs


def _gaussian(params: Params, x: Array, output: Array) -> Array:
  scale = floored_log_scale(params["raw_log_scale"]).reshape((1,) * output.ndim)
  return densities.normal(x, jax.nn.sigmoid(output), scale)


def _sum_of_squares(log_p_x: Array, num_pixels: int) -> dict[str, Array]:
  return {"squared_error": -log_p_x - 0.5 * num_pixels * math.log(math.pi)}


LIKELIHOODS: dict[str, Likelihood] = {
  "squared_error": Likelihood(
    init=dict,
    log_prob=lambda params, x, output: densities.squared_error(x, jax.nn.sigmoid(output)),
    mean=jax.nn.sigmoid,
    score="estimate",
    terms=_sum_of_squares,
  ),
  "gaussian": Likelihood(
    init=lambda: {"raw_log_scale": jnp.float32(math.log(0.5))},
    log_prob=_gaussian,
    mean=jax.nn.sigmoid,
    score="estimate",
  ),
  # A log-probability for binary images alone; on grey ones the soft cross-entropy is an energy.
  "bernoulli": Likelihood(
    init=dict,
    log_prob=lambda params, x, output: densities.bernoulli(x, output),
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
