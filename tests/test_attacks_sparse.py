"""Attacks on few pixels: salt and pepper, pointwise, pixel flips of binarised models."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved_logits, images, keys, linear_logits, predictions
from jax.tree_util import Partial

from gencls import attacks
from gencls.keys import fold
from gencls.straight_through import binarize
from gencls.types import Goal

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  import eagerpy as ep
  import foolbox

NUM, SHAPE = 16, (6, 6, 1)
KEYS = keys(NUM)
RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(36, 3)), jnp.float32)
MODEL = Partial(linear_logits, WEIGHTS, -0.5 * jnp.sum(WEIGHTS, axis=0))
X = images(NUM, shape=SHAPE, low=0.0, high=1.0)
CLEAN = predictions(MODEL, X)
Y = np.where(np.arange(NUM) % 8 == 7, (CLEAN + 1) % 3, CLEAN)  # two are wrong already
BELOW = np.nextafter(np.float32(0.5), np.float32(0))


def _run(name, logits_fn=MODEL, *, x=X, y=Y, k=KEYS, target=None, start=None, **options):
  attack = attacks.build(name, logits_fn, **options)
  return attacks.run(attack, k, x, y, target=target, start=start, compact=False)


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
  mine = _run("salt_and_pepper", num_steps=steps, block_size=4)
  np.testing.assert_array_equal(mine.x, theirs)
  assert np.asarray(mine.info.done).all()
  np.testing.assert_array_equal(predictions(MODEL, mine.x) != Y, mine.info.success)
  assert np.asarray(mine.info.success).sum() > 12
  np.testing.assert_array_equal(mine.x[7::8], X[7::8])  # wrong already


def test_salt_and_pepper_norms_channels_and_hopeless_examples():
  x = images(NUM, shape=(4, 3, 3), low=0.2, high=0.8)
  together = _run("salt_and_pepper", x=x, norm="l0", num_steps=30)
  moved = np.asarray(together.x) != np.asarray(x)
  assert moved.any() and np.all(moved.any(-1) == moved.all(-1))
  assert np.all(np.isin(np.asarray(together.x)[moved], (0.0, 1.0)))
  apart = _run("salt_and_pepper", x=x, norm="l0", num_steps=30, across_channels=False)
  moved = np.asarray(apart.x) != np.asarray(x)
  assert np.any(moved.any(-1) != moved.all(-1))

  # Class 0 always wins, or no class does: nothing to find.
  for bias, nonfinite in ((1.0, 0), (np.nan, 31)):
    fixed = Partial(linear_logits, 0 * WEIGHTS, jnp.asarray([bias, 0.0, 0.0]))
    adv = _run("salt_and_pepper", fixed, x=x, y=np.zeros(NUM, int), norm="l0", num_steps=30)
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
  start = jnp.asarray(RNG.uniform(size=X.shape), jnp.float32)
  fools = _wins(np.asarray(start).reshape(NUM, -1), Y) & (Y == CLEAN)
  assert fools.sum() > 6
  flat = [np.asarray(v).reshape(NUM, -1) for v in (X, start)]
  expected = np.stack(
    [_sequential_pointwise(flat[0][i], flat[1][i], Y[i], KEYS[i]) for i in np.flatnonzero(fools)]
  )
  for block_size in (1, 3):
    adv = _run("pointwise", start=start, num_restarts=1, block_size=block_size)
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
  adv = _run("pointwise")
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
  permuted = _run("pointwise", x=X[order], y=Y[order], k=KEYS[order])
  np.testing.assert_array_equal(permuted.x, adv.x[order])


def test_pointwise_and_salt_and_pepper_with_targets():
  target = np.where(np.arange(NUM) % 2 == 0, -1, (Y + 1) % 3)
  for name in ("pointwise", "salt_and_pepper"):
    options = {} if name == "pointwise" else {"num_steps": 60, "block_size": 4}
    adv = _run(name, target=target, **options)
    found = predictions(MODEL, adv.x)
    reached = np.where(target < 0, found != Y, found == target)
    np.testing.assert_array_equal(adv.info.success, reached)
    assert reached[target >= 0].sum() > 4


def _hard(x):
  return np.asarray(MODEL(KEYS[: len(x)], jnp.asarray(x >= 0.5, jnp.float32)), np.float64)


BITS = np.argmax(_hard(np.asarray(X)), axis=1)
FLIPPERS = [
  {"num_steps": 200},
  {"num_steps": 200, "flips_per_step": 8},
  {"num_steps": 400, "method": "exhaustive", "block_size": 8},
]


@pytest.mark.parametrize("options", FLIPPERS)
def test_flips_reach_all_that_the_ball_allows_and_nothing_else(options):
  """Two classes and a linear model: flipping every pixel that helps is the optimum."""
  w = np.asarray(WEIGHTS, np.float64)[:, 1] - np.asarray(WEIGHTS, np.float64)[:, 0]
  pair = Partial(linear_logits, WEIGHTS[:, :2], MODEL.args[1][:2])
  x = np.asarray(X).reshape(NUM, -1)
  bits = (x >= 0.5).astype(float)
  score = bits @ w + float(MODEL.args[1][1] - MODEL.args[1][0])
  y = (score > 0).astype(int)
  for eps in (0.02, 0.1, 0.25):
    low, high = (np.clip(x + s * np.float32(eps), 0, 1).astype("f4") for s in (-1, 1))
    reachable = np.where(bits == 1, low < 0.5, high >= 0.5)
    gain = np.where(reachable, (1 - 2 * bits) * w * np.where(y == 1, -1, 1)[:, None], 0)
    sums = np.cumsum(-np.sort(-np.maximum(gain, 0), axis=1), axis=1)
    possible = sums[:, -1] > np.abs(score)
    adv = _run("pixel_flips", binarize(pair), y=y, eps=eps, **options)
    x_adv = np.asarray(adv.x).reshape(NUM, -1)
    assert np.all((x_adv >= low) & (x_adv <= high))
    flipped = (x_adv >= 0.5) != (x >= 0.5)
    assert not np.any(flipped & ~reachable)
    np.testing.assert_array_equal(x_adv[~flipped], x[~flipped])
    fooled = ((x_adv >= 0.5) @ w + score - bits @ w > 0) != y
    np.testing.assert_array_equal(fooled, possible)
    np.testing.assert_array_equal(adv.info.success, possible)
    if options.get("flips_per_step", 1) == 1:  # the fewest flips that do
      fewest = 1 + np.argmax(sums > np.abs(score)[:, None], axis=1)
      np.testing.assert_array_equal(flipped.sum(1)[possible], fewest[possible])
    # Where it fails, all that helps was done.
    lost = ~possible
    np.testing.assert_array_equal(flipped[lost], (gain > 0)[lost])
  assert possible.any()


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("flips_per_step", [1, 36])
def test_flips_within_a_budget_solve_the_knapsack(norm, power, flips_per_step):
  """Two classes and a linear model: no more than the relaxed optimum, no less than the greedy."""
  w = np.asarray(WEIGHTS, np.float64)[:, 1] - np.asarray(WEIGHTS, np.float64)[:, 0]
  pair = Partial(linear_logits, WEIGHTS[:, :2], MODEL.args[1][:2])
  black_and_white = jnp.where(X >= 0.5, 1.0, 0.0)
  verdicts = []
  for images_, eps in ((X, 0.1), (X, 0.3), (black_and_white, 0.8)):
    x = np.asarray(images_, np.float64).reshape(NUM, -1)
    bits = (x >= 0.5).astype(float)
    score = bits @ w + float(MODEL.args[1][1] - MODEL.args[1][0])
    y = (score > 0).astype(int)
    cost = np.abs(x - 0.5) ** power
    gain = np.maximum((1 - 2 * bits) * w * np.where(y == 1, -1, 1)[:, None], 0)
    order = np.argsort(-gain / np.maximum(cost, 1e-12), axis=1)
    gain, cost = (np.take_along_axis(values, order, axis=1) for values in (gain, cost))
    spent = np.cumsum(cost, axis=1)
    fits = spent <= eps**power * (1 - 1e-5)
    whole = np.sum(np.where(fits, gain, 0), axis=1)
    part = np.clip((eps**power - (spent - cost)) / np.maximum(cost, 1e-12), 0, 1)
    relaxed = np.sum(part * gain, axis=1)

    options = {"norm": norm, "eps": eps, "flips_per_step": flips_per_step, "num_steps": 200}
    adv = _run("pixel_flips", binarize(pair), x=images_, y=y, **options)
    x_adv = np.asarray(adv.x).reshape(NUM, -1)
    change = np.sum(np.abs(x_adv.astype(np.float64) - x) ** power, axis=1)
    assert np.all(change <= eps**power) and np.any(change > 0)
    fooled = np.asarray(adv.info.success)
    np.testing.assert_array_equal(((x_adv >= 0.5) @ w + score - bits @ w > 0) != y, fooled)
    assert np.all(fooled[whole > np.abs(score) + 1e-4])
    assert not np.any(fooled[relaxed < np.abs(score) - 1e-4])
    verdicts += list(fooled)
  assert 0.1 < np.mean(verdicts) < 0.9


def test_flips_back_make_room_in_the_budget():
  """From a start that spends it on the wrong pixels, the right ones are still found."""
  w = jnp.asarray([[0.0, g] for g in (5.0, 4.0, 1.0, 1.0, -3.0, -3.0)])
  model = binarize(Partial(linear_logits, w, jnp.asarray([8.5, 0.0])))
  x = jnp.zeros((1, 1, 6, 1))
  start = x.at[0, 0, 4:].set(1.0)
  options = {"norm": "l2", "eps": 0.75, "flips_per_step": 6}  # room for two
  adv = _run("pixel_flips", model, x=x, y=np.zeros(1, int), k=keys(1), start=start, **options)
  np.testing.assert_array_equal(np.asarray(adv.x).ravel(), [0.5, 0.5, 0, 0, 0, 0])
  assert adv.info.success.all()


def test_a_start_outside_the_ball_keeps_what_fits():
  x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(0.4)
  model = binarize(Partial(linear_logits, jnp.zeros((16, 2)), jnp.asarray([1.0, 0.0])))
  options = {"norm": "l2", "eps": 0.8, "num_steps": 1}  # room for the cheap one and two others
  adv = _run("pixel_flips", model, x=x, y=np.zeros(1, int), k=keys(1), start=1 - x, **options)
  change = np.asarray(adv.x - x)
  assert np.sum(change != 0) == 3 and np.sum(change**2) <= 0.8**2 and change[0, 0, 0, 0] > 0


def test_under_fresh_draws_the_largest_loss_counts_and_not_the_first_success():
  """A flip in the label's favour is never made, and one lucky draw does not end the search."""

  def noisy(keys, x):
    noise = jax.vmap(lambda key: 3 * jax.random.normal(key, (2,)))(keys)
    return (
      x.reshape(len(x), -1) @ jnp.asarray([[0.0, 1.0]] * 16) + jnp.asarray([[4.0, 0.0]]) + noise
    )

  x = jnp.zeros((32, 4, 4, 1))
  options = {"eps": 0.5, "num_steps": 60, "randomness": "fresh", "eot_samples": 8}
  adv = _run("pixel_flips", binarize(noisy), x=x, y=np.zeros(32, int), k=keys(32), **options)
  assert np.mean(np.sum(np.asarray(adv.x) != 0, axis=(1, 2, 3))) > 8  # 4 flips tie on average


def test_a_class_that_is_not_the_nearest_may_be_the_one_within_reach():
  """Class 1 is behind by 1 and gains 0.4 from each of two pixels; class 2 by 2, and gains 3."""
  w = jnp.asarray([[0.0, 0.4, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 3.0]])
  model = binarize(Partial(linear_logits, w, jnp.asarray([2.0, 1.0, 0.0])))
  x = jnp.asarray([0.0, 0.0, 0.0]).reshape(1, 1, 3, 1)
  y, k = np.zeros(1, int), keys(1)
  # Room for two flips: both of class 1's, or class 2's.
  options = {"norm": "l2", "eps": 0.71, "flips_per_step": 3}
  nearest = _run("pixel_flips", model, x=x, y=y, k=k, **options)
  assert not nearest.info.success.any()
  each = _run("pixel_flips", model, x=x, y=y, k=k, num_targets=2, **options)
  np.testing.assert_array_equal(np.asarray(each.x).ravel(), [0.0, 0.0, 0.5])
  assert each.info.success.all()
  # A target of its own is the only one, and a failed attack ends with the image of largest loss.
  aimed = _run(
    "pixel_flips", model, x=x, y=y, k=k, num_targets=2, target=np.ones(1, int), **options
  )
  np.testing.assert_array_equal(np.asarray(aimed.x).ravel(), [0.5, 0.5, 0.0])
  assert not aimed.info.success.any() and aimed.info.num_steps[0] < each.info.num_steps[0] + 3


def test_the_equality_rule_decides_what_is_reachable():
  values = jnp.asarray([0.0, 1.0, 0.5, BELOW, 0.25, 0.75]).reshape(1, 1, 6, 1)

  def flips(eps, sign):
    model = binarize(Partial(linear_logits, jnp.asarray([[0.0, sign]] * 6), jnp.asarray([50.0, 0])))
    goal_class = np.zeros(1, int)
    adv = _run("pixel_flips", model, x=values, y=goal_class, k=keys(1), eps=eps)
    return np.asarray(adv.x).ravel(), np.asarray(values).ravel()

  up, x = flips(0.5, 1.0)  # black reaches one half, which is on; the next below rises too
  np.testing.assert_array_equal(up, [0.5, 1.0, 0.5, 0.5, 0.5, 0.75])
  down, _ = flips(0.5, -1.0)  # white reaches one half at best, which is still on
  np.testing.assert_array_equal(down, [0.0, 1.0, BELOW, BELOW, 0.25, BELOW])
  np.testing.assert_array_equal(flips(0.0, 1.0)[0], x)
  np.testing.assert_array_equal(flips(0.0, -1.0)[0], x)
  np.testing.assert_array_equal(flips(1e-6, -1.0)[0], [0.0, 1.0, BELOW, BELOW, 0.25, 0.75])


def test_flips_beat_pgd_on_a_curved_model_and_keep_a_given_start():
  rng = np.random.default_rng(1)
  parts = [jnp.asarray(4 * rng.normal(size=(36, 16)), jnp.float32),
           jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)]  # fmt: skip
  model = binarize(Partial(curved_logits, *parts))
  x = images(64, shape=SHAPE, low=0.0, high=1.0)
  y, k = predictions(model, x), keys(64)
  flips = _run("pixel_flips", model, x=x, y=y, k=k, eps=0.03)
  pgd = _run("pgd", model, x=x, y=y, k=k, eps=0.03, num_steps=20)
  weaker, stronger = (np.asarray(adv.info.success).sum() for adv in (pgd, flips))
  np.testing.assert_array_equal(predictions(model, flips.x) != y, flips.info.success)
  assert 0 < weaker <= stronger < 64

  # A start that is adversarial is found with the first evaluation, brought to its nearest values.
  found = np.asarray(flips.info.success)
  again = _run("pixel_flips", model, x=x, y=y, k=k, eps=0.03, start=flips.x)
  np.testing.assert_array_equal(again.x[found], flips.x[found])
  assert np.all(np.asarray(again.info.num_steps)[found] == 1)


def test_flips_of_a_masked_model_say_so():
  """Without the estimator greedy has no gradient and stops; exhaustive needs none."""

  def masked(keys, x):
    return MODEL(keys, jnp.where(x >= 0.5, 1.0, 0.0))

  greedy = _run("pixel_flips", masked, y=BITS, eps=0.2)
  np.testing.assert_array_equal(greedy.info.zero_gradient, 1)
  assert not greedy.info.success.any() and np.asarray(greedy.info.done).all()
  np.testing.assert_array_equal(greedy.x, X)
  target = (BITS + 1) % 3
  adv = _run("pixel_flips", masked, y=BITS, eps=0.2, target=target, **FLIPPERS[2])
  reached = np.argmax(_hard(np.asarray(adv.x)), axis=1) == target
  np.testing.assert_array_equal(adv.info.success, reached)
  assert reached.any()


@pytest.mark.slow
def test_jit_equals_eager():
  goal = Goal(jnp.asarray(CLEAN[:4], "int32"), jnp.full(4, -1), 1 - X[:4])
  attack = attacks.build("pixel_flips", binarize(MODEL), eps=0.2)
  state = attack.init(KEYS[:4], X[:4], goal)
  eager, jitted = attack.step(KEYS[:4], state), jax.jit(attack.step)(KEYS[:4], state)
  for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("salt_and_pepper", {"norm": "l1"}, "unknown norm 'l1'"),
    ("salt_and_pepper", {"num_steps": 0}, "num_steps must be >= 1"),
    ("pointwise", {"num_restarts": 0}, "num_restarts, noise_steps and num_steps"),
    ("pointwise", {"block_size": 0}, "block_size must be >= 1"),
    ("pixel_flips", {"eps": 0.1, "norm": "l3"}, "unknown norm 'l3'"),
    (
      "pixel_flips",
      {"eps": 0.1, "norm": "l2", "method": "exhaustive"},
      "norm must be 'linf', got 'l2'",
    ),
    ("pixel_flips", {"eps": 0.1, "method": "greed"}, "did you mean 'greedy'"),
    ("pixel_flips", {"eps": 0.1, "num_steps": 0}, "num_steps and flips_per_step"),
    ("pixel_flips", {"eps": 0.1, "num_targets": -1}, "num_targets >= 0"),
    (
      "pixel_flips",
      {"eps": 0.1, "method": "exhaustive", "num_targets": 2},
      "num_targets=2 is for method='greedy'",
    ),
    ("pixel_flips", {"eps": 0.1, "at": 0.0}, r"at must be in \(0, 1\]"),
    ("pixel_flips", {"eps": -0.1}, "eps must be"),
  ],
)
def test_wrong_hyperparameters_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build(name, MODEL, **options)
