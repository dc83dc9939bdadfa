"""A training run, an attack and a restored checkpoint in seconds: does the library work here?"""

import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls import attacks, checkpoint, data, models, sharding, train
from gencls.keys import example_keys
from gencls.training import optimizers
from gencls.types import Classifier

STEPS, IMAGES, EPS = 120, 64, 0.2
_RATE = 5e-3


class Outcome(NamedTuple):
  """One step of the self-test."""

  name: str
  ok: bool
  detail: str


class _Trained(NamedTuple):
  """What later steps need of the first."""

  classifier: Classifier
  folder: str
  params: Any
  x: jax.Array
  y: np.ndarray


def run() -> list[Outcome]:
  """Trains, then attacks and restores what was trained; a step that raises has failed."""
  found: list[Outcome] = []
  with tempfile.TemporaryDirectory() as folder:
    trained = _timed(found, "self-test: train", lambda: _train(folder))
    if trained is not None:
      _timed(found, "self-test: attack", lambda: _attack(trained))
      _timed(found, "self-test: restore a checkpoint", lambda: _restore(trained))
  return found


def _timed(found: list[Outcome], name: str, step: Callable[[], tuple[bool, str, Any]]) -> Any:
  """Adds the outcome of a step and returns its value; whatever it raises is the outcome."""
  start = time.perf_counter()
  try:
    ok, detail, value = step()
  except Exception as error:  # a diagnosis must survive what it diagnoses
    ok, detail, value = False, f"{type(error).__name__}: {str(error).split(chr(10))[0]}", None
  found.append(Outcome(name, ok, f"{detail} ({time.perf_counter() - start:.1f} s)"))
  return value


def _train(folder: str) -> tuple[bool, str, _Trained]:
  splits = {split: data.load("digits", split=split) for split in ("train", "validation", "test")}
  classifier = models.build(
    "cnn", image_shape=(8, 8, 1), num_classes=10, channels=(8,), hidden_size=32
  )
  outcome = train.train(
    classifier,
    splits["train"],
    splits["validation"],
    workdir=folder,
    seed=0,
    batch_size=64 * jax.device_count(),
    num_epochs=10**6,
    max_steps=STEPS,
    learning_rate=_RATE,
    log_every=STEPS,
    validate_every=STEPS,
    num_validation_images=IMAGES,
  )
  params = jax.tree.map(jnp.asarray, jax.device_get(outcome.state.evaluated()))
  test = splits["test"]
  x = data.to_float(test.images[:IMAGES], test.num_levels)
  trained = _Trained(classifier, folder, params, jnp.asarray(x), test.labels[:IMAGES])
  share = _accuracy(trained, trained.x)
  detail = f"{STEPS} steps of a small CNN on digits: {100 * share:.0f}% of {IMAGES} images right"
  return share > 0.5, detail, trained


def _logits_fn(trained: _Trained) -> jax.tree_util.Partial:
  return jax.tree_util.Partial(trained.classifier.logits, trained.params)


def _accuracy(trained: _Trained, x: jax.Array) -> float:
  logits = jax.jit(_logits_fn(trained))(example_keys(0, np.arange(IMAGES)), x)
  return float(np.mean(np.argmax(np.asarray(logits), axis=1) == trained.y))


def _attack(trained: _Trained) -> tuple[bool, str, None]:
  attack = attacks.build("pgd", _logits_fn(trained), norm="linf", eps=EPS, num_steps=10)
  keys = example_keys(0, np.arange(IMAGES))
  adv = attacks.run(
    attack, keys, trained.x, jnp.asarray(trained.y), compact=False
  ).x  # compiles one size only
  before, after = _accuracy(trained, trained.x), _accuracy(trained, jnp.asarray(adv))
  reach = float(np.max(np.abs(np.asarray(adv) - np.asarray(trained.x))))
  detail = f"PGD-10 at {EPS}: {100 * before:.0f}% to {100 * after:.0f}% right"
  return after < before and reach <= EPS + 1e-6, f"{detail}, largest change {reach:.3f}", None


def _restore(trained: _Trained) -> tuple[bool, str, None]:
  tx = optimizers.build(learning_rate=_RATE)
  shapes = train.abstract_state(trained.classifier, tx, (8, 8, 1), sharding.data_mesh(), ema=False)
  manager = checkpoint.open_manager(trained.folder + "/checkpoints", read_only=True)
  try:
    restored = checkpoint.restore(manager, shapes)
  finally:
    manager.close()
  there = jax.tree.leaves(jax.device_get(restored.state.evaluated()))
  kept = jax.tree.leaves(jax.device_get(trained.params))
  same = all(np.array_equal(a, b) for a, b in zip(there, kept, strict=True))
  return same, f"step {restored.step}, parameters {'bit-identical' if same else 'DIFFER'}", None
