"""Grading what an attack returned: back into ball and box, predict again, choose the worst.

An attack never grades itself. The geometry here is NumPy in float64 and shares no code with the
attacks but the reading of norms' names: "linf", "l2", "l1", "l0", or any other ℓp as "l3".
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.attacks.norms import TOLERANCE, order, tolerance
from gencls.evaluation import acceptance
from gencls.evaluation.acceptance import Verdict
from gencls.keys import example_keys, fold
from gencls.names import unknown_name
from gencls.types import Accept, Array, Keys, LogitsFn

THREATS = ("known_seed", "fresh_seed")
MIN_FRESH_DRAWS = 20
NO_PREDICTION = -1  # of a row with non-finite logits: no class, so never right


class Graded(NamedTuple):
  """Predictions for a batch, under the draws that choose and the draws that count."""

  prediction: np.ndarray  # [B, G] int32 on the grade draws, -1 where a logit was not finite
  correct: np.ndarray  # [B] float32, share of the grade draws that are right
  select_correct: np.ndarray  # [B] float32, share of the select draws that are right
  logits: np.ndarray  # [B, C] float32 of the first grade draw
  select_margin: np.ndarray  # [B] float32, mean of z_y − max other over the select draws, nats
  verdict: Verdict | None = None  # of the detector, if there is one


def check_draws(threat: str, select_draws: int, grade_draws: int) -> None:
  """Raises ValueError where the numbers of draws do not fit the threat model."""
  if threat not in THREATS:
    raise ValueError(unknown_name("threat model", threat, THREATS))
  if threat == "known_seed" and (select_draws, grade_draws) != (1, 1):
    raise ValueError(
      "known_seed is one deterministic classifier: select_draws and grade_draws must be 1, got "
      f"{select_draws} and {grade_draws}; for a mean over draws use threat='fresh_seed'"
    )
  if threat == "fresh_seed" and (grade_draws < MIN_FRESH_DRAWS or select_draws < 1):
    raise ValueError(
      f"fresh_seed needs grade_draws >= {MIN_FRESH_DRAWS} and select_draws >= 1, got "
      f"{grade_draws} and {select_draws}"
    )


@functools.partial(jax.jit, static_argnames=("seed", "purpose", "names"))
def _keys_for(
  seed: int, indices: Array, purpose: str, names: tuple[str, ...], draws: Array
) -> Keys:
  return fold(example_keys(seed, indices, purpose), *names, *draws)


def keys_for(seed: int, indices: np.ndarray, purpose: str, *path: int | str) -> Keys:
  """[B] the keys of a purpose, folded with names and then numbers; one small program each."""
  names = tuple(item for item in path if isinstance(item, str))
  draws = np.array([item for item in path if not isinstance(item, str)], np.uint32)
  return _keys_for(seed, jnp.asarray(indices), purpose, names, jnp.asarray(draws))


def attack_keys(threat: str, seed: int, indices: np.ndarray) -> Keys:
  """[B] the keys that the attack gets: those of grading (known seed) or its own (fresh seed)."""
  return keys_for(seed, indices, "grade" if threat == "known_seed" else "attack")


def draw_keys(threat: str, seed: int, indices: np.ndarray, purpose: str, draw: int) -> Keys:
  """[B] the keys of one select or grade draw; under a known seed the one key of grading."""
  if threat == "known_seed":
    return keys_for(seed, indices, "grade")
  return keys_for(seed, indices, purpose, draw)


@jax.jit
def forward(logits_fn: LogitsFn, keys: Keys, x: Array) -> Array:
  """Logits, [B, C] float32; compiled once per batch size (the parameters are leaves)."""
  return logits_fn(keys, x)


def predict(logits: np.ndarray) -> np.ndarray:
  """[B] int32, the class of the largest logit; -1 for a row that is not finite."""
  finite = np.all(np.isfinite(logits), axis=1)
  return np.where(finite, np.argmax(logits, axis=1), NO_PREDICTION).astype(np.int32)


def margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[B] float64, z_y − max_{c≠y} z_c; −inf for a row that is not finite, which is never right."""
  z = np.array(logits, np.float64)
  rows = np.arange(len(z))
  own = z[rows, labels]
  z[rows, labels] = -np.inf
  finite = np.all(np.isfinite(logits), axis=1)
  return np.where(finite, own, -np.inf) - np.where(finite, np.max(z, axis=1), 0.0)


def _share(right: np.ndarray, axis: int) -> np.ndarray:
  return np.asarray(np.mean(right, axis=axis), np.float32)


def _draws(
  logits_fn: LogitsFn,
  x: np.ndarray,
  indices: np.ndarray,
  threat: str,
  seed: int,
  purpose: str,
  count: int,
) -> tuple[list[Keys], list[np.ndarray]]:
  """The keys and logits of each draw; dispatched together, then fetched: no device waits."""
  every = [draw_keys(threat, seed, indices, purpose, draw) for draw in range(count)]
  pending = [forward(logits_fn, keys, jnp.asarray(x)) for keys in every]
  return every, [np.asarray(z) for z in pending]


def share_right(
  logits_fn: LogitsFn,
  x: np.ndarray,
  labels: np.ndarray,
  indices: np.ndarray,
  *,
  threat: str,
  seed: int,
  purpose: str,
  draws: int,
  accept: Accept | None = None,
  reached: bool = False,
) -> np.ndarray:
  """[B] float32, the share of the draws of one purpose that are right; else as `grade`.

  With a detector the share that are right or rejected, or with `reached`, where the labels are
  targets, of those that are right and accepted.
  """
  keys, logits = _draws(logits_fn, x, indices, threat, seed, purpose, draws)
  right = np.stack([predict(z) == labels for z in logits], axis=1)
  if accept is None:
    return _share(right, axis=1)
  scores = acceptance.scores(accept, keys, x, logits)
  if reached:
    return _share(right & acceptance.accepts(scores), axis=1)
  return acceptance.held(right, scores)


def grade(
  logits_fn: LogitsFn,
  x: np.ndarray,
  labels: np.ndarray,
  indices: np.ndarray,
  *,
  threat: str,
  seed: int,
  select_draws: int,
  grade_draws: int,
  accept: Accept | None = None,
) -> Graded:
  """Predicts a batch under the select and the grade draws of its threat model.

  Args:
    logits_fn: (keys, x) -> [B, C], a pytree whose leaves are the parameters.
    x: [B, H, W, D] float32 in [0, 1].
    labels: [B] integers.
    indices: [B] dataset indices.
    threat: one of `THREATS`.
    seed: the evaluation's seed.
    select_draws: draws that choose among candidates.
    grade_draws: draws that are reported.
    accept: a detector; it judges the logits of the same draws.

  Returns:
    A `Graded`.
  """

  draws = functools.partial(_draws, logits_fn, x, indices, threat, seed)
  graded_on = draws("grade", grade_draws)
  chosen_on = graded_on if threat == "known_seed" else draws("select", select_draws)
  graded, chosen = graded_on[1], chosen_on[1]
  prediction = np.stack([predict(logits) for logits in graded], axis=1)
  right = prediction == labels[:, None]
  select = np.stack([predict(logits) == labels for logits in chosen], axis=1)
  margins = np.stack([margin(logits, labels) for logits in chosen], axis=1)
  verdict = None
  if accept is not None:
    score = acceptance.scores(accept, graded_on[0], x, graded)
    known = threat == "known_seed"
    select_score = score if known else acceptance.scores(accept, chosen_on[0], x, chosen)
    verdict = Verdict(
      score,
      acceptance.accepts(score),
      acceptance.held(right, score),
      acceptance.held(select, select_score),
      acceptance.held_margin(margins, select_score),
    )
  return Graded(
    prediction,
    _share(right, axis=1),
    _share(select, axis=1),
    graded[0],
    np.mean(margins, axis=1).astype(np.float32),
    verdict,
  )


def perturbation_norm(x_adv: np.ndarray, x: np.ndarray, norm: str) -> np.ndarray:
  """[B] float64, the norm of x_adv − x; ℓ0 counts the entries that differ (pixels × channels)."""
  p = order(norm)
  delta = np.reshape(np.asarray(x_adv, np.float64) - x, (len(x), -1))
  if norm == "linf":
    return np.max(np.abs(delta), axis=1, initial=0.0)
  if norm == "l2":
    return np.linalg.norm(delta, axis=1)
  if norm == "l1":
    return np.sum(np.abs(delta), axis=1)
  if norm == "l0":
    return np.count_nonzero(delta, axis=1).astype(np.float64)
  largest = np.max(np.abs(delta), axis=1, initial=0.0)  # scaled by it, no power over- or underflows
  scaled = np.abs(delta) / np.where(largest > 0, largest, 1.0)[:, None]
  return largest * np.sum(scaled**p, axis=1) ** (1.0 / p)


def project(x_adv: np.ndarray, x: np.ndarray, norm: str, eps: float) -> np.ndarray:
  """The point of ball and box that grading takes for x_adv, [B, H, W, D] float32.

  ℓ∞: the nearest point. ℓp: clipped to the box, then drawn towards x (which is in the box, a convex
  set, so the result is in both). ℓ0: clipped to the box, then only the floor(eps) largest
  changes are kept, of equal ones the first.
  """
  x64 = np.asarray(x, np.float64)
  delta = np.clip(np.asarray(x_adv, np.float64), 0.0, 1.0) - x64
  if norm == "linf":
    delta = np.clip(delta, -eps, eps)
  elif norm == "l0":
    delta = _largest(delta, eps)
  else:
    size = perturbation_norm(x64 + delta, x64, norm)
    scale = np.where(size > eps, eps / np.where(size > 0, size, 1.0), 1.0)
    delta = delta * np.reshape(scale, (-1,) + (1,) * (x64.ndim - 1))
  found = np.clip(x64 + delta, 0.0, 1.0).astype(np.float32)
  if norm not in ("linf", "l2", "l0"):  # rounding errors add up over the entries: round towards x
    found = np.where(np.abs(found - x64) > np.abs(delta), np.nextafter(found, x), found)
  return found


def _largest(delta: np.ndarray, eps: float) -> np.ndarray:
  """The floor(eps) entries of each perturbation that change most; the others are 0."""
  flat = np.reshape(delta, (len(delta), -1))
  count = min(math.floor(eps + TOLERANCE), flat.shape[1]) if math.isfinite(eps) else flat.shape[1]
  order = np.argsort(-np.abs(flat), axis=1, kind="stable")
  kept = np.zeros(flat.shape, bool)
  np.put_along_axis(kept, order[:, :count], True, axis=1)
  return np.reshape(np.where(kept, flat, 0.0), delta.shape)


def reclip(
  x_adv: np.ndarray, x: np.ndarray, norm: str, eps: float
) -> tuple[np.ndarray, np.ndarray]:
  """Brings what an attack returned back into the box and the ball.

  Examples within eps + `tolerance` and the box are left exactly as they are.

  Args:
    x_adv: [B, H, W, D] what the attack returned.
    x: [B, H, W, D] the clean images in [0, 1].
    norm: "linf", "l2", "l1", "l0", or any other ℓp with p >= 1, as "l3".
    eps: radius; infinite where there is no ball.

  Returns:
    ([B, H, W, D] float32 to be graded, [B] bool whether the example was outside).

  Raises:
    ValueError: if a pixel is not finite: the attack is broken and nothing can be graded.
  """
  broken = ~np.all(np.isfinite(x_adv), axis=tuple(range(1, x_adv.ndim)))
  if np.any(broken):
    raise ValueError(
      f"the attack returned non-finite pixels for {np.sum(broken)} of {len(x)} images (first at "
      f"{np.flatnonzero(broken)[0]} of the batch); an attack must keep the last finite iterate"
    )
  out_of_box = np.any((x_adv < 0) | (x_adv > 1), axis=tuple(range(1, x_adv.ndim)))
  outside = out_of_box | (perturbation_norm(x_adv, x, norm) > eps + tolerance(norm, eps))
  shape = (-1,) + (1,) * (x.ndim - 1)
  fixed = np.where(np.reshape(outside, shape), project(x_adv, x, norm, eps), x_adv)
  size = perturbation_norm(fixed, x, norm)
  assert np.all(size <= eps + tolerance(norm, eps)), "projection must end in the ball"
  return fixed.astype(np.float32), outside


def grey(x: np.ndarray, norm: str, eps: float) -> np.ndarray:
  """The uniform grey image, as near as ball and box allow, [B, H, W, D] float32."""
  return project(np.full_like(x, 0.5), x, norm, eps)


def worst_case(
  select: Sequence[np.ndarray], margins: Sequence[np.ndarray], correct: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Per example, the candidate that fails most on the select draws, graded on the others.

  Args:
    select: per candidate, [N] share of select draws that are right.
    margins: per candidate, [N] mean margin over the select draws, which breaks ties.
    correct: per candidate, [N] share of grade draws that are right.

  Returns:
    ([N] index of the chosen candidate, [N] its share of right grade draws). What ties in both goes
    to the first candidate, so attacks stand before the images that nobody attacked. The grade draws
    break no tie: that would choose on what is reported.
  """
  pick = np.lexsort((np.stack(margins), np.stack(select)), axis=0)[0]
  return pick, np.stack(correct)[pick, np.arange(len(pick))]
