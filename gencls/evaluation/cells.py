"""What is computed in the cells that are no attack: clean numbers, and candidate images, graded."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gencls import data, sanity
from gencls.evaluation.batch_loop import Arrays, Batch, Protocol, Turn, Work, batches, over_batches
from gencls.evaluation.clean import Subject, clean_batch, summarise
from gencls.evaluation.grading import Graded, draw_keys, grade, grey, perturbation_norm

# The labels of what is no attack.
CLEAN, UNTOUCHED, GREY = "clean", "untouched", "grey"


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


def grade_batch(work: Work, x: np.ndarray, batch: Batch) -> Graded:
  """Grades images in the place of a batch's own, under the protocol."""
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
    accept=work.accept,
  )


def graded_arrays(graded: Graded) -> Arrays:
  """What a cell holds of a grading."""
  arrays: Arrays = graded._replace(verdict=None)._asdict()
  del arrays["verdict"]
  if graded.verdict is not None:
    arrays |= graded.verdict._asdict()
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

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
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

  arrays = over_batches(work, "clean", make)
  score = subject.classifier.score
  metrics = summarise(arrays, work.dataset.labels, protocol.clean, score)
  return arrays, {
    "metrics": metrics,
    "score": score,
    "draws": len(draws),
    "deterministic": deterministic,
    "prepared_anew": subject.redraw is not None,
  }


def randomness(subject: Subject, dataset: data.Dataset, protocol: Protocol) -> sanity.Randomness:
  """What the keys do to the logits of the first batch."""
  first = next(batches(dataset, protocol.batch_size))
  one, two = (draw_keys("fresh_seed", protocol.seed, first.indices, "grade", i) for i in (0, 1))
  return sanity.detect_randomness(subject.logits_fn, one, two, jnp.asarray(first.x))


def _randomness(work: Work) -> sanity.Randomness:
  return randomness(work.subject, work.dataset, work.protocol)


def untouched_cell(work: Work) -> tuple[Arrays, dict[str, Any]]:
  """The clean images under the draws of grading: the candidate that keeps clean errors errors."""

  def make(turn: Turn) -> Arrays:
    return graded_arrays(grade_batch(work, turn.batch.x, turn.batch))

  arrays = over_batches(work, "untouched", make)
  return arrays, {"randomness": _randomness(work)._asdict()}


def grey_cell(work: Work, norm: str, eps: float) -> tuple[Arrays, dict[str, Any]]:
  """The uniform grey image, projected onto ball and box."""

  def make(turn: Turn) -> Arrays:
    batch = turn.batch
    x = grey(batch.x, norm, eps)
    arrays = graded_arrays(grade_batch(work, x, batch))
    return {**arrays, "norm": perturbation_norm(x, batch.x, norm).astype(np.float32)}

  return over_batches(work, f"grey {eps:g}", make), {}
