"""Ensembles: attacks one after the other, each on the examples that still stand.

A cascade judges by one predicate, that of its `judge`: what is wrong before any attack counts as
broken, and so does the first result in the ball that succeeds. The result is the worst case per
example, in which a single attack of the sequence is enough.

Under fresh randomness a success is a majority of draws, and grading a mean over others: there every
member attacks every example, and the result is the success of the largest loss over all members.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks import geometry as geometries
from gencls.attacks import programs
from gencls.attacks.geometry import Geometry
from gencls.attacks.norms import tolerance
from gencls.attacks.objective import class_scores, is_fresh
from gencls.keys import fold
from gencls.types import Array, Attack, Goal, Keys, Objective

STANDS, CLEAN = -1, 0  # values of `broken_by`; a member's are 1, 2, …
JUDGE_STEP = 2**31 - 1  # the query count of judging, which no attack reaches: draws of its own
KEY_EFFECT = 1e-4  # relative change of the logits from which a model counts as randomised


class Cascade(NamedTuple):
  """A sequence of attacks under one predicate; `attacks.run` runs it like an attack."""

  names: tuple[str, ...]
  attacks: tuple[Attack, ...]
  judge: Objective  # its success counts; its loss chooses what is returned where nothing succeeds
  ball: Geometry  # results outside, of minimum-norm members, do not count
  tolerance: Array  # [] float32, what a result's norm may exceed eps by
  num_classes: int | None = None  # of the model, where the members were built for a number

  @property
  def num_steps(self) -> int:
    """Steps of all members together."""
    return sum(attack.num_steps for attack in self.attacks)


def sequence(
  members: Sequence[tuple[str, Attack]],
  judge: Objective,
  *,
  norm: str,
  eps: float,
  num_classes: int | None = None,
) -> Cascade:
  """A `Cascade` of any attacks.

  Args:
    members: (name, attack), in the order in which they run. Minimum-norm attacks count where their
      result is within eps.
    judge: the objective whose predicate decides, see `objective.build`.
    norm: a name in `geometry.GEOMETRIES`, of the ball that results have to be in.
    eps: radius of the ball.
    num_classes: of the model, if `run` shall check it.

  Returns:
    A `Cascade`.

  Raises:
    ValueError: if there are no members, two have one name, or norm or eps is out of its range.
  """
  names = tuple(name for name, _ in members)
  if not names or len(set(names)) < len(names):
    raise ValueError(f"a cascade needs members with different names, got {list(names)}")
  ball = geometries.build(norm, eps)
  slack = jnp.float32(tolerance(norm, eps))
  attacks = tuple(attack for _, attack in members)
  return Cascade(names, attacks, judge, ball, slack, num_classes)


class Standing(NamedTuple):
  """Where the examples of a cascade stand; NumPy arrays, filled in place."""

  x_adv: np.ndarray  # [N, H, W, D] the success, else the result in the ball, of the largest loss
  loss: np.ndarray  # [N] its loss, by the judge
  broken_by: np.ndarray  # [N] int32: −1 stands, 0 was wrong before, i broken first by member i


def run(
  cascade: Cascade,
  attack_rows: Callable[[int, np.ndarray], np.ndarray],
  keys: Keys,
  x: Array,
  goal: Goal,
  tally: Any,
  batch_size: int,
  max_queries: int,
) -> Standing:
  """Runs the members, each over the examples that still stand; under fresh draws over all.

  Args:
    cascade: the sequence.
    attack_rows: (place of the member, rows [M]) -> x_adv [N, H, W, D], attacks the examples `rows`
      and adds to their counts in `tally`; the other rows of x_adv do not matter.
    keys: [N] typed keys.
    x: [N, H, W, D] the clean images.
    goal: what the attack is after.
    tally: the empty `Tally` of all examples, NumPy arrays that are filled in place.
    batch_size: examples that are judged at a time.
    max_queries: passes from which on an example is left alone.

  Returns:
    A `Standing`.

  Raises:
    ValueError: if the model returns probabilities, or has another number of classes than the
      members were built for.
  """
  goal = goal._replace(start=None, clean=None)
  if len(x):
    first = jnp.asarray(np.resize(np.arange(min(len(x), batch_size)), batch_size))  # of one shape
    _check_model(cascade, *programs.take((keys, x, goal), first))
  judge = functools.partial(_verdicts, cascade, keys, x, goal, tally, batch_size)
  every = np.arange(len(x))
  loss, wrong = judge(np.asarray(x), every)
  now = Standing(np.array(x), loss, np.where(wrong, CLEAN, STANDS).astype(np.int32))
  unfinished = np.zeros(len(x), bool)
  for place in range(len(cascade.attacks)):
    rows = every if is_fresh(cascade.judge) else np.flatnonzero(now.broken_by == STANDS)
    spent = (tally.forward + tally.backward)[rows] >= max_queries
    rows = rows[~spent]
    if not rows.size:
      continue
    backward = np.sum(tally.backward)
    x_adv = attack_rows(place, rows)
    unfinished[rows] |= ~tally.done[rows]
    loss, broken = judge(x_adv, rows)
    stood = now.broken_by[rows] == STANDS
    better = (broken & stood) | ((broken | stood) & (loss > now.loss[rows]))
    now.x_adv[rows[better]], now.loss[rows[better]] = x_adv[rows[better]], loss[better]
    now.broken_by[rows[broken & stood]] = place + 1
    _warn_of_masking(cascade.names[place], np.sum(tally.backward) > backward, broken[stood], place)
  stands = now.broken_by == STANDS
  tally.loss[:], tally.success[:], tally.done[:] = now.loss, ~stands, ~(stands & unfinished)
  _warn_of_zero_gradients(tally.zero_gradient[stands])
  return now


@jax.jit
def _judge(
  cascade: tuple[Objective, Geometry, Array], keys: Keys, x_adv: Array, x: Array, goal: Goal
) -> tuple[Array, Array]:
  """(loss [B], −inf where it does not count; success [B])."""
  judge, ball, slack = cascade
  step = jnp.full(x.shape[:1], JUDGE_STEP, jnp.int32)
  loss, success = judge(keys, step, x_adv, goal)
  inside = ball.norm(x_adv - x) <= ball.eps + slack
  return jnp.where(inside & jnp.isfinite(loss), loss, -jnp.inf), success & inside


def _verdicts(
  cascade: Cascade,
  keys: Keys,
  x: Array,
  goal: Goal,
  tally: Any,
  batch_size: int,
  x_adv: np.ndarray,
  rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """(loss [M], success [M]) of the examples `rows`, in padded batches of one size."""
  judging, verdicts = (cascade.judge, cascade.ball, cascade.tolerance), []
  for first in range(0, len(rows), batch_size):
    chosen = np.resize(rows[first : first + batch_size], batch_size)
    mine = programs.take((keys, x, goal), jnp.asarray(chosen))
    verdicts.append(_judge(judging, mine[0], x_adv[chosen], *mine[1:]))
  tally.forward[rows] += 1
  loss, success = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(rows)], *verdicts)
  return loss, success


@jax.jit
def _scores(judge: Objective, keys: Keys, x: Array, goal: Goal) -> Array:
  return class_scores(judge, keys, jnp.zeros(x.shape[:1], jnp.int32), x, goal)[0]


def _check_model(cascade: Cascade, keys: Keys, x: Array, goal: Goal) -> None:
  """Refuses probabilities and another number of classes; warns of a model with a known seed."""
  if "logits_fn" not in getattr(cascade.judge, "keywords", {}):
    return  # not an objective of the logits
  logits = np.asarray(_scores(cascade.judge, keys, x, goal))
  if cascade.num_classes not in (None, logits.shape[1]):
    raise ValueError(
      f"num_classes={cascade.num_classes}, but the model has {logits.shape[1]} logits; build the "
      f"ensemble with num_classes={logits.shape[1]}"
    )
  if np.all(logits >= 0) and np.allclose(np.sum(logits, axis=1), 1.0, atol=1e-3):
    raise ValueError(
      "logits_fn seems to return probabilities (all rows are >= 0 and sum to 1), whose gradients "
      "vanish: return logits in nats"
    )
  others = np.asarray(_scores(cascade.judge, fold(keys, "other"), x, goal))
  if not is_fresh(cascade.judge) and np.max(np.abs(others - logits)) > KEY_EFFECT * np.max(
    np.abs(logits)
  ):
    warnings.warn(
      "the model is randomised, and with randomness='fixed' the attack knows each example's draw; "
      "for new draws use randomness='fresh' (version='rand' of auto_attack)",
      stacklevel=4,
    )


def _warn_of_masking(name: str, has_gradients: bool, broken: np.ndarray, place: int) -> None:
  if place and not has_gradients and np.any(broken):
    warnings.warn(
      f"{name}, which sees no gradients, broke {np.sum(broken)} of {len(broken)} examples that the "
      "attacks before it had left: the gradients may be masked",
      stacklevel=4,
    )


def _warn_of_zero_gradients(steps: np.ndarray) -> None:
  """`steps`: per standing example, those whose input gradient was exactly zero."""
  if np.any(steps):
    warnings.warn(
      f"{np.sum(steps > 0)} of {len(steps)} standing examples had an input gradient of exactly "
      f"zero, in up to {np.max(steps)} steps: the gradient attacks say little of them",
      stacklevel=4,
    )
