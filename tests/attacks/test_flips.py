"""Flips of single pixels of models that threshold their input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved_logits, images, keys, linear_logits, predictions
from jax.tree_util import Partial
from sparse_problem import CLEAN, KEYS, MODEL, NUM, SHAPE, WEIGHTS, X, attacked

from gencls import attacks
from gencls.straight_through import binarize
from gencls.types import Goal

_flips = functools.partial(attacked, "pixel_flips")
BELOW = np.nextafter(np.float32(0.5), np.float32(0))


def _hard(x):
  return np.asarray(MODEL(KEYS[: len(x)], jnp.asarray(x >= 0.5, jnp.float32)), np.float64)


AT = [np.float32(0.5), np.float32(0.3)]
BITS = np.argmax(_hard(np.asarray(X)), axis=1)
FLIPPERS = [
  {"num_steps": 200},
  {"num_steps": 200, "flips_per_step": 8},
  {"num_steps": 400, "method": "exhaustive", "block_size": 8},
]


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("options", FLIPPERS)
def test_flips_reach_all_that_the_ball_allows_and_nothing_else(options, at):
  """Two classes and a linear model: flipping every pixel that helps is the optimum."""
  w = np.asarray(WEIGHTS, np.float64)[:, 1] - np.asarray(WEIGHTS, np.float64)[:, 0]
  pair = Partial(linear_logits, WEIGHTS[:, :2], MODEL.args[1][:2])
  x = np.asarray(X).reshape(NUM, -1)
  bits = (x >= at).astype(float)
  score = bits @ w + float(MODEL.args[1][1] - MODEL.args[1][0])
  y = (score > 0).astype(int)
  for eps in (0.02, 0.1, 0.25):
    low, high = (np.clip(x + s * np.float32(eps), 0, 1).astype("f4") for s in (-1, 1))
    reachable = np.where(bits == 1, low < at, high >= at)
    gain = np.where(reachable, (1 - 2 * bits) * w * np.where(y == 1, -1, 1)[:, None], 0)
    sums = np.cumsum(-np.sort(-np.maximum(gain, 0), axis=1), axis=1)
    possible = sums[:, -1] > np.abs(score)
    adv = _flips(binarize(pair, at), y=y, eps=eps, at=float(at), **options)
    x_adv = np.asarray(adv.x).reshape(NUM, -1)
    assert np.all((x_adv >= low) & (x_adv <= high))
    flipped = (x_adv >= at) != (x >= at)
    assert not np.any(flipped & ~reachable)
    np.testing.assert_array_equal(x_adv[~flipped], x[~flipped])
    fooled = ((x_adv >= at) @ w + score - bits @ w > 0) != y
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
@pytest.mark.parametrize(("flips_per_step", "at"), [(1, AT[0]), (36, AT[1])])
def test_flips_within_a_budget_solve_the_knapsack(norm, power, flips_per_step, at):
  """Two classes and a linear model: no more than the relaxed optimum, no less than the greedy."""
  w = np.asarray(WEIGHTS, np.float64)[:, 1] - np.asarray(WEIGHTS, np.float64)[:, 0]
  pair = Partial(linear_logits, WEIGHTS[:, :2], MODEL.args[1][:2])
  black_and_white = jnp.where(at <= X, 1.0, 0.0)
  verdicts = []
  for images_, eps in ((X, 0.1), (X, 0.3), (black_and_white, 0.8)):
    x = np.asarray(images_, np.float64).reshape(NUM, -1)
    bits = (x >= at).astype(float)
    score = bits @ w + float(MODEL.args[1][1] - MODEL.args[1][0])
    y = (score > 0).astype(int)
    cost = np.abs(x - at) ** power
    gain = np.maximum((1 - 2 * bits) * w * np.where(y == 1, -1, 1)[:, None], 0)
    order = np.argsort(-gain / np.maximum(cost, 1e-12), axis=1)
    gain, cost = (np.take_along_axis(values, order, axis=1) for values in (gain, cost))
    spent = np.cumsum(cost, axis=1)
    fits = spent <= eps**power * (1 - 1e-5)
    whole = np.sum(np.where(fits, gain, 0), axis=1)
    part = np.clip((eps**power - (spent - cost)) / np.maximum(cost, 1e-12), 0, 1)
    relaxed = np.sum(part * gain, axis=1)

    options = {"norm": norm, "eps": eps, "flips_per_step": flips_per_step, "num_steps": 200}
    adv = _flips(binarize(pair, at), x=images_, y=y, at=float(at), **options)
    x_adv = np.asarray(adv.x).reshape(NUM, -1)
    change = np.sum(np.abs(x_adv.astype(np.float64) - x) ** power, axis=1)
    assert np.all(change <= eps**power) and np.any(change > 0)
    fooled = np.asarray(adv.info.success)
    np.testing.assert_array_equal(((x_adv >= at) @ w + score - bits @ w > 0) != y, fooled)
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
  adv = _flips(model, x=x, y=np.zeros(1, int), k=keys(1), start=start, **options)
  np.testing.assert_array_equal(np.asarray(adv.x).ravel(), [0.5, 0.5, 0, 0, 0, 0])
  assert adv.info.success.all()


def test_a_start_outside_the_ball_keeps_what_fits():
  x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(0.4)
  model = binarize(Partial(linear_logits, jnp.zeros((16, 2)), jnp.asarray([1.0, 0.0])))
  options = {"norm": "l2", "eps": 0.8, "num_steps": 1}  # room for the cheap one and two others
  adv = _flips(model, x=x, y=np.zeros(1, int), k=keys(1), start=1 - x, **options)
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
  adv = _flips(binarize(noisy), x=x, y=np.zeros(32, int), k=keys(32), **options)
  assert np.mean(np.sum(np.asarray(adv.x) != 0, axis=(1, 2, 3))) > 8  # 4 flips tie on average


def test_a_class_that_is_not_the_nearest_may_be_the_one_within_reach():
  """Class 1 is behind by 1 and gains 0.4 from each of two pixels; class 2 by 2, and gains 3."""
  w = jnp.asarray([[0.0, 0.4, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 3.0]])
  model = binarize(Partial(linear_logits, w, jnp.asarray([2.0, 1.0, 0.0])))
  x = jnp.asarray([0.0, 0.0, 0.0]).reshape(1, 1, 3, 1)
  y, k = np.zeros(1, int), keys(1)
  # Room for two flips: both of class 1's, or class 2's.
  options = {"norm": "l2", "eps": 0.71, "flips_per_step": 3}
  nearest = _flips(model, x=x, y=y, k=k, **options)
  assert not nearest.info.success.any()
  each = _flips(model, x=x, y=y, k=k, num_targets=2, **options)
  np.testing.assert_array_equal(np.asarray(each.x).ravel(), [0.0, 0.0, 0.5])
  assert each.info.success.all()
  # A target of its own is the only one, and a failed attack ends with the image of largest loss.
  aimed = _flips(model, x=x, y=y, k=k, num_targets=2, target=np.ones(1, int), **options)
  np.testing.assert_array_equal(np.asarray(aimed.x).ravel(), [0.5, 0.5, 0.0])
  assert not aimed.info.success.any() and aimed.info.num_steps[0] < each.info.num_steps[0] + 3


def test_the_equality_rule_decides_what_is_reachable():
  values = jnp.asarray([0.0, 1.0, 0.5, BELOW, 0.25, 0.75]).reshape(1, 1, 6, 1)

  def flips(eps, sign):
    model = binarize(Partial(linear_logits, jnp.asarray([[0.0, sign]] * 6), jnp.asarray([50.0, 0])))
    goal_class = np.zeros(1, int)
    adv = _flips(model, x=values, y=goal_class, k=keys(1), eps=eps)
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
  flips = _flips(model, x=x, y=y, k=k, eps=0.03)
  pgd = attacked("pgd", model, x=x, y=y, k=k, eps=0.03, num_steps=20)
  weaker, stronger = (np.asarray(adv.info.success).sum() for adv in (pgd, flips))
  np.testing.assert_array_equal(predictions(model, flips.x) != y, flips.info.success)
  assert 0 < weaker <= stronger < 64

  # A start that is adversarial is found with the first evaluation, brought to its nearest values.
  found = np.asarray(flips.info.success)
  again = _flips(model, x=x, y=y, k=k, eps=0.03, start=flips.x)
  np.testing.assert_array_equal(again.x[found], flips.x[found])
  assert np.all(np.asarray(again.info.num_steps)[found] == 1)


def test_flips_of_a_masked_model_say_so():
  """Without the estimator greedy has no gradient and stops; exhaustive needs none."""

  def masked(keys, x):
    return MODEL(keys, jnp.where(x >= 0.5, 1.0, 0.0))

  greedy = _flips(masked, y=BITS, eps=0.2)
  np.testing.assert_array_equal(greedy.info.zero_gradient, 1)
  assert not greedy.info.success.any() and np.asarray(greedy.info.done).all()
  np.testing.assert_array_equal(greedy.x, X)
  target = (BITS + 1) % 3
  adv = _flips(masked, y=BITS, eps=0.2, target=target, **FLIPPERS[2])
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
  ("options", "message"),
  [
    ({"eps": 0.1, "norm": "l3"}, "unknown norm 'l3'"),
    (
      {"eps": 0.1, "norm": "l2", "method": "exhaustive"},
      "norm must be 'linf', got 'l2'",
    ),
    ({"eps": 0.1, "method": "greed"}, "did you mean 'greedy'"),
    ({"eps": 0.1, "num_steps": 0}, "num_steps and flips_per_step"),
    ({"eps": 0.1, "num_targets": -1}, "num_targets >= 0"),
    (
      {"eps": 0.1, "method": "exhaustive", "num_targets": 2},
      "num_targets=2 is for method='greedy'",
    ),
    ({"eps": 0.1, "at": 0.0}, r"at must be in \(0, 1\]"),
    ({"eps": -0.1}, "eps must be"),
  ],
)
def test_wrong_hyperparameters_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build("pixel_flips", MODEL, **options)
