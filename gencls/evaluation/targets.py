"""The class that each image of a targeted attack shall end in.

  "next"          (y + 1) mod C
  "random"        uniform among the wrong classes, one draw per image
  "least_likely"  the wrong class of the smallest clean logit
  "most_likely"   the wrong class of the largest clean logit
  3               class 3; its own images are left out

An image without a target stays untouched, and no share of a targeted attack counts it.
"""

import functools

import jax
import numpy as np

from gencls.evaluation.grading import keys_for
from gencls.names import unknown_name
from gencls.types import Array, Keys

RULES = ("next", "random", "least_likely", "most_likely")
OF_LOGITS = ("least_likely", "most_likely")
LEFT_OUT = -1  # of an image without a target


def parse(text: str | int | None) -> str | int | None:
  """A target as configs write it: a class may be given by its digits."""
  return int(text) if isinstance(text, str) and text.isdecimal() else text


def check(target: str | int | None) -> None:
  """Raises ValueError for what is neither a rule nor a class; None is untargeted."""
  if target is None or (isinstance(target, int) and not isinstance(target, bool) and target >= 0):
    return
  if not isinstance(target, str):
    raise ValueError(f"target must be None, one of {RULES} or a class >= 0, got {target!r}")
  if target not in RULES:
    raise ValueError(f"{unknown_name('target', target, RULES)}, or a class: 0, 1, …")


def check_classes(target: str | int, num_classes: int) -> None:
  """Raises ValueError where a model of that many classes has no such target."""
  if num_classes < 2:
    raise ValueError(f"a targeted attack needs at least 2 classes, got {num_classes}")
  if isinstance(target, int) and target >= num_classes:
    raise ValueError(f"target must be < {num_classes}, the number of classes, got {target}")


def choose(
  target: str | int,
  labels: np.ndarray,
  indices: np.ndarray,
  num_classes: int,
  seed: int,
  logits: np.ndarray | None = None,
) -> np.ndarray:
  """The targets of a batch; each depends on its own image alone.

  Args:
    target: a name in `RULES`, or a class.
    labels: [B] integers.
    indices: [B] dataset indices.
    num_classes: C >= 2.
    seed: the evaluation's seed; "random" draws the same targets under both threat models.
    logits: [B, C] of the clean images, for `OF_LOGITS`.

  Returns:
    [B] int32, `LEFT_OUT` where there is none: images of the very class, and for `OF_LOGITS` those
    whose logits are not finite.
  """
  if isinstance(target, int):
    found = np.where(labels == target, LEFT_OUT, target)
  elif target == "next":
    found = (labels + 1) % num_classes
  elif target == "random":
    keys = keys_for(seed, indices, "attack", "target")
    found = (labels + 1 + np.asarray(_below(keys, num_classes - 1))) % num_classes
  else:
    assert logits is not None, f"target={target!r} needs the clean logits"
    found = _extreme(logits, labels, likely=target == "most_likely")
  return np.asarray(found, np.int32)


@functools.partial(jax.jit, static_argnames="num")
def _below(keys: Keys, num: int) -> Array:
  """[B] uniform in 0, …, num − 1."""
  return jax.vmap(lambda key: jax.random.randint(key, (), 0, num))(keys)


def _extreme(logits: np.ndarray, labels: np.ndarray, *, likely: bool) -> np.ndarray:
  own = np.arange(logits.shape[1])[None, :] == labels[:, None]
  wrong = np.where(own, -np.inf, logits if likely else -logits)
  finite = np.all(np.isfinite(logits), axis=1)
  return np.where(finite, np.argmax(wrong, axis=1), LEFT_OUT)


def share_in_target(
  prediction: np.ndarray, target: np.ndarray, accepted: np.ndarray | None = None
) -> np.ndarray:
  """[N] float32, the share of the draws that predict the target; 0 where there is none.

  Args:
    prediction: [N, G] integers; −1, the prediction of non-finite logits, is no class.
    target: [N] integers.
    accepted: [N, G] bool, by a detector that has to accept what counts; None: none has to.
  """
  hit = (prediction == target[:, None]) & (target >= 0)[:, None]
  hit = hit if accepted is None else hit & accepted
  return np.asarray(np.mean(hit, axis=1), np.float32)
