"""Attacks without gradients: boundary, HopSkipJump, square, SPSA, and their starts."""

import warnings
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, curved_logits, images, keys, predictions
from jax.tree_util import Partial

from gencls import attacks, interop
from gencls.attacks import boundary, starts
from gencls.types import Goal

NUM = 8
SHAPE = (6, 6, 1)
SIZE = 36
X = images(NUM, shape=SHAPE, low=0.35, high=0.65)
KEYS = keys(NUM)
CURVED = curved(size=SIZE, num_classes=4)
# Nearly flat boundaries: where a walk ends depends little on where it starts.
SMOOTH = Partial(curved_logits, 0.2 * CURVED.args[0], CURVED.args[1])
ATTACKS = [
  ("boundary", {"num_steps": 60, "directions": 20}),
  ("hop_skip_jump", {"num_steps": 2, "initial_num_evals": 16, "directions": 20}),
  ("hop_skip_jump", {"num_steps": 2, "initial_num_evals": 16, "norm": "linf", "directions": 20}),
  ("square", {"eps": 0.05, "num_steps": 30, "num_restarts": 2}),
  ("square", {"eps": 0.2, "num_steps": 30, "norm": "l2"}),
  ("spsa", {"eps": 0.05, "num_steps": 3, "num_samples": 16, "block": 8}),
]


def _smooth_weight():
  """Weights of a two-class model, smooth so that squares and bumps can follow them."""
  row, column = np.mgrid[:6, :6] / 5
  return (np.sin(4 * row + 1) + np.cos(3 * column)).ravel().astype(np.float32)


WEIGHT = _smooth_weight()
# Linear (tanh of little is itself), with all decisions at the same plane; it shares the programs
# of CURVED, as all the models here do.
TWO_CLASS = Partial(
  curved_logits,
  jnp.zeros((SIZE, 16)).at[:, 0].set(1e-3 * WEIGHT),
  jnp.zeros((16, 4)).at[0].set(1e3 * jnp.asarray([-1.0, 1.0, 0.5, -0.5])),
)
# Class 0 whatever the image; NaN where its first two pixels are on different sides of grey.
CONSTANT = Partial(curved_logits, jnp.zeros((SIZE, 16)).at[:2, 0].set(jnp.inf), jnp.zeros((16, 4)))


def _two_class_radius(x, order):
  """The distance to the other class, exactly, by the dual norm."""
  gap = np.abs((np.asarray(x, np.float64).reshape(len(x), -1) - 0.5) @ WEIGHT)
  return gap / np.linalg.norm(WEIGHT, ord={2: 2, np.inf: 1}[order])


def _lengths(x_adv, x, order):
  delta = (np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)).reshape(len(x), -1)
  return np.linalg.norm(delta, ord=order, axis=1)


def _run(name, logits_fn, y, *, x=X, k=KEYS, target=None, start=None, **options):
  """One batch, in one program for many steps: quick for models without convolutions."""
  attack = attacks.build(name, logits_fn, **options)
  how = {"loop": "device", "batch_size": NUM, "compact": False}
  return attacks.run(attack, k, x, y, target=target, start=start, **how)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "options", "order", "within"),
  [
    ("boundary", {"num_steps": 10000}, 2, 1.02),
    ("hop_skip_jump", {"num_steps": 40}, 2, 1.01),
    ("hop_skip_jump", {"num_steps": 40, "norm": "linf"}, np.inf, 1.015),
  ],
)
def test_walks_reach_the_closed_form_minimal_distance(name, options, order, within):
  y = predictions(TWO_CLASS, X)
  adv = _run(name, TWO_CLASS, y, **options)
  assert np.all(predictions(TWO_CLASS, adv.x) != y)
  ratio = _lengths(adv.x, X, order) / _two_class_radius(X, order)
  assert np.all((ratio > 1 - 1e-4) & (ratio < within)), ratio


@pytest.mark.parametrize(
  ("name", "options", "order", "above"),
  [
    ("square", {"num_steps": 800}, np.inf, 1.05),
    ("square", {"num_steps": 800, "norm": "l2"}, 2, 1.3),
    ("spsa", {"num_steps": 60, "num_samples": 32, "block": 8}, np.inf, 1.05),
    ("spsa", {"num_steps": 60, "num_samples": 32, "block": 8, "norm": "l2"}, 2, 1.1),
  ],
)
def test_fixed_budgets_succeed_just_above_the_minimal_radius_and_not_below(
  name, options, order, above
):
  y = predictions(TWO_CLASS, X)
  radius = _two_class_radius(X, order)
  eps = float(np.sort(radius)[NUM // 2])  # half of the images can be broken
  for factor in (above, 0.99):
    adv = _run(name, TWO_CLASS, y, eps=eps * factor, **options)
    success = predictions(TWO_CLASS, adv.x) != y
    np.testing.assert_array_equal(success, adv.info.success)
    assert np.all(success[radius * above <= eps * factor])
    assert not success[radius > eps * factor * (1 + 1e-5)].any()
    length = _lengths(adv.x, X, order)
    assert np.all(length <= eps * factor * (1 + 1e-6) + 1e-7)
    if name == "square":  # it never leaves any of the budget unused
      np.testing.assert_allclose(length, eps * factor, rtol=1e-4)


@pytest.mark.parametrize(("name", "options"), ATTACKS)
def test_results_are_in_box_and_ball_and_do_not_depend_on_the_batch(name, options):
  x = images(NUM, shape=SHAPE, low=0.0, high=1.0)
  y = predictions(CURVED, x)
  adv = _run(name, CURVED, y, x=x, **options)
  assert adv.x.dtype == jnp.float32 and adv.x.min() >= 0 and adv.x.max() <= 1
  assert np.any(adv.x != x)
  if "eps" in options:
    order = 2 if options.get("norm") == "l2" else np.inf
    assert np.all(_lengths(adv.x, x, order) <= options["eps"] * (1 + 1e-6) + 1e-7)
    untouched = _run(name, CURVED, y, x=x, **{**options, "eps": 0.0})
    np.testing.assert_array_equal(untouched.x, x)
  order = np.random.default_rng(0).permutation(NUM)
  permuted = _run(name, CURVED, y[order], x=x[order], k=KEYS[order], **options)
  np.testing.assert_array_equal(permuted.x, adv.x[order])
  np.testing.assert_array_equal(permuted.info.forward, adv.info.forward[order])
  # Three of the eight in a (padded) batch of their own.
  part = _run(name, CURVED, y[:3], x=x[:3], k=KEYS[:3], **options)
  np.testing.assert_allclose(part.x, adv.x[:3], atol=1e-5)


@pytest.mark.parametrize(("name", "options"), ATTACKS)
def test_queries_are_counted(name, options):
  seen = []

  def counted(keys, x):
    seen.append(len(x))  # once per call in a step
    return curved_logits(*CURVED.args, keys, x)

  attack = attacks.build(name, counted, **options)
  goal = Goal(jnp.zeros(NUM, jnp.int32), jnp.full(NUM, -1))
  jax.eval_shape(attack.step, KEYS, jax.eval_shape(attack.init, KEYS, X, goal))
  adv = _run(name, CURVED, predictions(CURVED, X), **options)
  np.testing.assert_array_equal(adv.info.forward, sum(seen) // NUM * adv.info.num_steps)
  assert not adv.info.backward.any() and len(seen) == 1  # one model call in a step


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), ATTACKS)
def test_jit_equals_eager(name, options):
  attack = attacks.build(name, CURVED, **options)
  y = jnp.asarray(predictions(CURVED, X), jnp.int32)
  state = attack.init(KEYS, X, Goal(y, jnp.full(NUM, -1)))
  eager, jitted = attack.step(KEYS, state), jax.jit(attack.step)(KEYS, state)
  for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), ATTACKS)
def test_hopeless_nan_and_wrong_examples_share_a_batch(name, options):
  x = X.at[:, 0, :2, 0].set(0.8).at[3, 0, 0, 0].set(0.2)
  y = np.asarray([0, 0, 1, 0, 1, 0, 0, 0])  # two are wrong already
  adv = _run(name, CONSTANT, y, x=x, **options)
  np.testing.assert_array_equal(adv.info.success, y == 1)
  assert np.all(np.isfinite(adv.x)) and adv.info.done.all()
  assert adv.info.nonfinite[3] > 0
  if "eps" not in options:
    np.testing.assert_array_equal(adv.x, x)
    # x and 20 directions, in whole blocks; x alone where it is wrong.
    tried, once = (21, 1) if name == "boundary" else (24, 4)
    np.testing.assert_array_equal(adv.info.forward, np.where(y == 1, once, tried))


@pytest.mark.parametrize(
  "name", ["boundary", pytest.param("hop_skip_jump", marks=pytest.mark.slow)]
)
def test_targeted_walks_start_from_images_of_the_target(name):
  pool = images(200, seed=5, shape=SHAPE, low=0.0, high=1.0)
  guess = predictions(CURVED, pool)
  y = predictions(CURVED, X)
  target = np.where(np.arange(NUM) % 4 == 0, -1, (y + 1) % 4)
  start = starts.class_starts(pool, guess, X, y, target)
  options = {"num_steps": 400} if name == "boundary" else {"num_steps": 5}
  adv = _run(name, CURVED, y, target=target, start=start, directions=0, **options)
  found = predictions(CURVED, adv.x)
  assert np.all(np.where(target < 0, found != y, found == target)) and adv.info.success.all()
  assert np.all(_lengths(adv.x, X, 2) < 0.5 * _lengths(start, X, 2))
  # A start that does not succeed is no start: x comes back.
  lost = _run(name, CURVED, y, target=target, start=X, directions=0, **options)
  np.testing.assert_array_equal(lost.x, X)
  assert not lost.info.success.any() and lost.info.done.all()


@pytest.mark.parametrize("name", ["square", "spsa"])
def test_targeted_fixed_budgets(name):
  y = predictions(CURVED, X)
  target = np.where(np.arange(NUM) % 4 == 0, -1, (y + 1) % 4)
  small = {"num_samples": 32, "block": 8, "num_steps": 40}
  options = {"num_steps": 400} if name == "square" else small
  adv = _run(name, CURVED, y, target=target, eps=0.25, **options)
  found = predictions(CURVED, adv.x)
  reached = np.where(target < 0, found != y, found == target)
  np.testing.assert_array_equal(reached, adv.info.success)
  assert reached.all()


def test_hunt_takes_the_first_interpolation_that_succeeds():
  """Against NumPy: the first noise image that succeeds, then the first share of the way to it."""
  y = predictions(CURVED, X)
  attack = attacks.build("boundary", CURVED, blend_steps=20)
  state = attack.init(KEYS, X, Goal(jnp.asarray(y, jnp.int32), jnp.full(NUM, -1)))
  step, noise, found = jax.jit(attack.step), np.asarray(X), np.asarray(X)
  blends = np.zeros(NUM, int)
  for _ in range(1000):
    before = np.asarray(state.hunt.stage)
    if np.all(before == starts.FOUND):
      break
    blends += before == starts.BLEND
    state, _ = step(KEYS, state)
    caught = (before == starts.SEEK) & (state.hunt.stage == starts.BLEND)
    over = (before == starts.BLEND) & (state.hunt.stage == starts.FOUND)
    noise = np.where(caught[:, None, None, None], state.x_adv, noise)
    found = np.where(over[:, None, None, None], state.x_adv, found)
  assert len({image.tobytes() for image in noise}) == NUM and noise.std() > 0.25
  share = np.arange(1, 21, dtype=np.float32)[:, None, None, None] / 20
  for i in range(NUM):
    points = np.asarray(X[i]) + share * (noise[i] - np.asarray(X[i]))
    first = np.argmax(predictions(CURVED, jnp.asarray(points)) != y[i])
    np.testing.assert_allclose(found[i], points[first], atol=1e-6)
    assert blends[i] == first + 1  # none is left out


def test_a_block_tries_no_more_than_it_may():
  goal = Goal(jnp.zeros(NUM, jnp.int32), jnp.full(NUM, -1), X[::-1])
  tried = starts.propose(KEYS, starts.hunt(X), X, X, goal, starts.plan(2, 5), jnp.arange(6))
  np.testing.assert_array_equal(tried[:, 0], X)
  np.testing.assert_array_equal(tried[:, 1], X[::-1])
  noise = np.asarray(tried[:, 2:4]).reshape(2 * NUM, -1)
  assert len(np.unique(noise[:, 0])) == 2 * NUM and noise.min() < 0.1 and noise.max() > 0.9
  np.testing.assert_array_equal(tried[:, 4:], jnp.stack([X, X], axis=1))


def test_class_starts_are_the_nearest_of_the_wanted_class():
  pool, labels = images(50, seed=3, shape=SHAPE), np.arange(50) % 4
  y = np.arange(NUM) % 4
  target = np.where(np.arange(NUM) < 4, -1, (y + 2) % 4)
  found = starts.class_starts(pool, labels, X, y, target)
  for i in range(NUM):
    fits = labels != y[i] if target[i] < 0 else labels == target[i]
    gaps = np.where(
      fits, np.sum((np.asarray(pool) - np.asarray(X[i])) ** 2, axis=(1, 2, 3)), np.inf
    )
    np.testing.assert_array_equal(found[i], pool[int(np.argmin(gaps))])
  with pytest.raises(ValueError, match=r"no image to start example 4 from \(label 0, target 2\)"):
    starts.class_starts(pool[1::2], labels[1::2], X, y, target)
  with pytest.raises(ValueError, match="no image to start example 0 from"):
    starts.class_starts(pool[:0], labels[:0], X, y)
  with pytest.raises(ValueError, match="equally many"):
    starts.class_starts(pool, labels[:3], X, y)


def test_records_adapt_as_foolbox_queues_do():
  """Its rule: a full window of the last N outcomes; beyond the rates, change and clear."""
  rng = np.random.default_rng(0)
  size, rates = boundary.SOURCE_WINDOW, boundary.SOURCE_RATES
  chance = np.repeat([0.9, 0.0, 0.18, 0.5], 60)
  queues = [deque(maxlen=size) for _ in range(NUM)]
  record = boundary.Record(jnp.zeros((NUM, size), bool), jnp.zeros(NUM, jnp.int32))
  changes = []
  for p in chance:
    hit, when = rng.uniform(size=NUM) < p, rng.uniform(size=NUM) < 0.8
    expected = np.zeros(NUM)
    for i in np.flatnonzero(when):
      queues[i].append(hit[i])
      if len(queues[i]) == size:
        expected[i] = float(np.mean(queues[i]) > rates[1]) - float(np.mean(queues[i]) < rates[0])
        if expected[i]:
          queues[i].clear()
    record, change = boundary._record(record, jnp.asarray(when), jnp.asarray(hit), rates)
    np.testing.assert_array_equal(change, expected)
    changes.append(expected)
  assert {-1.0, 0.0, 1.0} == set(np.ravel(changes))


def _foolbox(method, x, y, start, seed, **options):
  """(perturbed images, queries per image) of foolbox on SMOOTH."""
  with interop.seeded(seed), warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox")
    ep = pytest.importorskip("eagerpy")
    queries, program = [], jax.jit(lambda x: SMOOTH(None, x))

    def logits(x):
      queries.append(len(x))
      return program(x)

    attack = getattr(foolbox.attacks, method)(**options)
    criterion = foolbox.criteria.Misclassification(ep.astensor(jnp.asarray(y)))
    model = foolbox.JAXModel(logits, bounds=(0, 1))
    adv = attack.run(model, ep.astensor(x), criterion, starting_points=ep.astensor(start))
    return np.asarray(adv.raw), sum(queries) // len(x)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "method", "options", "foolbox_options", "order"),
  [
    ("boundary", "BoundaryAttack", {"num_steps": 2500, "blend_given": False}, {"steps": 2500}, 2),
    # HopSkipJump of foolbox divides the ℓ2 direction by its length over the *batch*, which halves
    # its progress: one image at a time it does not.
    ("hop_skip_jump", "HopSkipJumpAttack", {}, {"steps": 6}, 2),
    (
      "hop_skip_jump",
      "HopSkipJumpAttack",
      {"norm": "linf"},
      {"steps": 6, "constraint": "linf"},
      np.inf,
    ),
  ],
)
def test_walks_are_as_near_as_foolbox_after_as_many_queries(
  name, method, options, foolbox_options, order
):
  num = 64 if name == "boundary" or order == np.inf else 16
  size = 1 if (name, order) == ("hop_skip_jump", 2) else num
  x = images(num, shape=SHAPE, low=0.2, high=0.8)
  y = predictions(SMOOTH, x)
  pool = images(200, seed=5, shape=SHAPE, low=0.0, high=1.0)
  start = starts.class_starts(pool, predictions(SMOOTH, pool), x, y)
  attack = attacks.build(name, SMOOTH, **options)
  ratios, budget = [], 0
  for seed in range(3):
    parts = [
      _foolbox(method, *(v[i : i + size] for v in (x, y, start)), seed, **foolbox_options)
      for i in range(0, num, size)
    ]
    theirs = _lengths(np.concatenate([adv for adv, _ in parts]), x, order)
    budget = int(np.mean([queries for _, queries in parts]))
    run = {"loop": "device", "batch_size": num, "compact": False, "max_queries": budget}
    adv = attacks.run(attack, keys(num, seed), x, y, start=start, **run)
    assert np.all(predictions(SMOOTH, adv.x) != y)
    ratios.append(np.exp(np.mean(np.log(_lengths(adv.x, x, order) / theirs))))
  print(f"{name} {order}: {ratios} of foolbox's distance after {budget} queries")
  assert np.mean(ratios) <= 1.05


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("boundary", {"num_steps": 0}, "num_steps and check_every"),
    ("boundary", {"spherical_step": 0.0}, "spherical_step and source_step"),
    ("boundary", {"step_adaptation": 1.0}, "step_adaptation must be"),
    ("boundary", {"source_step_convergence": float("nan")}, "source_step_convergence must be"),
    ("boundary", {"directions": -1}, "directions must be >= 0"),
    ("boundary", {"eps": 0.1}, "unknown hyperparameter of boundary"),
    ("hop_skip_jump", {"norm": "l1"}, "unknown norm 'l1'"),
    ("hop_skip_jump", {"block": 0}, "block must be >= 1"),
    ("hop_skip_jump", {"gamma": 0.0}, "gamma must be"),
    ("hop_skip_jump", {"blend_steps": 0}, "blend_steps >= 1"),
    ("square", {}, "square needs eps"),
    ("square", {"eps": 0.1, "p_init": 0.0}, r"p_init must be in \(0, 1\]"),
    ("square", {"eps": 0.1, "norm": "l1"}, "unknown norm 'l1'"),
    ("square", {"eps": 0.1, "num_restarts": 0}, "num_steps and num_restarts"),
    ("spsa", {"eps": 0.1, "block": 3}, "block must be even"),
    ("spsa", {"eps": 0.1, "num_samples": 30}, "a positive multiple"),
    ("spsa", {"eps": 0.1, "delta": 0.0}, "delta must be"),
    ("spsa", {"eps": 0.1, "step_size": -1.0}, "step_size must be"),
    ("spsa", {"eps": 0.1, "num_steps": 0}, "num_steps must be >= 1"),
  ],
)
def test_wrong_settings_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build(name, CURVED, **options)
