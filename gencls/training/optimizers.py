"""Adam or SGD with warm-up, a schedule, and optional clipping and decoupled weight decay."""

import optax

from gencls.names import unknown_name

SCHEDULES = ("constant", "cosine")
OPTIMIZERS = ("adam", "sgd")


def learning_rates(
  *, learning_rate: float, schedule: str, warmup_steps: int, total_steps: int
) -> optax.Schedule:
  """The learning rate as a function of the step.

  Args:
    learning_rate: the highest rate, > 0.
    schedule: "constant", or "cosine" (falls to zero at `total_steps`).
    warmup_steps: steps of linear rise from zero, >= 0.
    total_steps: steps of the whole training.

  Returns:
    An optax schedule.

  Raises:
    ValueError: if a number is out of range or the schedule is unknown.
  """
  if schedule not in SCHEDULES:
    raise ValueError(unknown_name("train.schedule", schedule, SCHEDULES))
  if not learning_rate > 0:
    raise ValueError(f"train.learning_rate must be > 0, got {learning_rate}")
  if warmup_steps < 0:
    raise ValueError(f"train.warmup_steps must be >= 0, got {warmup_steps}")
  if schedule == "constant":
    after = optax.constant_schedule(learning_rate)
  else:
    after = optax.cosine_decay_schedule(learning_rate, max(1, total_steps - warmup_steps))
  if not warmup_steps:
    return after
  # Rises from 1/warmup_steps, not from 0: a first step of zero would be lost.
  first = learning_rate / warmup_steps
  warmup = optax.linear_schedule(first, learning_rate, max(1, warmup_steps - 1))
  return optax.join_schedules([warmup, after], [warmup_steps])


def build(
  *,
  learning_rate: float,
  optimizer: str = "adam",
  momentum: float = 0.0,
  schedule: str = "constant",
  warmup_steps: int = 0,
  total_steps: int = 1,
  weight_decay: float = 0.0,
  grad_clip: float | None = None,
) -> optax.GradientTransformation:
  """Adam (with weight decay: AdamW) or SGD behind an optional clip of the global gradient norm.

  Args:
    learning_rate: the highest rate, > 0.
    optimizer: "adam" or "sgd".
    momentum: of "sgd", in [0, 1): v <- momentum · v + gradient.
    schedule: "constant" or "cosine".
    warmup_steps: steps of linear rise, >= 0.
    total_steps: steps of the whole training, which end the cosine.
    weight_decay: decoupled decay per step, times the learning rate; >= 0.
    grad_clip: largest global gradient norm, > 0, or None.

  Returns:
    An optax transformation.

  Raises:
    ValueError: if a number is out of range or a name is unknown.
  """
  if optimizer not in OPTIMIZERS:
    raise ValueError(unknown_name("train.optimizer", optimizer, OPTIMIZERS))
  if not 0 <= momentum < 1 or (momentum and optimizer != "sgd"):
    raise ValueError(
      f'train.momentum must be in [0, 1), and 0 unless train.optimizer is "sgd", got {momentum} '
      f"for {optimizer!r}"
    )
  rates = learning_rates(
    learning_rate=learning_rate,
    schedule=schedule,
    warmup_steps=warmup_steps,
    total_steps=total_steps,
  )
  if weight_decay < 0:
    raise ValueError(f"train.weight_decay must be >= 0, got {weight_decay}")
  if grad_clip is not None and not grad_clip > 0:
    raise ValueError(f"train.grad_clip must be > 0, or None for no clipping, got {grad_clip}")
  return optax.chain(
    optax.identity() if grad_clip is None else optax.clip_by_global_norm(grad_clip),
    optax.trace(momentum) if optimizer == "sgd" else optax.scale_by_adam(),
    optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
    optax.scale_by_learning_rate(rates),
  )
