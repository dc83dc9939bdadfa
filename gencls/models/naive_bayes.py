"""Naive Bayes: pixels are independent given the class, p(x, y) = p(y) Π_d p(x_d | y).

Gaussian pixels with a floor under every variance, or Bernoulli pixels of the thresholded image with
Laplace's smoothing. One pass over the data gives the parameters for every floor or pseudo-count.

The threshold has no derivative. Of bits b every score is Σ_d [f_d(0) + b_d (f_d(1) − f_d(0))], and
what attacks by gradients follow in its place is the slope of that, which is what a flip of pixel d
changes. The published attacks followed the derivative of the normal density at a bit, (μ − b) / σ².
Where σ² is the variance of bits, μ (1 − μ), the margin between two classes has the sign of a flip
in it but not its size: an attack in ℓ2 or ℓ1 that ranks pixels by it spends its budget on the wrong
ones. Where the variance is taken for the scale, as published, the sign is wrong too, at more than
half of MNIST's pixels that have one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gencls import densities
from gencls.keys import fold
from gencls.models import checks, fitting, products
from gencls.models.class_moments import ClassMoments, class_moments, of_block
from gencls.models.joint import joint
from gencls.names import unknown_name
from gencls.straight_through import DEFAULT_THRESHOLD, threshold
from gencls.types import Array, Classifier, FitData, Fitted, Key, Keys, Params

FLOORS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
BACKWARDS = ("flip", "straight_through")


class _Pixels(NamedTuple):
  """Independent pixels of one kind."""

  fit: Callable[[ClassMoments, float], Params]  # (moments, smoothing) -> params [C, D]
  log_prob: Callable[[Params, Array], Array]  # (params, x [B, D]) -> [B, C]
  draw: Callable[[Key, Params], Array]  # (key, params of one class) -> [D]
  transform: Callable[[Array], Array]  # what is done to an image first


def gaussian_naive_bayes(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  variance_floor: float | Sequence[float] = FLOORS,
  binarized: bool = False,
  variance_as_scale: bool = False,
  backward: str | None = None,
) -> Classifier:
  """p(x | y) = Π_d N(x_d; μ_yd, s²_yd + floor), with the means and variances of the class.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: p(y); uniform where None.
    variance_floor: added to every variance by the fit, so that a constant pixel has a density; > 0.
      Of several it takes the one of best validation accuracy. Gradient descent knows no floor.
    binarized: threshold the image at 0.5 first; gradients are as `backward` says. A density at
      zeros and ones alone is no log p(x): the score is then "unnormalised".
    variance_as_scale: the published flaw: s² + floor is taken for the standard deviation.
    backward: of `binarized`, one of `BACKWARDS`: what gradients are, see the module's docstring.
      "flip" (None), or "straight_through", as published: of the normal density at the bits.

  Returns:
    A `Classifier` of "exact" scores, but for `binarized`.

  Raises:
    ValueError: if a floor is not positive, or `backward` is unknown or given for grey images.
  """
  if backward not in (None, *BACKWARDS):
    raise ValueError(unknown_name("backward", backward, BACKWARDS))
  if backward and not binarized:
    raise ValueError(
      f"backward={backward!r} is the gradient through a threshold, and binarized is False: leave "
      "it None"
    )

  def fit(moments: ClassMoments, floor: float) -> Params:
    variance = moments.variance() + floor
    power = 1.0 if variance_as_scale else 0.5
    return {"mean": moments.mean, "log_scale": power * jnp.log(variance)}

  def log_prob(params: Params, x: Array) -> Array:
    return densities.normal(x[:, None], params["mean"][None], params["log_scale"][None])

  def log_prob_of_bits(params: Params, bits: Array) -> Array:
    each = (params["mean"][..., None], params["log_scale"][..., None])  # pixels apart: [C, D, 1]
    zero, one = (densities.normal(jnp.float32(bit), *each) for bit in (0, 1))
    return products.product(bits, one.T) + products.product(1 - bits, zero.T)

  def published_log_prob(params: Params, bits: Array) -> Array:
    normal = log_prob(params, bits)  # its derivative, and the same numbers bit for bit
    zero = normal - jax.lax.stop_gradient(normal)
    return jax.lax.stop_gradient(log_prob_of_bits(params, bits)) + zero

  def draw(key: Key, params: Params) -> Array:
    noise = jax.random.normal(key, params["mean"].shape)
    return params["mean"] + jnp.exp(params["log_scale"]) * noise

  transform = threshold if binarized else lambda x: x
  of_bits = published_log_prob if backward == "straight_through" else log_prob_of_bits
  pixels = _Pixels(fit, of_bits if binarized else log_prob, draw, transform)
  prior = checks.class_prior(class_prior, num_classes)
  classifier = _naive_bayes(pixels, image_shape, prior, variance_floor=variance_floor)
  if binarized:
    return classifier._replace(
      score="unnormalised", pixel_threshold=DEFAULT_THRESHOLD, gradient=backward or "flip"
    )
  return classifier


def bernoulli_naive_bayes(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  pseudo_count: float | Sequence[float] = 1.0,
) -> Classifier:
  """p(x | y) = Π_d Bernoulli(b_d; θ_yd) of the image b thresholded at 0.5.

  The score is linear in the bits: its gradient is what flipping a pixel changes.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: p(y); uniform where None.
    pseudo_count: α > 0 of θ = (ones + α) / (examples + 2α); 1 is Laplace's rule. Of several the fit
      takes the one of best validation accuracy.

  Returns:
    A `Classifier` of "exact" scores: log p(b, y).

  Raises:
    ValueError: if a pseudo-count is not positive.
  """

  def fit(moments: ClassMoments, alpha: float) -> Params:
    ones = jnp.round(moments.mean * moments.num_examples)
    return {"logits": jnp.log(ones + alpha) - jnp.log(moments.num_examples - ones + alpha)}

  def log_prob(params: Params, x: Array) -> Array:
    return products.bernoulli(x, params["logits"])

  def draw(key: Key, params: Params) -> Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(params["logits"])).astype(jnp.float32)

  pixels = _Pixels(fit, log_prob, draw, threshold)
  prior = checks.class_prior(class_prior, num_classes)
  classifier = _naive_bayes(pixels, image_shape, prior, pseudo_count=pseudo_count)
  return classifier._replace(binary=True, pixel_threshold=DEFAULT_THRESHOLD, gradient="flip")


def _naive_bayes(
  pixels: _Pixels,
  image_shape: tuple[int, int, int],
  prior: tuple[float, ...],
  **smoothing: float | Sequence[float],
) -> Classifier:
  """The classifier of these pixels; `smoothing` is one named hyperparameter and its candidates."""
  ((name, given),) = smoothing.items()
  values = fitting.candidates(given)
  if not values or min(values) <= 0:
    raise ValueError(f"{name} must be > 0, got {given}")
  num_classes = len(prior)

  def log_likelihood(params: Params, x: Array) -> Array:
    return pixels.log_prob(params, pixels.transform(x.reshape(len(x), -1)))

  def init(key: Key, x: Array, y: Array) -> Params:
    del key, y  # a small batch may lack a class: all classes start alike
    flat = pixels.transform(x.reshape(len(x), -1))
    moments = of_block(flat, jnp.ones((len(x), 1)))
    return jax.tree.map(
      lambda leaf: jnp.repeat(leaf, num_classes, axis=0), pixels.fit(moments, values[0])
    )

  def draw(params: Params, keys: Keys, y: Array) -> Array:
    chosen = jax.tree.map(lambda leaf: leaf[y], params)
    x = jax.vmap(pixels.draw)(fold(keys, "x"), chosen)
    return jnp.clip(x, 0.0, 1.0).reshape(-1, *image_shape)

  classifier = joint(init, log_likelihood, draw, prior)

  def fit(key: Key, data: FitData) -> Fitted:
    del key
    fitting.class_counts(data.y, num_classes)
    moments = class_moments(data.x, data.y, num_classes, pixels.transform)
    candidates = {
      f"{name}={value:g}": lambda value=value: Fitted(
        pixels.fit(moments, value), {name: float(value)}
      )
      for value in values
    }
    axes = lambda _: {name: values}  # noqa: E731
    return fitting.most_accurate(candidates, classifier.logits, data, axes=axes)

  return classifier._replace(fit=fit)
