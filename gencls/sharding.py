"""One mesh axis, "data": parameters and data sets are replicated, batches are split.

Arrays are made by callback from host values that every process holds, so that the same code runs
on one device, on several, and in several processes.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gencls.types import Array

AXIS = "data"


def data_mesh() -> Mesh:
  """A mesh of all devices of all processes with the one axis "data"."""
  # Auto, not the default Explicit: there a gather of a subset of a split array raises.
  return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of parameters, data sets and metrics: whole on every device."""
  return NamedSharding(mesh, P())


def split(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: its leading axis over all devices."""
  return NamedSharding(mesh, P(AXIS))


def put(tree: Any, sharding: NamedSharding) -> Any:
  """Puts host arrays, the same in every process, on the devices.

  Args:
    tree: pytree of host arrays.
    sharding: `replicated(mesh)` or `split(mesh)`.

  Returns:
    The pytree as global `jax.Array`s.
  """

  def place(leaf: Any) -> Array:
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

  return jax.tree.map(place, tree)


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
  """Refuses a batch that cannot be split evenly over the mesh.

  Args:
    name: the config field, for the message.
    batch_size: examples in the global batch.
    mesh: from `data_mesh`.

  Raises:
    ValueError: if `batch_size` is not a positive multiple of the number of devices.
  """
  if batch_size < 1 or batch_size % mesh.size:
    below = max(mesh.size, batch_size // mesh.size * mesh.size)
    raise ValueError(
      f"{name} must be a positive multiple of the number of devices ({mesh.size}), "
      f"got {batch_size}: use for instance {below}"
    )


def part_size(batch_size: int, limit: int, mesh: Mesh) -> int:
  """The largest equal parts of a batch that the mesh can split evenly.

  Args:
    batch_size: examples in the global batch, a multiple of the number of devices.
    limit: most examples in a part.
    mesh: from `data_mesh`.

  Returns:
    A divisor of `batch_size`, at most `limit`.

  Raises:
    ValueError: if `limit` is below the number of devices.
  """
  sizes = range(mesh.size, min(limit, batch_size) + 1, mesh.size)
  fitting = [size for size in sizes if batch_size % size == 0]
  if not fitting:
    raise ValueError(
      f"train.micro_batch_size must be at least the number of devices ({mesh.size}), got {limit}"
    )
  return fitting[-1]
