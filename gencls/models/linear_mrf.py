"""The published "Markov random field": a score linear in the pixels, normalised over a batch.

  f_y(x) = Σ_i [ |u_yi| x_i + Σ_k ( γ |u_yj(k)| + |v_y,i+k| ) x_j(k) ],  j(0..3) the neighbours of i
  logit_y = f_y(x) − log Σ_{b in batch} f_y(x_b),  loss −p_y (no logarithm), 600 training images

There is no product x_i x_j, so that no pair of pixels interacts, and the weights v of neighbouring
pixels are shared by an index slip. Neighbours off the image are pixel 0. It is here to be compared
with `ising`, its repair.

Differs from the published code: images must not interact, so that the batch is a fixed one, the
training images, whose sum is kept with the parameters (f is linear: Σ_b f(x_b) = f(Σ_b x_b)), and
the step is chosen on validation images, not on test images. `batch_normalised_scores` is the
published score.
"""

import logging
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gencls.models import fitting
from gencls.straight_through import threshold
from gencls.types import Array, Classifier, FitData, Fitted, Key, Keys, Loss, Params

_LOG = logging.getLogger(__name__)

NUM_IMAGES = 600  # the first ones of the training split
LEARNING_RATE = 1e-2
CHOOSE_EVERY = 20  # steps of gradient descent between two looks at the validation images


def neighbour_indices(height: int, width: int) -> np.ndarray:
  """[4, H·W]: the pixels to the left, right, above and below, 0 where there is none."""
  index = np.pad(np.arange(height * width).reshape(height, width), 1)
  around = (index[1:-1, :-2], index[1:-1, 2:], index[:-2, 1:-1], index[2:, 1:-1])
  return np.stack([each.reshape(-1) for each in around])


def linear_scores(params: Params, x: Array, neighbours: np.ndarray) -> Array:
  """f_y(x).

  Args:
    params: "unary" [C, P], "pairwise" [C, 4·P], "gamma" [].
    x: [B, P] of 0 and 1.
    neighbours: from `neighbour_indices`.

  Returns:
    [B, C].
  """
  num = neighbours.shape[1]
  unary, pairwise = jnp.abs(params["unary"]), jnp.abs(params["pairwise"])
  weights = unary
  for k, at in enumerate(neighbours):
    # Pixel i + k, not 4 i + k: three quarters of the weights are never used.
    seen = params["gamma"] * unary[:, at] + pairwise[:, k : k + num]
    weights = weights.at[:, at].add(seen)
  return x @ weights.T


def batch_normalised_scores(params: Params, x: Array, neighbours: np.ndarray) -> Array:
  """The published score f_y(x_b) − log Σ_b f_y(x_b): an image's depends on its batch."""
  scores = linear_scores(params, x, neighbours)
  return scores - jnp.log(jnp.sum(scores, axis=0, keepdims=True))


def classifier(
  image_shape: Sequence[int], num_classes: int, *, at: float, num_steps: int
) -> Classifier:
  """The published score with a fixed reference batch.

  Args:
    image_shape: (H, W, 1).
    num_classes: C.
    at: the threshold of the pixels.
    num_steps: of gradient descent on `NUM_IMAGES` images in `fit` (published: about 1,100). It
      keeps the step of the best validation accuracy, without which there is no fit. There is no
      penalty. It raises ValueError where no pixel of the images is bright: nothing normalises.

  Returns:
    A `Classifier` of "unnormalised" scores.
  """
  height, width, _ = image_shape
  num, neighbours = height * width, neighbour_indices(height, width)

  def flat(x: Array) -> Array:
    return threshold(x, at).reshape(len(x), -1)

  def init(key: Key, x: Array, y: Array) -> Params:
    del key, y
    return {
      "unary": jnp.full((num_classes, num), 10.0),
      "pairwise": jnp.full((num_classes, 4 * num), 10.0),
      "gamma": jnp.float32(0.5),
      "reference": jnp.sum(flat(x[:NUM_IMAGES]), axis=0),
    }

  def scores(params: Params, x: Array) -> Array:
    reference = jax.lax.stop_gradient(params["reference"])[None]
    total = linear_scores(params, reference, neighbours)
    return linear_scores(params, flat(x), neighbours) - jnp.log(total)

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    del keys
    return scores(params, x)

  def share(params: Params, x: Array, y: Array) -> Array:
    p = jax.nn.softmax(scores(params, x), axis=-1)
    return jnp.take_along_axis(p, y[:, None], axis=1)[:, 0]

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del keys, step
    own = share(params, x, y)
    return Loss(-own, {"probability_share": own})

  @jax.jit
  def descend(params: Params, x: Array, y: Array, steps: int) -> Params:
    mean_loss = lambda params: -jnp.mean(share(params, x, y))  # noqa: E731

    def body(i: Array, params: Params) -> Params:
      del i
      gradient = jax.grad(mean_loss)(params)
      return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, gradient)

    return jax.lax.fori_loop(0, steps, body, params)

  def fit(key: Key, data: FitData) -> Fitted:
    x, y = data.x[:NUM_IMAGES], data.y[:NUM_IMAGES]
    fitting.class_counts(y, num_classes, f"the first {len(y)} training images")
    accuracy = fitting.validation_accuracy(logits, data, f"{num_steps} steps")
    params = init(key, x, y)
    if not np.any(params["reference"]):
      raise ValueError(
        f"the published score is normalised by the bright pixels (>= at) of the first {len(x)} "
        f"training images, got none at at={at}: lower at"
      )
    highest, chosen, best = accuracy(params), 0, params
    for step in range(0, num_steps, CHOOSE_EVERY):
      last = min(step + CHOOSE_EVERY, num_steps)
      params = descend(params, x, y, last - step)
      found = accuracy(params)
      if found > highest:
        highest, chosen, best = found, last, params
    if chosen == num_steps:
      _LOG.warning(
        "gradient descent ended at max_iterations=%d with its best validation accuracy: allow more",
        num_steps,
      )
    metrics = {"iterations": num_steps, "converged": chosen < num_steps, "step": chosen}
    metrics = {name: float(value) for name, value in metrics.items()}
    return Fitted(best, metrics | {"validation_accuracy": highest})

  return Classifier(init=init, loss=loss, logits=logits, score="unnormalised", fit=fit)
