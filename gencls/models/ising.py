"""An Ising model of the binary image for every class, on the lattice of 4 neighbours.

  −E(s, y) = Σ_<ij> θ^y_ij s_i s_j + Σ_i θ^y_i s_i,   s_i = ±1, +1 where x_i >= at

p(s | y) = exp(−E(s, y)) / Z_y, and log Z_y, other for each class, is out of reach at 28×28. Three
ways around it are values of the option `training`:

  pseudo_likelihood        logit_y = Σ_i log p(s_i | s_neighbours, y) + log p(y); convex, no Z_y
  discriminative           logit_y = −E(s, y) + b_y, b_y free in place of log p(y) − log Z_y
  linear_batch_normalised  the published score, which has no product s_i s_j: see `linear_mrf`

The threshold of the pixels has no derivative. What attacks by gradients follow in its place is a
value of the option `backward`; the scores are the same bit for bit:

  flip              what the score changes by when pixel i goes from dark to bright, exactly
  straight_through  the derivative of the score in s at s, as if s were continuous

At spins of ±1 the sigmoids of the pseudo-likelihood are saturated, and the two have little in
common: along flips attacks find more, yet one may find what the other misses, and robustness is
what is left after both (configs/sweeps/nus.py). The other scores are linear in each spin: there
they are the same.

References:
  Besag 1975 (pseudo-likelihood). The published score: "Exploring Generative Classifiers for
  Adversarial Robustness on MNIST".
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gencls import densities
from gencls.keys import fold
from gencls.models import checks, fitting, ising_fit, linear_mrf
from gencls.models.ising_scores import (
  discriminative_logits,
  flip_log_pseudo_likelihoods,
  log_pseudo_likelihood,
  log_pseudo_likelihoods,
)
from gencls.models.lattice import Couplings, check_one_channel, gibbs_update, sweep
from gencls.names import unknown_name
from gencls.settings import at_least
from gencls.straight_through import DEFAULT_THRESHOLD, check_threshold, threshold
from gencls.types import Array, Classifier, Gradient, Key, Keys, Loss, Params

# Candidates of the penalty of couplings where none are given.
L2 = {
  "pseudo_likelihood": (100.0, 300.0, 1000.0, 3000.0),
  "discriminative": (1.0, 10.0, 100.0, 1000.0),
}
TRAININGS = (*L2, "linear_batch_normalised")
LINEAR_IN_SPINS = ("discriminative", "linear_batch_normalised")  # scores with one gradient
# How gradients pass the pixels: the log pseudo-likelihoods, the same numbers, of each derivative.
BACKWARDS = {
  "flip": flip_log_pseudo_likelihoods,
  "straight_through": log_pseudo_likelihoods,
}


def ising(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  training: str = "pseudo_likelihood",
  at: float = DEFAULT_THRESHOLD,
  backward: str | None = None,
  l2: float | Sequence[float] | None = None,
  unary_l2: float = 1.0,
  max_iterations: int = 200,
  num_sweeps: int = 200,
) -> Classifier:
  """An Ising classifier.

  Args:
    image_shape: (H, W, 1).
    num_classes: C.
    class_prior: p(y); uniform where None. Only pseudo-likelihood uses it.
    training: one of `TRAININGS`, see the module's docstring.
    at: pixels at or above it are bright.
    backward: of the pseudo-likelihood: a key of `BACKWARDS`, see the module's docstring; None:
      "flip". Only gradients differ: another one needs no new training.
    l2: λ of the penalty λ/2 Σ θ_ij² of couplings, against the sum over the training images; of
      several `fit` takes the one of the best validation accuracy. The larger, the nearer to
      Bernoulli naive Bayes. None: `L2[training]`. Of the fit: gradient descent has no penalty.
    unary_l2: the same of the θ_i: finite where a pixel never changes. The published
      training has neither penalty.
    max_iterations: of L-BFGS, or steps of gradient descent for the published training.
    num_sweeps: of Gibbs sampling in `sample`, from independent fair pixels.

  Returns:
    A `Classifier`; "unnormalised" (a pseudo-likelihood is no likelihood), "posterior" where
    training is discriminative. Only pseudo-likelihood has `sample`: a discriminative energy is not
    fitted to be a density.

  Raises:
    ValueError: if a number is out of its range, a name is unknown, images have channels, or
      `backward` is given where there is no choice.
  """
  check_one_channel(image_shape, "ising")
  check_threshold(at)
  prior = checks.class_prior(class_prior, num_classes)
  at_least(1, max_iterations=max_iterations, num_sweeps=num_sweeps)
  if training not in TRAININGS:
    raise ValueError(unknown_name("training", training, TRAININGS))
  if backward is not None and backward not in BACKWARDS:
    raise ValueError(unknown_name("backward", backward, BACKWARDS))
  generative = training not in LINEAR_IN_SPINS
  if backward is not None and not generative:
    raise ValueError(
      f"backward={backward!r} is a choice of training='pseudo_likelihood': scores of {training!r} "
      "are linear in each pixel, and their gradient is what flips change; leave it None"
    )
  gradient: Gradient = "straight_through" if backward == "straight_through" else "flip"
  candidates = L2.get(training, (1.0,)) if l2 is None else fitting.candidates(l2)
  if not candidates or min(candidates) <= 0:
    raise ValueError(f"l2 must hold positive numbers, at least one, got {l2}")
  if unary_l2 <= 0:
    raise ValueError(f"unary_l2 must be > 0, got {unary_l2}; constant pixels have no finite θ_i")
  if training == "linear_batch_normalised":
    linear = linear_mrf.classifier(image_shape, num_classes, at=at, num_steps=max_iterations)
    return linear._replace(gradient="flip", pixel_threshold=at)
  height, width, _ = image_shape
  log_prior = tuple(jnp.log(jnp.asarray(prior)).tolist())

  def init(key: Key, x: Array, y: Array) -> Params:
    del key, x, y  # the objectives are convex: zero is as good a start as any
    params = {
      "unary": jnp.zeros((num_classes, height, width)),
      "right": jnp.zeros((num_classes, height, width - 1)),
      "down": jnp.zeros((num_classes, height - 1, width)),
    }
    return params if generative else params | {"bias": jnp.zeros(num_classes)}

  def spins(x: Array) -> Array:
    return 2 * threshold(x[..., 0], at) - 1

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del keys, step
    if not generative:
      log_p_y = densities.categorical(jax.nn.one_hot(y, num_classes), scores(params, spins(x)))
      return Loss(-log_p_y, {"log_p_y": log_p_y})
    own = jax.tree.map(lambda theta: theta[y], params)
    log_p = log_pseudo_likelihood(own, spins(x))
    log_p_y = jnp.asarray(log_prior)[y]
    return Loss(-log_p - log_p_y, {"log_pseudo_likelihood": log_p, "log_p_y": log_p_y})

  def scores(params: Params, s: Array) -> Array:
    if not generative:
      return discriminative_logits(params, s)
    return BACKWARDS[gradient](params, s) + jnp.asarray(log_prior)[None]

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    del keys
    return scores(params, spins(x))

  def sample(params: Params, keys: Keys, y: Array) -> Array:
    own = jax.tree.map(lambda theta: theta[y], params)
    couplings = Couplings(own["right"], own["down"])
    start = jax.vmap(lambda key: jax.random.rademacher(key, (height, width), jnp.float32))

    def body(i: Array, s: Array) -> Array:
      return sweep(couplings, own["unary"], s, gibbs_update(fold(keys, "gibbs", i)))

    s = jax.lax.fori_loop(0, num_sweeps, body, start(fold(keys, "start")))
    return (s[..., None] + 1) / 2

  settings = ising_fit.Settings(candidates, unary_l2, max_iterations)
  return Classifier(
    init=init,
    loss=loss,
    logits=logits,
    score="unnormalised" if generative else "posterior",
    pixel_threshold=at,
    gradient=gradient,
    sample=sample if generative else None,
    fit=ising_fit.fitter(settings, init, scores, spins, generative=generative),
  )
