"""One training step, a pure function of what lies on the device."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gencls.data import to_float
from gencls.keys import example_keys, fold, purpose_key
from gencls.logs import metric_name
from gencls.names import unknown_name
from gencls.types import Array, Classifier, Key, Keys, Params


class TrainState(NamedTuple):
  """Everything that a checkpoint must hold to continue bit for bit; randomness is in the seed."""

  step: Array  # int32, steps done
  params: Params
  ema: Params | None  # moving average of params, or None
  opt_state: optax.OptState

  def evaluated(self) -> Params:
    """The parameters to validate and to test: the moving average where there is one."""
    return self.params if self.ema is None else self.ema


class DeviceData(NamedTuple):
  """A split on the device, replicated; batches are positions in it."""

  images: Array  # [N, H, W, D] uint8
  labels: Array  # [N] int32
  indices: Array  # [N] int32, dataset indices: they seed the examples' randomness


class Sums(NamedTuple):
  """Metrics summed over steps on the device, so that the host waits only at log points."""

  total: Array  # [M] float32
  first_bad: Array  # [M] int32, the step at which it first was not finite; 0: never


StepFn = Callable[[TrainState, Sums, DeviceData, Array], tuple[TrainState, Sums]]


def gather(data: DeviceData, positions: Array, num_levels: int) -> tuple[Array, Array, Array]:
  """A batch: x [B, H, W, D] float32 in [0, 1], y [B], dataset indices [B]."""
  x = to_float(data.images[positions], num_levels)
  return x, data.labels[positions], data.indices[positions]


def merge_updates(params: Params, updates: Any) -> Params:
  """Replaces the leaves of `params` that `updates` names.

  Paths decide, not containers: `updates` is a pytree whose leaves lie at the same paths as the
  leaves they replace, as nested dicts for example {"encoder": {"mean": new}}; {} changes nothing.

  Args:
    params: the parameters.
    updates: new values of some leaves, of the same shape; cast to the old dtype.

  Returns:
    Parameters of the same structure.

  Raises:
    ValueError: if a path or a shape does not fit.
  """
  leaves, structure = jax.tree_util.tree_flatten_with_path(params)
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
  merged = dict(zip(names, (leaf for _, leaf in leaves), strict=True))
  for path, new in jax.tree_util.tree_leaves_with_path(updates):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if name not in merged:
      raise ValueError(unknown_name("parameter in Loss.updates", name, names))
    if jnp.shape(new) != merged[name].shape:
      raise ValueError(
        f"Loss.updates must keep shapes: {name} is {merged[name].shape}, got {jnp.shape(new)}"
      )
    merged[name] = jnp.asarray(new, merged[name].dtype)
  return jax.tree.unflatten(structure, [merged[name] for name in names])


def initial_state(
  classifier: Classifier,
  optimizer: optax.GradientTransformation,
  key: Key,
  x: Array,
  y: Array,
  *,
  ema: bool,
) -> TrainState:
  """The state before the first step, from a real training batch."""
  params = classifier.init(key, x, y)
  # A copy: the state is donated, and one buffer cannot be given away twice.
  average = jax.tree.map(jnp.copy, params) if ema else None
  return TrainState(jnp.int32(0), params, average, optimizer.init(params))


def train_step(
  state: TrainState,
  x: Array,
  y: Array,
  indices: Array,
  *,
  classifier: Classifier,
  optimizer: optax.GradientTransformation,
  seed: int,
  steps_per_epoch: int,
  ema_decay: float | None,
  micro_batch_size: int | None = None,
) -> tuple[TrainState, dict[str, Array]]:
  """One step down the gradient of the batch's mean loss.

  Args:
    state: before the step.
    x: [B, H, W, D] float32 in [0, 1].
    y: [B] int32.
    indices: [B] dataset indices.
    classifier: what is trained.
    optimizer: an optax transformation.
    seed: of the run.
    steps_per_epoch: an example draws new noise each time it comes up, once an epoch.
    ema_decay: of the moving average of the parameters, or None.
    micro_batch_size: examples whose gradient is computed at once, a divisor of B; None: all. The
      mean is the same but for rounding; dropout masks and noise belong to the examples.

  Returns:
    The state after the step, and metric -> batch mean (scalars): every loss term, "grad_norm" and
    "loss", in nats where the name says nothing else.
  """
  keys = fold(example_keys(seed, indices, "train"), state.step // steps_per_epoch)

  def mean_loss(params: Params, keys: Keys, x: Array, y: Array) -> tuple[Array, Any]:
    loss = classifier.loss(params, keys, x, y, state.step)
    return jnp.mean(loss.total), (jax.tree.map(jnp.mean, loss.terms), loss.updates)

  gradient = functools.partial(jax.value_and_grad(mean_loss, has_aux=True), state.params)
  (loss, (terms, updates)), grads = mean_over_parts(gradient, (keys, x, y), micro_batch_size)
  steps, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = merge_updates(optax.apply_updates(state.params, steps), updates)
  ema = state.ema
  if ema_decay is not None:
    # The average of the first steps must not remember the initial parameters for 1/(1 - decay).
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
  metrics = {**terms, "grad_norm": optax.tree.norm(grads), "loss": loss}
  return TrainState(state.step + 1, params, ema, opt_state), metrics


def mean_over_parts(f: Callable[..., Any], batch: tuple[Array, ...], size: int | None) -> Any:
  """The mean of f over parts of a batch, one part after the other.

  Part i has the examples i, i + n, i + 2n, ...: each device gives its share of every part.

  Args:
    f: maps arrays [size, ...] to a pytree of means over the part.
    batch: arrays [B, ...].
    size: examples in a part, a divisor of B; None: f of the whole batch.

  Returns:
    What f returns.
  """
  parts = 1 if size is None else len(batch[0]) // size
  if parts == 1:
    return f(*batch)
  split = [jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0) for leaf in batch]

  def add(mean: Any, numbered: tuple[Array, Any]) -> tuple[Any, None]:
    # A running mean, not a sum: what is the same in every part stays as it is, bit for bit.
    number, part = numbered
    return jax.tree.map(lambda old, new: old + (new - old) / number, mean, f(*part)), None

  zeros = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(f, *(leaf[0] for leaf in split)),
  )
  return jax.lax.scan(add, zeros, (jnp.arange(1.0, parts + 1), split))[0]


def metric_names(
  classifier: Classifier, params: Params, image_shape: Sequence[int]
) -> tuple[str, ...]:
  """Names of the summed metrics in the order of `Sums`, the loss terms first."""

  def terms(params: Params) -> dict[str, Array]:
    x, y = jnp.zeros((2, *image_shape)), jnp.zeros(2, jnp.int32)
    return classifier.loss(params, example_keys(0, y, "train"), x, y, jnp.int32(0)).terms

  return (*sorted(jax.eval_shape(terms, params)), "grad_norm", "loss")


def log_names(group: str, names: Sequence[str]) -> tuple[str, ...]:
  """The keys under which metrics are logged, with their units."""
  return tuple(metric_name(group, name) for name in names)


def make_step(names: Sequence[str], *, num_levels: int, **settings: Any) -> StepFn:
  """`train_step` over positions, with its metrics summed on the device; not jitted.

  Args:
    names: from `metric_names`.
    num_levels: grey levels of the images.
    **settings: keyword arguments of `train_step`.

  Returns:
    (state, sums, data, positions) -> (state, sums).
  """

  def step(
    state: TrainState, sums: Sums, data: DeviceData, positions: Array
  ) -> tuple[TrainState, Sums]:
    x, y, indices = gather(data, positions, num_levels)
    state, metrics = train_step(state, x, y, indices, **settings)
    values = jnp.stack([metrics[name] for name in names])
    bad = jnp.where(jnp.isfinite(values) | (sums.first_bad > 0), sums.first_bad, state.step)
    return state, Sums(sums.total + values, bad)

  return step


def init_key(seed: int) -> Key:
  """The key of a run's initial parameters."""
  return purpose_key(seed, "init")
