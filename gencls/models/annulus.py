"""The densities of the annulus counter-example as classifiers: exact, and nothing to be trained.

`optimal` is the data's own density, so the Bayes classifier; `near_optimal` is the model that is
close to it in both divergences and wrong on the whole unit ball. See `gencls.data.annulus`.

A piecewise constant density has no gradient but 0. Outside its support the logit is `FLOOR` in the
place of −∞, because a row that is not finite has no prediction.
"""

import math

import jax.numpy as jnp
from jax.scipy.special import logsumexp

from gencls.data import annulus
from gencls.data.annulus import RADIUS, Density, Ring, Spec
from gencls.types import Array, Classifier, Key, Keys, Loss, Params

FLOOR = -1e4  # nats, far below every density of fewer than about 2,000 dimensions


def optimal(spec: Spec | None = None) -> Classifier:
  """p(x, y), what the data are drawn from."""
  spec = spec or Spec()
  return classifier(annulus.data_density(spec), spec.dims)


def near_optimal(spec: Spec | None = None) -> Classifier:
  """q(x, y), the model."""
  spec = spec or Spec()
  return classifier(annulus.model_density(spec), spec.dims)


def classifier(density: Density, dims: int) -> Classifier:
  """The exact log p(x, y) of rings, of images [B, d, 1, 1] in [0, 1]; it has no parameters.

  Args:
    density: of the points v = 6x − 3.
    dims: d.

  Returns:
    A `Classifier` of score "exact": logits are log-densities over [0, 1]^d, the Jacobian included.
  """
  # log |dv / dx| and log p(y)
  constant = dims * math.log(2 * RADIUS) - math.log(2)

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    del params, keys
    points = 2 * RADIUS * x.reshape(len(x), -1) - RADIUS
    norm = jnp.linalg.norm(points, axis=1)
    return constant + jnp.stack([log_density(rings, dims, norm) for rings in density], axis=1)

  def init(key: Key, x: Array, y: Array) -> Params:
    del key, x, y
    return {}

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del step
    own = jnp.take_along_axis(logits(params, keys, x), y[:, None], axis=1)[:, 0]
    return Loss(-own, {"log_joint": own})

  return Classifier(init=init, loss=loss, logits=logits, score="exact")


def log_density(rings: tuple[Ring, ...], dims: int, norm: Array) -> Array:
  """log p(v) of points of these norms [B], nats; `FLOOR` outside every ring."""
  terms = [
    jnp.where(
      (norm >= ring.inner) & (norm < ring.outer),
      math.log(ring.weight) + log_uniform(ring.inner, ring.outer, dims),
      -jnp.inf,
    )
    for ring in rings
  ]
  return jnp.maximum(logsumexp(jnp.stack(terms), axis=0), FLOOR)


def log_uniform(inner: float, outer: float, dims: int) -> float:
  """log of 1 / (c_d (b^d − a^d)), c_d the volume of the unit ball in d dimensions."""
  log_ball = 0.5 * dims * math.log(math.pi) - math.lgamma(0.5 * dims + 1)
  log_share = 0.0 if inner == 0 else math.log1p(-((inner / outer) ** dims))
  return -(log_ball + dims * math.log(outer) + log_share)
