"""The three tasks of `throughput.py` for both frameworks, each as a function to be timed.

A contender runs its task over all images in the batches of its variant; what a batch computed is
ready when its call returns. Both frameworks draw the samples' noise inside.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls.attacks import objective
from gencls.data import to_float
from gencls.keys import example_keys, fold
from gencls.training import optimizers
from gencls.training.step import DeviceData, Sums, initial_state, make_step, metric_names
from gencls.types import Classifier, Goal, Params

LEARNING_RATE = 1e-4
LOSSES = ("cross_entropy", "margin")
GRADIENTS = tuple(f"input gradient of {loss}" for loss in LOSSES)
TASKS = ("prediction", *GRADIENTS, "training step")


class Problem(NamedTuple):
  """What both frameworks work on."""

  classifier: Classifier
  params: Params
  images: np.ndarray  # [N, 28, 28, 1] uint8
  labels: np.ndarray  # [N] int32
  num_images: int  # of prediction and gradient: the first ones
  train_batch: int
  num_samples: int
  batches: tuple[int, ...]  # candidates for prediction and gradient
  seed: int

  @property
  def x(self) -> np.ndarray:
    """[num_images, 28, 28, 1] float32."""
    return np.asarray(to_float(self.images[: self.num_images], 256))

  @property
  def indices(self) -> np.ndarray:
    """[num_images] dataset indices."""
    return np.arange(self.num_images, dtype=np.int32)


class Contender(NamedTuple):
  """A framework's way to do a task."""

  variant: str
  batch: Callable[[int], None]  # does the i-th batch
  num_batches: int = 1

  def warm_up(self) -> None:
    """Compiles; all batches have one shape."""
    self.batch(0)

  def run(self) -> None:
    """The whole task."""
    for i in range(self.num_batches):
      self.batch(i)


def pieces(total: int, size: int) -> list[slice]:
  """The slices of equal batches."""
  return [slice(start, start + size) for start in range(0, total, size)]


_forward = jax.jit(lambda logits_fn, keys, x: logits_fn(keys, x))
_query = jax.jit(objective.query)


def our_logits(problem: Problem) -> np.ndarray:
  """[N, C], in one batch."""
  logits_fn = Partial(problem.classifier.logits, problem.params)
  keys = example_keys(problem.seed, problem.indices)
  return np.asarray(_forward(logits_fn, keys, problem.x))


def _our_query(problem: Problem, rows: slice, loss: str) -> tuple[Any, ...]:
  """The arguments of an attack's query."""
  logits_fn = Partial(problem.classifier.logits, problem.params)
  labels = jnp.asarray(problem.labels[rows])
  return (
    objective.build(logits_fn, loss=loss),
    example_keys(problem.seed, problem.indices[rows]),
    jnp.zeros(len(labels), jnp.int32),
    jnp.asarray(problem.x[rows]),
    Goal(labels, jnp.full_like(labels, -1)),
  )


def our_gradient(problem: Problem, loss: str) -> np.ndarray:
  """[N, 28, 28, 1], in one batch."""
  return np.asarray(_query(*_our_query(problem, slice(0, problem.num_images), loss)).gradient)


def our_mean_loss(problem: Problem) -> tuple[float, float]:
  """Mean training loss of the first batch at step 0, and the norm of its gradient."""
  rows = slice(0, problem.train_batch)
  x = jnp.asarray(to_float(problem.images[rows], 256))
  keys = training_keys(problem)

  @jax.jit
  def evaluate(params: Params) -> tuple[Any, Any]:
    def mean_loss(params: Params) -> Any:
      y = jnp.asarray(problem.labels[rows])
      return jnp.mean(problem.classifier.loss(params, keys, x, y, jnp.int32(0)).total)

    value, grads = jax.value_and_grad(mean_loss)(params)
    return value, jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grads)))

  value, norm = evaluate(problem.params)
  return float(value), float(norm)


def training_keys(problem: Problem) -> Any:
  """[train_batch] the keys of the first step."""
  indices = jnp.arange(problem.train_batch, dtype=jnp.int32)
  return fold(example_keys(problem.seed, indices, "train"), 0)


def ours(problem: Problem) -> dict[str, list[Contender]]:
  """Our contenders by task."""
  logits_fn = Partial(problem.classifier.logits, problem.params)
  found: dict[str, list[Contender]] = {task: [] for task in TASKS}
  for size in problem.batches:
    rows = pieces(problem.num_images, size)
    queries = [[_our_query(problem, some, loss) for some in rows] for loss in LOSSES]

    def predict(i: int, queries: list = queries[0]) -> None:
      _, keys, _, x, _ = queries[i]
      jax.block_until_ready(_forward(logits_fn, keys, x))

    variant = f"batches of {size}"
    found["prediction"].append(Contender(variant, predict, len(rows)))
    for task, of_loss in zip(GRADIENTS, queries, strict=True):

      def gradient(i: int, queries: list = of_loss) -> None:
        jax.block_until_ready(_query(*queries[i]))

      found[task].append(Contender(variant, gradient, len(rows)))
  for variant, size in training_variants(problem.train_batch):
    found["training step"].append(Contender(variant, our_training_step(problem, size)))
  return found


def training_variants(batch: int) -> list[tuple[str, int]]:
  """(name, micro-batch size): the whole batch, its halves and its quarters."""
  sizes = [batch // parts for parts in (1, 2, 4) if batch % parts == 0]
  suffix = {size: f", micro-batches of {size}" for size in sizes[1:]}
  return [(f"batch of {batch}{suffix.get(size, '')}", size) for size in sizes]


def our_training_step(problem: Problem, micro_batch_size: int) -> Callable[[int], None]:
  """A step as `train.py` makes it: gather, noise, gradient, Adam, metrics; the state is donated."""
  adam = optimizers.build(learning_rate=LEARNING_RATE)
  names = metric_names(problem.classifier, problem.params, problem.images.shape[1:])
  step = jax.jit(
    make_step(
      names,
      num_levels=256,
      classifier=problem.classifier,
      optimizer=adam,
      seed=problem.seed,
      steps_per_epoch=1,
      ema_decay=None,
      micro_batch_size=micro_batch_size,
    ),
    donate_argnums=(0, 1),
  )
  fixed = problem.classifier._replace(init=lambda key, x, y: jax.tree.map(jnp.copy, problem.params))
  key = jax.random.key(0)
  state = initial_state(fixed, adam, key, jnp.zeros(()), jnp.zeros(()), ema=False)
  sums = Sums(jnp.zeros(len(names)), jnp.zeros(len(names), jnp.int32))
  indices = np.arange(len(problem.labels), dtype=np.int32)
  data = DeviceData(*map(jnp.asarray, (problem.images, problem.labels, indices)))
  positions = jnp.arange(problem.train_batch)
  carry: list[Any] = [state, sums]

  def batch(i: int) -> None:
    del i
    carry[:] = step(carry[0], carry[1], data, positions)
    jax.block_until_ready(carry)

  return batch


def batch_sizes(num_images: int) -> tuple[int, ...]:
  """Candidates that divide the images evenly: everything at once, a tenth and a twentieth of it."""
  return tuple(sorted({num_images // math.gcd(num_images, part) for part in (1, 10, 20)}))
