"""Options of an attack cell that need more of the attacked model than its logits.

  per_sample=True               every importance sample gets its own loss (Li et al. 2019)
  start="wrong_reconstruction"  starts at the reconstruction under the strongest wrong class
  start="nearest_wrong"         starts at the nearest image of another class that the model gets
                                right, for attacks that walk from a success (boundary, …);
                                targeted, at the nearest one of the target class; against a
                                detector, at one that it accepts

Attacks that take a `decode_fn` get the model's decoder, those that flip pixels its threshold.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gencls import attacks, data
from gencls.attacks.reconstruction_starts import wrong_reconstructions
from gencls.attacks.starts import NO_PLACE, nearest_places
from gencls.evaluation import acceptance
from gencls.evaluation.clean import Subject
from gencls.evaluation.grading import NO_PREDICTION, forward, predict
from gencls.evaluation.targets import LEFT_OUT
from gencls.names import unknown_name
from gencls.types import Accept, Array, Classifier, Keys, LogitsFn

OPTIONS = ("per_sample", "start")
STARTS = ("wrong_reconstruction", "nearest_wrong")
# Attacks that walk from a success: noise gives none where they have a target or a detector.
WALKS = ("boundary", "hop_skip_jump", "pointwise")
START_TRIES = 5  # of start="nearest_wrong"


class Pool(NamedTuple):
  """Images that the model gets right, to start from."""

  images: Array  # [N, H, W, D] float32
  labels: Array  # [N]


def walking_options(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
  """The options of an attack to which noise gives no success: `WALKS` start at a real image.

  Unless they are told otherwise.
  """
  return {"start": "nearest_wrong", **options} if name in WALKS else options


def pool(options: Mapping[str, Any], dataset: data.Dataset, correct: np.ndarray) -> Pool | None:
  """The pool of start="nearest_wrong"; None for other options, which need none.

  Args:
    options: as in `attack_inputs`.
    dataset: the images to be evaluated.
    correct: [N] bool, which of them the model gets right (and the detector accepts).
  """
  if options.get("start") != "nearest_wrong":
    return None
  images = data.to_float(dataset.images[correct], dataset.num_levels)
  return Pool(jnp.asarray(images), jnp.asarray(dataset.labels[correct]))


def attack_inputs(
  subject: Subject, name: str, options: Mapping[str, Any]
) -> tuple[LogitsFn, dict[str, Any]]:
  """What an attack is built from.

  Args:
    subject: the model; its `attacked` offers what the options need.
    name: of the attack.
    options: its hyperparameters, and those of `OPTIONS`.

  Returns:
    (what the attack sees of the model, its hyperparameters with the model's decoder or threshold
    where it takes them).

  Raises:
    ValueError: if an option's value is unknown, or the model does not offer what it needs.
  """
  hyperparameters = {key: value for key, value in options.items() if key not in OPTIONS}
  per_sample, start = options.get("per_sample", False), options.get("start")
  if not isinstance(per_sample, bool):
    raise ValueError(f"per_sample must be True or False, got {per_sample!r}")
  if start is not None and start not in STARTS:
    raise ValueError(unknown_name("start", start, STARTS))
  if start == "wrong_reconstruction":
    _bound(subject, "reconstruct", f"start={start!r}")
  factory = attacks.REGISTRY.get(name)
  if factory is not None and "decode_fn" in inspect.signature(factory).parameters:
    decoder, params = _offered(subject, "decoder", name)
    hyperparameters |= {
      "decode_fn": Partial(decoder.decode, params),
      "latent_size": decoder.latent_size,
      "num_classes": decoder.num_classes,
    }
  if subject.attacked is not None:
    hyperparameters = with_threshold(name, hyperparameters, subject.attacked[0])
  if per_sample:
    return _bound(subject, "log_weights", "per_sample=True"), hyperparameters
  return subject.attack_logits_fn, hyperparameters


def with_threshold(
  name: str, hyperparameters: Mapping[str, Any], classifier: Classifier
) -> dict[str, Any]:
  """The hyperparameters of an attack; flips are at the threshold of the model.

  Args:
    name: of the attack.
    hyperparameters: of it.
    classifier: what it attacks.

  Raises:
    ValueError: if an attack that flips pixels meets a model that sees grey levels, or is told
      another threshold than the model's.
  """
  found, own = dict(hyperparameters), classifier.pixel_threshold
  if not attacks.takes(name, "at"):
    return found
  if own is None:
    raise ValueError(
      f"{name} is for models that threshold their input, and this one sees grey levels: leave it "
      "out (an evaluation does where config.attacks.<label>.models is 'thresholded')"
    )
  if found.get("at", own) != own:
    raise ValueError(
      f"{name} would flip pixels at={found['at']}, but the model thresholds its input at {own}: "
      "leave `at` out, it is the model's"
    )
  return {**found, "at": own}


def start_images(
  subject: Subject,
  options: Mapping[str, Any],
  keys: Keys,
  x: Array,
  y: Array,
  right: Pool | None = None,
  target: Array | None = None,
  accept: Accept | None = None,
) -> Array | None:
  """Where the attack shall start, [B, H, W, D], or None: its own start.

  The pool's images succeed under their own keys. Under x's key one may not: then the next nearest
  is tried, as far as `START_TRIES`.

  Args:
    subject: the model.
    options: as in `attack_inputs`.
    keys: [B] the attack's keys.
    x: [B, H, W, D] clean images.
    y: [B] labels.
    right: from `pool`. An example for which it has no image of a wanted class starts at x.
    target: [B] the wanted classes, −1 for none; None where untargeted.
    accept: the detector that has to accept a success; None where the attack does not see it.
  """
  start = options.get("start")
  if start is None:
    return None
  if start == "nearest_wrong":
    assert right is not None, "start='nearest_wrong' needs a pool"
    return _nearest(right, x, y, target, _judge(subject, keys, y, target, accept))
  reconstruct = _bound(subject, "reconstruct", f"start={start!r}")
  return wrong_reconstructions(subject.attack_logits_fn, reconstruct, keys, x, y, target)


def _nearest(
  right: Pool, x: Array, y: Array, target: Array | None, succeeds: Callable[[Array], np.ndarray]
) -> Array:
  """Of the nearest few the first that succeeds, or the very nearest; x where there is none."""
  places = nearest_places(right.images, right.labels, x, y, target, START_TRIES)
  there = places[:, 0] != NO_PLACE
  starts, open_ = np.array(x), there.copy()
  starts[there] = np.asarray(right.images)[places[there, 0]]
  for place in places.T:
    open_ &= place != NO_PLACE
    if not open_.any():
      break
    tried = np.array(starts)
    tried[open_] = np.asarray(right.images)[place[open_]]
    now = open_ & succeeds(jnp.asarray(tried))
    starts[now] = tried[now]
    open_ &= ~now
  return jnp.asarray(starts)


def _judge(
  subject: Subject, keys: Keys, y: Array, target: Array | None, accept: Accept | None
) -> Callable[[Array], np.ndarray]:
  """Images [B, H, W, D] -> [B] whether they succeed as the attack has it, under its keys."""

  def succeeds(images: Array) -> np.ndarray:
    logits = np.asarray(forward(subject.attack_logits_fn, keys, images))
    prediction = predict(logits)
    wrong = (prediction != NO_PREDICTION) & (prediction != np.asarray(y))
    aim = np.full(len(prediction), LEFT_OUT) if target is None else np.asarray(target)
    hit = np.where(aim == LEFT_OUT, wrong, prediction == aim)
    if accept is None:
      return hit
    return hit & acceptance.accepts(
      acceptance.scores(accept, [keys], np.asarray(images), [logits])[:, 0]
    )

  return succeeds


def _bound(subject: Subject, field: str, option: str) -> Partial:
  return Partial(*_offered(subject, field, option))


def _offered(subject: Subject, field: str, option: str) -> tuple[Any, Any]:
  """A field of the attacked classifier, and its parameters."""
  if subject.attacked is None:
    raise ValueError(
      f"{option} needs the attacked model's {field!r}, but Subject was not given `attacked`: pass "
      "Subject(…, attacked=(classifier, params)) of the model behind attack_logits_fn"
    )
  classifier, params = subject.attacked
  value = getattr(classifier, field)
  if value is None:
    raise ValueError(
      f"{option} needs a model whose Classifier has {field!r}, as generative models with a latent "
      "have; this one has not: leave the option out"
    )
  return value, params
