"""Multinomial logistic regression, p(y | x) ∝ exp(W x + b)_y."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gencls import densities
from gencls.models import checks, fitting
from gencls.models.discriminative import discriminative
from gencls.models.lbfgs import minimise
from gencls.settings import at_least
from gencls.types import Array, Classifier, FitData, Fitted, Key, Keys, Params


def logistic_regression(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  l2: float | Sequence[float] = 1.0,
  tol: float = 1e-4,
  max_iterations: int = 1000,
  init_scale: float = 0.0,
) -> Classifier:
  """Multinomial logistic regression with an L2 penalty.

  `fit` minimises Σ_n −log p(y_n | x_n) + (l2 / 2) ‖W‖² over all N images by L-BFGS, the bias b
  being free of the penalty: l2 is scikit-learn's 1 / C, and its default. The loss of gradient
  descent is the first term alone: the optimiser's weight decay is its penalty.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: checked and not used, the bias learns it; every model is built alike.
    l2: of the weights, for the whole training set; >= 0. Of several the fit takes the one of the
      best validation accuracy. The fit's alone, as are the next two.
    tol: the fit ends where no derivative of the objective, divided by N, is larger.
    max_iterations: of L-BFGS, at most; where it needs more, the log and the metrics say so.
    init_scale: weights and bias start uniform in ± init_scale / √(H·W·D). 0: at zero, for the
      problem is convex. 1 is PyTorch's start of a linear layer, of which gradient descent without a
      penalty keeps what pixels that are always dark cannot correct.

  Returns:
    A `Classifier` whose logits are "posterior" scores.

  Raises:
    ValueError: if a number is out of range.
  """
  del image_shape
  checks.class_prior(class_prior, num_classes)
  penalties = fitting.candidates(l2)
  if not penalties or min(penalties) < 0:
    raise ValueError(f"l2 must be >= 0, got {l2}")
  at_least(0, tol=tol, init_scale=init_scale)
  at_least(1, max_iterations=max_iterations)

  def init(key: Key, x: Array) -> Params:
    size = x[0].size
    most, keys = init_scale / math.sqrt(size), jax.random.split(key)
    draw = lambda key, shape: jax.random.uniform(key, shape, minval=-most, maxval=most)  # noqa: E731
    return {"weights": draw(keys[0], (size, num_classes)), "bias": draw(keys[1], (num_classes,))}

  def fit(key: Key, data: FitData) -> Fitted:
    fitting.class_counts(data.y, num_classes)
    labels = jax.nn.one_hot(data.y, num_classes)

    def minimum(params: Params, l2: float) -> Fitted:
      arguments = data.x, labels, l2 / len(data.x)
      found = minimise(_objective, params, *arguments, max_iterations=max_iterations, tolerance=tol)
      return Fitted(found.params, found.metrics() | {"objective_nats": found.value})

    candidates = fitting.penalty_path(minimum, init(key, data.x), penalties)
    axes = lambda _: {"l2": penalties}  # noqa: E731
    return fitting.most_accurate(candidates, classifier.logits, data, axes=axes)

  classifier = discriminative(init, _scores, num_classes)
  return classifier._replace(fit=fit)


def _scores(params: Params, x: Array, keys: Keys | None = None) -> Array:
  del keys
  return x.reshape(len(x), -1) @ params["weights"] + params["bias"][None]


def _objective(params: Params, x: Array, y: Array, l2: Array | float) -> Array:
  """The objective of `logistic_regression` divided by N, for one-hot labels and l2 / N."""
  log_p_y = densities.categorical(y, _scores(params, x))
  return 0.5 * l2 * jnp.sum(params["weights"] ** 2) - jnp.mean(log_p_y)
