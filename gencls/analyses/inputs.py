"""What an analysis is given, and what several of them need: logits, detectors, likelihoods."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gencls import data, detect
from gencls.evaluation.acceptance import accepts
from gencls.evaluation.batch_loop import auto_batch_size
from gencls.evaluation.grading import forward, keys_for, predict
from gencls.evaluation.results import Cell
from gencls.thresholds import Rule
from gencls.types import Keys, LogitsFn

Arrays = dict[str, np.ndarray]
Numbers = dict[str, Any]
Images = Callable[[np.ndarray], np.ndarray]  # rows [B] -> [B, H, W, D] float32

PURPOSE = "grade"  # of the keys: a known seed, the classifier that evaluations grade
FITTING_PURPOSE = "detect"  # of the keys of the images that detectors are fitted to


class Examined(NamedTuple):
  """A trained classifier and the images that it is examined on."""

  logits_fn: LogitsFn  # a Partial whose leaves are the parameters
  score: str  # what the logits are
  density_levels: int  # see `gencls.bits`
  class_prior: np.ndarray  # [C] p(y), of the training images
  dataset: data.Dataset  # the first n images of the split
  whole: data.Dataset  # all of it
  fitting: data.Dataset  # what detectors are fitted to
  detectors: tuple[str, ...]  # names in detect.STATISTICS; the first is the one that decides
  false_positive_rate: float  # of the fitting images, at most
  seed: int
  batch_size: int | None  # None: by the backend
  there: Callable[[str], bool]  # whether another data set is on this machine
  load: Callable[[str], data.Dataset]  # another data set of the same split, by its name
  workdir: Path  # of the run
  progress: bool = True


class Inputs(NamedTuple):
  """What an analysis is given."""

  examined: Examined
  logits: np.ndarray  # [N, C] of the images
  fitted: dict[str, detect.Fitted]  # by name, in order; those that this model can have
  left_out: dict[str, str]  # detectors that it cannot have, and why
  depends: Any = None  # what the analysis said that it depends on


class Caption(NamedTuple):
  """What stands above and below a figure."""

  title: str  # of the model
  note: str


class Analysis(NamedTuple):
  """An analysis by its parts."""

  analyse: Callable[[Inputs, Mapping[str, Any]], tuple[Arrays, Numbers]]
  figures: Callable[[Cell, Caption], dict[str, Any]]  # ending of the name -> figure
  markdown: Callable[[Cell], str]
  # What decides its numbers besides model, images, detectors and its own settings
  depends: Callable[[Examined, Mapping[str, Any]], Any] = lambda examined, settings: None
  needs_logits: bool = True


def logits_of(examined: Examined, keys: Keys, images: Images, title: str) -> np.ndarray:
  """[N, C] logits of N images that are made a batch at a time.

  Args:
    examined: the classifier.
    keys: [N] typed keys.
    images: rows [B] of 0 .. N − 1 -> images.
    title: what the progress bar says.
  """
  n, parts = len(keys), []
  size = min(examined.batch_size or auto_batch_size(n), n)
  with tqdm(total=n, unit="image", desc=title, disable=not examined.progress, leave=False) as bar:
    for first in range(0, n, size):
      rows = np.minimum(np.arange(first, first + size), n - 1)  # the last batch is padded
      valid = min(size, n - first)
      found = forward(examined.logits_fn, keys[rows], jnp.asarray(images(rows)))
      parts.append(np.asarray(found)[:valid])
      bar.update(valid)
  return np.concatenate(parts)


def logits_of_set(
  examined: Examined, dataset: data.Dataset, title: str, *names: str, purpose: str = PURPOSE
) -> np.ndarray:
  """[N, C] logits of a data set; `names` are folded into the keys of sets that are not the own."""
  keys = keys_for(examined.seed, dataset.indices, purpose, *names)
  return logits_of(examined, keys, functools.partial(floats, dataset), title)


def floats(dataset: data.Dataset, rows: np.ndarray) -> np.ndarray:
  """[B, H, W, D] float32, the images at these positions as models see them."""
  return np.asarray(data.to_float(dataset.images[rows], dataset.num_levels))


def make_inputs(examined: Examined, logits: np.ndarray, fitting_logits: np.ndarray) -> Inputs:
  """Fits the detectors.

  Args:
    examined: the classifier.
    logits: [N, C] of its images.
    fitting_logits: [M, C] of the fitting images.

  Raises:
    ValueError: if logits of the images are not finite.
  """
  bad = int(np.sum(~np.all(np.isfinite(logits), axis=1)))
  if bad:
    raise ValueError(
      f"analyses need finite logits, got {bad} of {len(logits)} images whose logits are not: look "
      "for the reason first"
    )
  fitted, left_out, dataset = {}, {}, examined.dataset
  rule = Rule("quantile", examined.false_positive_rate)
  for name in examined.detectors:
    try:
      fitted[name] = detect.fit(
        name,
        fitting_logits,
        predict(fitting_logits),
        rule,
        per_class=False,
        score=examined.score,
        dims=int(np.prod(dataset.images.shape[1:])),
        num_levels=examined.density_levels,
      )
    except ValueError as error:  # no log p(x), or a class that is never predicted
      left_out[name] = str(error)
  return Inputs(examined, logits, fitted, left_out)


def statistic(inputs: Inputs, name: str, logits: np.ndarray) -> np.ndarray:
  """[N] float64, a detector's statistic of logits [N, C]; larger where more ordinary."""
  values = detect.values_of(name, inputs.fitted[name].reference, logits, classes(logits))
  return np.asarray(values, np.float64)


def judged(inputs: Inputs, name: str, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """([N] float64 a detector's statistic, [N] bool whether it accepts) of logits [N, C]."""
  values = statistic(inputs, name, logits)
  limits = np.asarray(inputs.fitted[name].threshold, np.float64)[classes(logits)]
  return values, accepts(values - limits)


def classes(logits: np.ndarray) -> np.ndarray:
  """[N] int32, the largest logit, also of rows that are not finite."""
  return np.argmax(logits, axis=-1).astype(np.int32)


def has_density(score: str) -> bool:
  """Whether logits tell log p(x | y), at least up to a constant that is the same for all x."""
  return score != "posterior"


def log_lik(logits: np.ndarray, labels: np.ndarray, class_prior: np.ndarray) -> np.ndarray:
  """[N] float64, log p(x | y) = log p(x, y) − log p(y) in nats.

  Args:
    logits: [N, C] log p(x, y).
    labels: [N] the classes that are asked about.
    class_prior: [C] p(y), the shares of the training images: models whose own p(y) is an integral
      over a latent differ from it a little.
  """
  rows = np.arange(len(logits))
  return np.asarray(logits, np.float64)[rows, labels] - np.log(class_prior)[labels]


def unit(score: str) -> str:
  """What the axis of a log-density says."""
  constant = ", up to a constant" if score == "unnormalised" else ""
  return f"nats{constant}"
