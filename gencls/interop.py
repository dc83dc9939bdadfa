"""Foolbox on our models: a `foolbox.JAXModel` of a `logits_fn`, and its attacks graded like ours.

Foolbox is optional and imported where it is used. Its attacks see a function of x alone, so the
keys are fixed and belong to one batch; its random numbers come from global generators, which are
seeded for each run and left as they were.

References:
  Rauber et al. 2020, Foolbox Native, doi:10.21105/joss.02607.
"""

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from gencls.evaluation.grading import forward
from gencls.names import unknown_name
from gencls.types import Array, Keys, LogitsFn

PREFIX = "foolbox:"


def is_foolbox(name: str) -> bool:
  """Whether an attack's name means one of Foolbox, "foolbox:<name in foolbox.attacks>"."""
  return name.startswith(PREFIX)


def _foolbox() -> Any:
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # it imports deprecated modules
      import foolbox  # noqa: PLC0415
  except ImportError as error:
    raise ImportError("Foolbox attacks need Foolbox: pip install foolbox==3.3.4") from error
  return foolbox


def version() -> str:
  """Foolbox's version.

  Raises:
    ImportError: if it is not installed.
  """
  return _foolbox().__version__


def to_foolbox(logits_fn: LogitsFn, keys: Keys) -> Any:
  """A Foolbox model of a classifier, with bounds (0, 1) and fixed keys.

  Args:
    logits_fn: (keys [B], x) -> [B, C], best a `jax.tree_util.Partial` of its parameters.
    keys: [B] typed keys; the model takes batches of exactly these B images, in this order.

  Returns:
    A `foolbox.JAXModel`; it raises ValueError for a batch of another size.

  Raises:
    ImportError: if Foolbox is not installed.
  """
  of = (
    logits_fn if isinstance(logits_fn, jax.tree_util.Partial) else jax.tree_util.Partial(logits_fn)
  )

  def model(x: Array) -> Array:
    if len(x) != len(keys):
      raise ValueError(
        f"this model has one fixed key for each of {len(keys)} images, got a batch of {len(x)}; "
        "attack the whole batch at once, or make a model of the keys of these images"
      )
    return forward(of, keys, x)

  return _foolbox().JAXModel(model, bounds=(0, 1))


def build(name: str, hyperparameters: dict[str, Any]) -> Any:
  """An attack of Foolbox, by "foolbox:<name>" and its constructor's arguments.

  Raises:
    ImportError: if Foolbox is not installed.
    ValueError: if there is no such attack or argument.
  """
  every, wanted = _classes(), name.removeprefix(PREFIX)
  if wanted not in every:
    raise ValueError(unknown_name("Foolbox attack", wanted, every))
  valid = inspect.signature(every[wanted]).parameters
  for given in hyperparameters:
    if given not in valid:
      raise ValueError(unknown_name(f"argument of {name}", given, valid))
  return every[wanted](**hyperparameters)


def takes_eps(name: str) -> bool:
  """Whether an attack of Foolbox has a fixed budget; if not, it minimises."""
  every, wanted = _classes(), name.removeprefix(PREFIX)
  if wanted not in every:
    raise ValueError(unknown_name("Foolbox attack", wanted, every))
  return not issubclass(every[wanted], _foolbox().attacks.base.MinimizationAttack)


def norm(name: str, hyperparameters: dict[str, Any]) -> str | None:
  """The norm that an attack of Foolbox bounds or minimises; None where it is told when it is built.

  Raises:
    ImportError: if Foolbox is not installed.
    ValueError: if there is no such attack or argument.
  """
  try:
    p = build(name, hyperparameters).distance.p
  except (NotImplementedError, AttributeError):
    return None
  except ValueError as error:
    if "distance" in str(error):  # contrast and blur have none unless they are given one
      return None
    raise
  return "linf" if np.isinf(p) else f"l{p:g}"


def _classes() -> dict[str, type]:
  attacks = _foolbox().attacks
  return {
    name: value
    for name, value in vars(attacks).items()
    if inspect.isclass(value) and issubclass(value, attacks.Attack) and value is not attacks.Attack
  }


def run(
  attack: Any,
  logits_fn: LogitsFn,
  keys: Keys,
  x: np.ndarray,
  y: np.ndarray,
  *,
  eps: float | None,
  seed: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Runs an attack of Foolbox, untargeted, on one batch.

  Args:
    attack: from `build`.
    logits_fn: (keys, x) -> [B, C].
    keys: [B] typed keys, fixed throughout.
    x: [B, H, W, D] float32 in [0, 1].
    y: [B] integers.
    eps: the budget; None for attacks that minimise.
    seed: of Foolbox's own random numbers.

  Returns:
    ([B, H, W, D] float32, what Foolbox calls raw or, with an eps, clipped; [B] bool, whether
    Foolbox calls it a success).
  """
  model = to_foolbox(logits_fn, keys)
  # It mixes ranks, and warns of things that are its own.
  with seeded(seed), warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
    warnings.simplefilter("ignore")
    labels = jax.numpy.asarray(y, jax.numpy.int32)
    raw, clipped, success = attack(model, jax.numpy.asarray(x), labels, epsilons=eps)
    found = raw if eps is None else clipped
    return np.asarray(found, np.float32), np.asarray(success, bool)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
  """Foolbox's global generators, EagerPy's key and NumPy's, seeded and then put back."""
  from eagerpy.tensor.jax import JAXTensor  # noqa: PLC0415

  generator: Any = JAXTensor
  key, state = generator.key, np.random.get_state()
  generator.key = jax.random.PRNGKey(seed)
  np.random.seed(seed)
  try:
    yield
  finally:
    generator.key = key
    np.random.set_state(state)
