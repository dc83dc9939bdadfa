"""The contracts: NamedTuples of pure functions, and the array aliases they use.

Letters, the same everywhere: B batch, C classes, K importance samples, L latent size,
T attack steps, H, W, D image height, width and depth (channels last). Images are float32 in
[0, 1]; eps is in the same units; log-densities are nats per example.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array  # one typed PRNG key
Keys: TypeAlias = jax.Array  # [B] typed PRNG keys, one per example
Params: TypeAlias = Any  # a pytree of arrays

Score: TypeAlias = Literal["exact", "estimate", "bound", "unnormalised", "posterior"]

# Scores that are log p(x, y) in nats with every constant: only these have a likelihood to report.
NORMALISED_SCORES: tuple[Score, ...] = ("exact", "estimate", "bound")


# How gradients pass from the logits to the image: as they are; through a threshold by the
# straight-through estimator; or, as some published models have it, past the image that a likelihood
# compares with, or not at all; or as the difference that flipping a pixel makes. Results name it.
Gradient: TypeAlias = Literal["exact", "flip", "straight_through", "detached_target", "detached"]

# Hyperparameters that change what attacks are told of a function, and not the function.
GRADIENT_ONLY = ("backward", "detached_target", "detached")


class Loss(NamedTuple):
  """What a classifier minimises, per example, with its parts kept apart for the logs."""

  total: Array  # [B] float32
  terms: dict[str, Array]  # name -> [B] float32, nats unless the name says otherwise
  # New values of leaves that the gradient does not train, or {}. Means over the batch, as moving
  # statistics are: micro-batches are averaged.
  updates: Any = {}  # noqa: RUF012


class FitData(NamedTuple):
  """What a classifier is fitted to: whole splits, and what its choices are made on."""

  x: Array  # [N, H, W, D] float32 in [0, 1], the training images
  y: Array  # [N] int32
  validation_x: Array  # [M, H, W, D] float32: smoothing, components, … are chosen here, if at all
  validation_y: Array  # [M] int32


class Fitted(NamedTuple):
  """What a fit returns."""

  params: Params  # of the shapes of `Classifier.init`
  # What was chosen and how it went, for the logs: name -> number, nats unless the name says so
  metrics: dict[str, float]


class Decoder(NamedTuple):
  """Images of a class from a latent, for attacks that search among them."""

  decode: Callable[[Params, Keys, Array, Array], Array]  # (params, keys, z [B, L], y [B]) -> x
  latent_size: int  # L
  num_classes: int  # C


class Classifier(NamedTuple):
  """A classifier as pure functions; hyperparameters are closed over by its factory.

  `keys` holds one key per example, so that the result for one image does not depend on the batch,
  shard or device it is computed in.
  """

  init: Callable[[Key, Array, Array], Params]  # (key, x [B, H, W, D], y [B]) -> params
  loss: Callable[[Params, Keys, Array, Array, Array], Loss]  # (params, keys, x, y, step)
  # (params, keys, x) -> [B, C]. Where one class costs less than all, perhaps also classes [B, M],
  # for [B, M] of these alone (see gencls.few_classes)
  logits: Callable[..., Array]
  score: Score  # what logits[b, c] is; see NORMALISED_SCORES
  # The logits are of the thresholded image, one of 2^(H·W·D), and no density over [0, 1]^(H·W·D)
  binary: bool = False
  # The logits see only which pixels reach it; None: they see grey levels
  pixel_threshold: float | None = None
  gradient: Gradient = "exact"
  prepare: Callable[[Params, Key], Params] | None = None  # everything that does not depend on x
  sample: Callable[[Params, Keys, Array], Array] | None = None  # (params, keys, y [B]) -> x
  # Closed form, EM or L-BFGS instead of steps down a gradient: it drives its own loop, and compiles
  fit: Callable[[Key, FitData], Fitted] | None = None
  # What only models with a latent have, for the attacks made for them:
  # (params, keys, x) -> [B, C, K], the terms of which a logit is the log-mean-exp
  log_weights: Callable[[Params, Keys, Array], Array] | None = None
  # (params, keys, x, y [B]) -> x, what class y makes of x
  reconstruct: Callable[[Params, Keys, Array, Array], Array] | None = None
  decoder: Decoder | None = None


# (keys, x) -> [B, C]; attacks also take [B, C, K] log weights, see `objective.build`. With an
# argument `classes` [B, M] also [B, M], see gencls.few_classes
LogitsFn: TypeAlias = Callable[..., Array]


# A detector, (keys, x, logits [B, C]) -> score [B]: it accepts where the score is >= 0
Accept: TypeAlias = Callable[[Keys, Array, Array], Array]


class Goal(NamedTuple):
  """What the attack is after, per example."""

  label: Array  # [B] int32, the true label
  target: Array  # [B] int32, the wanted label, -1 where untargeted
  start: Array | None = None  # [B, H, W, D] float32, where the attack shall start
  # [B, H, W, D] float32, an image that is no success whatever its prediction: the clean one, where
  # one lucky draw would end the search for the nearest success; None: there is none
  clean: Array | None = None


# (keys, step [B] int32, x_adv, goal) -> (loss [B], success [B] bool); the attack maximises the
# loss. `step` counts the attack's queries: fresh randomness folds it into the key, fixed randomness
# ignores it. A `jax.tree_util.Partial`, so that parameters are leaves and not constants.
Objective: TypeAlias = Callable[[Keys, Array, Array, Goal], tuple[Array, Array]]


class Info(NamedTuple):
  """What one attack step reports, per example."""

  loss: Array  # [B] float32, at the iterate the step evaluated
  success: Array  # [B] bool, at the iterate the step evaluated
  done: Array  # [B] bool, nothing is left to gain: the example may be dropped
  nonfinite: Array  # [B] bool, the loss or its gradient was not finite at this step
  zero_gradient: Array  # [B] bool, the input gradient was exactly zero (False without gradients)
  forward: Array  # [B] int32, forward passes of this step, of the objective
  backward: Array  # [B] int32, backward passes of this step


class Attack(NamedTuple):
  """An attack as pure functions; every leaf of its state has the batch as leading axis.

  There are two kinds: of a fixed budget (built with an eps), and of minimum norm, which returns the
  nearest success it has found, and x itself where it has found none. The functions are
  `jax.tree_util.Partial`s whose leaves are the model's parameters, eps, step sizes and other
  numbers, so that another eps or parameter set does not compile again.
  """

  init: Callable[[Keys, Array, Goal], Any]  # (keys, x, goal) -> state
  step: Callable[[Keys, Any], tuple[Any, Info]]  # (keys, state) -> (state, info)
  result: Callable[[Any], Array]  # (state) -> x_adv [B, H, W, D]
  num_steps: int
