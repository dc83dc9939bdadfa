"""What is computed in one result cell: clean numbers, a candidate image, or an attack, graded."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gencls import attacks, data, sanity
from gencls.attacks.losses import LOSSES
from gencls.clean import Subject, clean_batch, summarise
from gencls.grading import (
  Graded,
  attack_keys,
  draw_keys,
  grade,
  grey,
  perturbation_norm,
  reclip,
)
from gencls.types import Attack

Arrays = dict[str, np.ndarray]


class Protocol(NamedTuple):
  """How numbers are made; everything but `batch_size` decides them."""

  threat: str  # one of grading.THREATS
  seed: int
  select_draws: int
  grade_draws: int
  clean_draws: int
  clean: tuple[str, ...]  # names of clean.METRICS
  batch_size: int | None  # None: by the backend
  keep_images: int  # adversarial images kept in each cell


class AttackSpec(NamedTuple):
  """One attack over its eps grid."""

  label: str
  name: str
  norm: str
  eps: tuple[float, ...]
  loss: str
  eot_samples: int
  hyperparameters: dict[str, Any]


class Work(NamedTuple):
  """What every cell needs."""

  subject: Subject
  dataset: data.Dataset
  protocol: Protocol
  bar: tqdm


class Batch(NamedTuple):
  """A batch in its one shape."""

  levels: np.ndarray  # [B, H, W, D] integers
  x: np.ndarray  # [B, H, W, D] float32 in [0, 1]
  labels: np.ndarray  # [B]
  indices: np.ndarray  # [B]
  at: slice  # where its images stand in the dataset
  valid: int  # rows after these repeat the last image


def auto_batch_size(num_images: int) -> int:
  """A batch that fits the cache on CPU and fills an accelerator, in equal parts of the set."""
  most = 100 if jax.default_backend() == "cpu" else 500
  return math.ceil(num_images / math.ceil(num_images / most))


def batches(dataset: data.Dataset, batch_size: int | None) -> Iterator[Batch]:
  """All images in order, in batches of one size (the last one is padded)."""
  n = len(dataset.labels)
  size = min(batch_size or auto_batch_size(n), n)
  for start in range(0, n, size):
    rows = np.minimum(np.arange(start, start + size), n - 1)
    levels = dataset.images[rows]
    x = np.asarray(data.to_float(levels, dataset.num_levels))
    at = slice(start, min(start + size, n))
    labels, indices = dataset.labels[rows], dataset.indices[rows]
    yield Batch(levels, x, labels, indices, at, at.stop - at.start)


def first_images(dataset: data.Dataset, num_images: int | None) -> data.Dataset:
  """The first n images of a split; None: all.

  Raises:
    ValueError: if there are fewer, or n < 1.
  """
  available = len(dataset.labels)
  if num_images is None:
    return dataset
  if not 1 <= num_images <= available:
    raise ValueError(
      f"num_images must be between 1 and {available} (the images of the {dataset.split} split) or "
      f"None for all, got {num_images}"
    )
  arrays = {name: getattr(dataset, name)[:num_images] for name in ("images", "labels", "indices")}
  return dataset._replace(**arrays)


def _over_batches(work: Work, title: str, make: Callable[[Batch], Arrays]) -> Arrays:
  """Runs every batch, shows the accuracy so far, and joins the valid rows."""
  parts: list[Arrays] = []
  right = seen = 0.0
  for batch in batches(work.dataset, work.protocol.batch_size):
    parts.append({name: value[: batch.valid] for name, value in make(batch).items()})
    right, seen = right + float(np.sum(parts[-1]["correct"])), seen + batch.valid
    work.bar.set_postfix_str(f"{title}: accuracy {100 * right / seen:.1f}%")
    work.bar.update(batch.valid)
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _grade(work: Work, x: np.ndarray, batch: Batch) -> Graded:
  protocol = work.protocol
  return grade(
    work.subject.logits_fn,
    x,
    batch.labels,
    batch.indices,
    threat=protocol.threat,
    seed=protocol.seed,
    select_draws=protocol.select_draws,
    grade_draws=protocol.grade_draws,
  )


def _arrays(graded: Graded) -> Arrays:
  arrays: Arrays = graded._asdict()
  arrays["nonfinite_grades"] = np.count_nonzero(graded.prediction < 0, axis=1)
  return arrays


def clean_cell(work: Work) -> tuple[Arrays, dict[str, Any]]:
  """Clean metrics; the numbers are {"metrics": name -> {value, standard_error, reason}}.

  A forward pass that no key changes and that `prepare` draws nothing for is run once.
  """
  subject, protocol = work.subject, work.protocol
  count = protocol.clean_draws
  deterministic = subject.redraw is None and not _randomness(work).randomised
  if subject.redraw is not None:
    draws = [subject.logits_fn, *map(subject.redraw, range(1, count))]
  else:
    draws = [subject.logits_fn] * (1 if deterministic else count)

  def make(batch: Batch) -> Arrays:
    return clean_batch(
      subject,
      protocol.clean,
      batch.levels,
      batch.x,
      batch.labels,
      batch.indices,
      num_levels=work.dataset.num_levels,
      seed=protocol.seed,
      draws=draws,
    )

  arrays = _over_batches(work, "clean", make)
  score = subject.classifier.score
  metrics = summarise(arrays, work.dataset.labels, protocol.clean, score)
  return arrays, {
    "metrics": metrics,
    "score": score,
    "draws": len(draws),
    "deterministic": deterministic,
    "prepared_anew": subject.redraw is not None,
  }


def _randomness(work: Work) -> sanity.Randomness:
  """What the keys do to the logits of the first batch."""
  first = next(batches(work.dataset, work.protocol.batch_size))
  one, two = (
    draw_keys("fresh_seed", work.protocol.seed, first.indices, "grade", i) for i in (0, 1)
  )
  return sanity.detect_randomness(work.subject.logits_fn, one, two, jnp.asarray(first.x))


def untouched_cell(work: Work) -> tuple[Arrays, dict[str, Any]]:
  """The clean images under the draws of grading: the candidate that keeps clean errors errors."""
  arrays = _over_batches(work, "untouched", lambda batch: _arrays(_grade(work, batch.x, batch)))
  return arrays, {"randomness": _randomness(work)._asdict()}


def grey_cell(work: Work, norm: str, eps: float) -> tuple[Arrays, dict[str, Any]]:
  """The uniform grey image, projected onto ball and box."""

  def make(batch: Batch) -> Arrays:
    x = grey(batch.x, norm, eps)
    arrays = _arrays(_grade(work, x, batch))
    return {**arrays, "norm": perturbation_norm(x, batch.x, norm).astype(np.float32)}

  return _over_batches(work, f"grey {eps:g}", make), {}


def build_attack(subject: Subject, protocol: Protocol, spec: AttackSpec, eps: float) -> Attack:
  """The attack of one cell; its randomness follows from the threat model."""
  return attacks.build(
    spec.name,
    subject.attack_logits_fn,
    norm=spec.norm,
    eps=eps,
    loss=spec.loss,
    randomness="fixed" if protocol.threat == "known_seed" else "fresh",
    eot_samples=spec.eot_samples,
    **spec.hyperparameters,
  )


def attack_cell(
  work: Work, spec: AttackSpec, eps: float, clean_logits: np.ndarray
) -> tuple[Arrays, dict[str, Any]]:
  """Attacks every image, brings the results back into ball and box, and grades them.

  Args:
    work: model, data and protocol.
    spec: the attack.
    eps: its radius.
    clean_logits: [N, C] of the untouched images, for counting zero gradients.
  """
  protocol = work.protocol
  attack = build_attack(work.subject, protocol, spec, eps)
  kept: list[np.ndarray] = []

  def make(batch: Batch) -> Arrays:
    real = slice(None, batch.valid)  # the attack pads by itself
    keys = attack_keys(protocol.threat, protocol.seed, batch.indices[real])
    size = len(batch.labels)
    x, y = jnp.asarray(batch.x[real]), jnp.asarray(batch.labels[real])
    result = attacks.run(attack, keys, x, y, batch_size=size)
    x_adv, outside = reclip(np.asarray(result.x), batch.x[real], spec.norm, eps)
    kept.append(x_adv[: max(0, protocol.keep_images - batch.at.start)])
    padding = [(0, size - batch.valid)] + [(0, 0)] * (x_adv.ndim - 1)
    arrays = _arrays(_grade(work, np.pad(x_adv, padding, mode="edge"), batch))
    return {
      **{name: value[real] for name, value in arrays.items()},
      "norm": perturbation_norm(x_adv, batch.x[real], spec.norm).astype(np.float32),
      "outside": outside,
      "attack_success": np.asarray(result.info.success),
      "nonfinite_steps": np.asarray(result.info.nonfinite, np.int32),
      "zero_gradient_steps": np.asarray(result.info.zero_gradient, np.int32),
      "zero_gradient": sanity.zero_gradients(
        LOSSES[spec.loss], clean_logits[batch.at], batch.labels[real]
      ),
    }

  arrays = _over_batches(work, f"{spec.label} {eps:g}", make)
  return {**arrays, "x_adv": np.concatenate(kept)}, {}
