"""Attacks on few pixels: salt and pepper, pointwise."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, linear_logits, predictions
from jax.tree_util import Partial
from sparse_problem import CLEAN, KEYS, MODEL, NUM, WEIGHTS, X, Y, attacked

from gencls import attacks
from gencls.keys import fold

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  import eagerpy as ep
  import foolbox


def _changed(x_adv, x=X):
  return np.sum(np.any(np.asarray(x_adv) != np.asarray(x), axis=-1), axis=(1, 2))


def _wins(flat, y):
  """[..., 36] -> bool, in NumPy."""
  logits = flat @ np.asarray(WEIGHTS) + np.asarray(MODEL.args[1])
  return np.argmax(logits, axis=-1) != y


def test_salt_and_pepper_replays_foolbox(monkeypatch):
  """With our draws Foolbox's own loop must return the same images, whatever our blocks."""
  steps, made = 60, itertools.count(1)

  def our_draws(like, shape, low=0.0, high=1.0):
    drawn = fold(KEYS, "salt and pepper", next(made))
    return ep.astensor(jax.vmap(lambda key: jax.random.uniform(key, shape[1:]))(drawn))

  monkeypatch.setattr(ep, "uniform", our_draws)
  model = foolbox.JAXModel(jax.jit(lambda x: MODEL(KEYS, x)), bounds=(0, 1))
  peer = foolbox.attacks.SaltAndPepperNoiseAttack(steps=steps, channel_axis=3)
  criterion = foolbox.criteria.Misclassification(ep.astensor(jnp.asarray(Y)))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = np.asarray(peer.run(model, ep.astensor(X), criterion).raw)
  assert next(made) == steps + 1

  # Blocks of four must not matter; the other tests have the CPU's default of one.
  mine = attacked("salt_and_pepper", num_steps=steps, block_size=4)
  np.testing.assert_array_equal(mine.x, theirs)
  assert np.asarray(mine.info.done).all()
  np.testing.assert_array_equal(predictions(MODEL, mine.x) != Y, mine.info.success)
  assert np.asarray(mine.info.success).sum() > 12
  np.testing.assert_array_equal(mine.x[7::8], X[7::8])  # wrong already


def test_salt_and_pepper_norms_channels_and_hopeless_examples():
  x = images(NUM, shape=(4, 3, 3), low=0.2, high=0.8)
  together = attacked("salt_and_pepper", x=x, norm="l0", num_steps=30)
  moved = np.asarray(together.x) != np.asarray(x)
  assert moved.any() and np.all(moved.any(-1) == moved.all(-1))
  assert np.all(np.isin(np.asarray(together.x)[moved], (0.0, 1.0)))
  apart = attacked("salt_and_pepper", x=x, norm="l0", num_steps=30, across_channels=False)
  moved = np.asarray(apart.x) != np.asarray(x)
  assert np.any(moved.any(-1) != moved.all(-1))

  # Class 0 always wins, or no class does: nothing to find.
  for bias, nonfinite in ((1.0, 0), (np.nan, 31)):
    fixed = Partial(linear_logits, 0 * WEIGHTS, jnp.asarray([bias, 0.0, 0.0]))
    adv = attacked("salt_and_pepper", fixed, x=x, y=np.zeros(NUM, int), norm="l0", num_steps=30)
    np.testing.assert_array_equal(adv.x, x)
    assert not adv.info.success.any() and np.all(np.asarray(adv.info.forward) == 31)
    assert np.all(np.asarray(adv.info.nonfinite) == nonfinite)


def _sequential_pointwise(x, start, y, key):
  """One run over one example from its start, one unit at a time, as the docstring says."""
  x_adv, number = start.copy(), 0
  while True:
    differs = x_adv != x
    priority = np.asarray(jax.random.uniform(fold(fold(key[None], "order"), number)[0], (len(x),)))
    improved = False
    for unit in np.argsort(np.where(differs, priority, 2.0))[: differs.sum()]:
      trial = x_adv.copy()
      trial[unit] = x[unit]
      if _wins(trial, y):
        x_adv, improved = trial, True
    number += 1
    if not improved:
      return x_adv


def test_pointwise_is_the_sequential_attack_whatever_the_block():
  start = jnp.asarray(np.random.default_rng(2).uniform(size=X.shape), jnp.float32)
  fools = _wins(np.asarray(start).reshape(NUM, -1), Y) & (Y == CLEAN)
  assert fools.sum() > 6
  flat = [np.asarray(v).reshape(NUM, -1) for v in (X, start)]
  expected = np.stack(
    [_sequential_pointwise(flat[0][i], flat[1][i], Y[i], KEYS[i]) for i in np.flatnonzero(fools)]
  )
  for block_size in (1, 3):
    adv = attacked("pointwise", start=start, num_restarts=1, block_size=block_size)
    np.testing.assert_array_equal(np.asarray(adv.x).reshape(NUM, -1)[fools], expected)
    assert np.asarray(adv.info.done).all() and adv.info.success.all()
    np.testing.assert_array_equal(adv.x[7::8], X[7::8])


def _fewest_pixels():
  """The least number of pixels that changes a linear prediction, over all images, [NUM]."""
  w, x = np.asarray(WEIGHTS, np.float64), np.asarray(X, np.float64).reshape(NUM, -1)
  logits = x @ w + np.asarray(MODEL.args[1])
  fewest = np.full(NUM, 99)
  for rival in range(3):
    push = w[:, rival][None] - w[np.arange(36)[None], Y[:, None]]
    gain = np.maximum(push * (1 - x), -push * x)  # to white or to black, whichever helps
    most = np.cumsum(-np.sort(-gain, axis=1), axis=1)
    gap = logits[np.arange(NUM), Y] - logits[:, rival]
    count = 1 + np.argmax(most > gap[:, None], axis=1)
    fewest = np.where(rival == Y, fewest, np.minimum(fewest, np.where(gap < 0, 0, count)))
  return fewest


def test_pointwise_is_minimal_and_at_least_as_sparse_as_foolbox():
  adv = attacked("pointwise")
  assert adv.info.success.all() and adv.x.min() >= 0 and adv.x.max() <= 1
  x_adv, x = np.asarray(adv.x).reshape(NUM, -1), np.asarray(X).reshape(NUM, -1)
  assert _wins(x_adv, Y).all()
  for example, unit in zip(*np.nonzero(x_adv != x), strict=True):  # no pixel can go back
    back = x_adv[example].copy()
    back[unit] = x[example, unit]
    assert not _wins(back, Y[example])
  fewest = _fewest_pixels()
  assert np.all(_changed(adv.x) >= fewest) and np.all((_changed(adv.x) == 0) == (fewest == 0))
  assert np.mean(_changed(adv.x) - fewest) < 2

  # JAX no longer has what Foolbox's pointwise attack calls: NumPy there.
  class Model(foolbox.models.base.Model):
    bounds = foolbox.types.Bounds(0, 1)

    def __call__(self, inputs):
      x, restore = ep.astensor_(inputs)
      flat = x.numpy().reshape(NUM, -1)
      return restore(ep.astensor(flat @ np.asarray(WEIGHTS) + np.asarray(MODEL.args[1])))

  np.random.seed(0)
  noise = foolbox.attacks.SaltAndPepperNoiseAttack(steps=300, channel_axis=3)
  peer = foolbox.attacks.PointwiseAttack(init_attack=noise, l2_binary_search=False)
  criterion = foolbox.criteria.Misclassification(ep.astensor(Y))
  theirs = np.asarray(peer.run(Model(), ep.astensor(np.asarray(X)), criterion).raw)
  assert np.mean(_changed(adv.x)) <= np.mean(_changed(theirs))

  order = np.random.default_rng(1).permutation(NUM)
  permuted = attacked("pointwise", x=X[order], y=Y[order], k=KEYS[order])
  np.testing.assert_array_equal(permuted.x, adv.x[order])


def test_pointwise_and_salt_and_pepper_with_targets():
  target = np.where(np.arange(NUM) % 2 == 0, -1, (Y + 1) % 3)
  for name in ("pointwise", "salt_and_pepper"):
    options = {} if name == "pointwise" else {"num_steps": 60, "block_size": 4}
    adv = attacked(name, target=target, **options)
    found = predictions(MODEL, adv.x)
    reached = np.where(target < 0, found != Y, found == target)
    np.testing.assert_array_equal(adv.info.success, reached)
    assert reached[target >= 0].sum() > 4


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("salt_and_pepper", {"norm": "l1"}, "unknown norm 'l1'"),
    ("salt_and_pepper", {"num_steps": 0}, "num_steps must be >= 1"),
    ("pointwise", {"num_restarts": 0}, "num_restarts, noise_steps and num_steps"),
    ("pointwise", {"block_size": 0}, "block_size must be >= 1"),
  ],
)
def test_wrong_hyperparameters_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build(name, MODEL, **options)
