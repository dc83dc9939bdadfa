"""The order in which training visits the examples: a function of the seed and the step alone."""

from collections.abc import Iterator

import numpy as np


def batches(
  seed: int, num_examples: int, batch_size: int, start_step: int = 0
) -> Iterator[np.ndarray]:
  """Endless batches of positions; started at any step, exactly the tail of the stream.

  Epoch e visits `np.random.default_rng([seed, e]).permutation(num_examples)`; what does not fill
  a batch at its end is left out of that epoch.

  Args:
    seed: the run's seed, >= 0.
    num_examples: N, size of the training split.
    batch_size: B, 1 <= B <= N.
    start_step: number of batches to leave out; costs at most one permutation.

  Returns:
    An iterator of [B] int32 positions (not dataset indices) in 0 .. N - 1.

  Raises:
    ValueError: if an argument is out of range (at once, not at the first batch).
  """
  if seed < 0:
    raise ValueError(f"seed must be >= 0, got {seed}")
  if not 1 <= batch_size <= num_examples:
    raise ValueError(
      f"batch_size must be in 1 .. {num_examples} (the number of examples), got {batch_size}"
    )
  if start_step < 0:
    raise ValueError(f"start_step must be >= 0, got {start_step}")
  return _stream(seed, num_examples, batch_size, start_step)


def _stream(seed: int, num_examples: int, batch_size: int, start_step: int) -> Iterator[np.ndarray]:
  epoch, skip = divmod(start_step, num_examples // batch_size)
  while True:
    order = np.random.default_rng([seed, epoch]).permutation(num_examples).astype(np.int32)
    for step in range(skip, num_examples // batch_size):
      yield order[step * batch_size : (step + 1) * batch_size]
    epoch, skip = epoch + 1, 0
