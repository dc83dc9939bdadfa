"""Carlini-Wagner, DDN and FMN: the attacks of minimum norm that descend by gradients."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys, linear, predictions
from jax.tree_util import Partial

from gencls import attacks
from gencls.attacks import programs
from gencls.attacks.objective import candidates
from gencls.types import Goal

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  foolbox = pytest.importorskip("foolbox")
  ep = pytest.importorskip("eagerpy")

NUM, SHAPE = 16, (5, 5, 1)
SIZE = 25
KEYS = keys(NUM)
TRACES = []  # batch sizes, one for each time the model was traced
ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}
SEARCH = {"binary_search_steps": 7, "num_steps": 100, "initial_const": 0.1}
ATTACKS = [
  ("carlini_wagner", "l2", SEARCH),
  ("ddn", "l2", {}),
  ("fmn", "l2", {"norm": "l2"}),
  ("fmn", "linf", {"norm": "linf"}),
  ("fmn", "l1", {"norm": "l1"}),
  ("fmn", "l0", {"norm": "l0"}),
]
IDS = [f"{name}-{norm}" for name, norm, _ in ATTACKS]


def _logits(weights, bias, inner, outer, limit, keys, x):
  """Linear and curved, NaN where the first pixel is beyond `limit`: the tests share programs."""
  TRACES.append(len(x))
  flat = x.reshape(len(x), -1) - 0.5
  z = flat @ weights + bias[None, :] + jnp.tanh(flat @ inner) @ outer
  return jnp.where(flat[:, :1] + 0.5 > limit, jnp.nan, z)


RNG = np.random.default_rng(3)
WEIGHTS = jnp.asarray(RNG.normal(size=SIZE), jnp.float32)
INNER = jnp.asarray(1.5 * RNG.normal(size=(SIZE, 12)), jnp.float32)
OUTER = jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32)


def _model(weights=WEIGHTS, shift=0.0, limit=2.0):
  """Two linear classes, undecided at the grey image, and a third that never wins."""
  columns = jnp.stack([-0.5 * weights, 0.5 * weights, jnp.zeros(SIZE)], axis=1)
  bias = jnp.asarray([0.0, shift, -99.0], jnp.float32)
  return Partial(_logits, columns, bias, INNER, jnp.zeros_like(OUTER), jnp.float32(limit))


CURVED = Partial(_logits, jnp.zeros((SIZE, 3)), jnp.zeros(3), INNER, OUTER, jnp.float32(2.0))


def _margins(x):
  return np.abs((np.asarray(x).reshape(len(x), -1) - 0.5) @ np.asarray(WEIGHTS))


# Not at the boundary itself: DDN's radius falls to no less than 0.95^100 of its first.
POOL = images(2 * NUM, shape=SHAPE, low=0.35, high=0.65)
X = POOL[_margins(POOL) > 0.1][:NUM]
MARGINS = _margins(X)
LABELS = predictions(_model(), X)
TARGETS = np.where(np.arange(NUM) % 2, 1 - LABELS, -1)  # a mixed batch


def _run(name, model=None, *, x=X, y=LABELS, target=TARGETS, keys=KEYS, start=None, **options):
  attack = attacks.build(name, _model() if model is None else model, **options)
  extra = {"batch_size": NUM, "compact": False}
  return attacks.run(attack, keys, x, y, target=target, start=start, **extra)


def _distance(x_adv, norm, x=X):
  delta = (np.asarray(x_adv, np.float64) - np.asarray(x)).reshape(len(x), -1)
  return np.linalg.norm(delta, ord=ORDER[norm], axis=1)


def _least(norm):
  """The closed form: the distance to a hyperplane well inside the box."""
  weights = np.abs(np.asarray(WEIGHTS, np.float64))
  if norm != "l0":
    dual = {"l1": np.inf, "l2": 2, "linf": 1}[norm]
    return MARGINS / np.linalg.norm(weights, ord=dual)
  # Every pixel may go to the end of the box: the fewest whose gains suffice.
  toward = np.where(LABELS == 0, 1, -1)[:, None] * np.sign(WEIGHTS)[None, :]
  flat = np.asarray(X).reshape(NUM, -1)
  gains = weights * np.where(toward > 0, 1 - flat, flat)
  enough = np.cumsum(-np.sort(-gains, axis=1), axis=1) >= MARGINS[:, None]
  return 1.0 + np.argmax(enough, axis=1)


@pytest.mark.parametrize(("name", "norm", "options"), ATTACKS, ids=IDS)
def test_the_distance_to_a_hyperplane_is_reached(name, norm, options):
  adv = _run(name, **options)
  found = predictions(_model(), adv.x)
  assert np.all(found != LABELS) and np.all(adv.info.success)
  assert np.all(adv.x >= 0) and np.all(adv.x <= 1) and adv.x.dtype == jnp.float32
  ratio = _distance(adv.x, norm) / _least(norm)
  np.testing.assert_array_less(ratio, 1.02 if norm != "l0" else 2.01)
  assert np.all(ratio > 1 - 1e-4) and np.median(ratio) < 1.004
  np.testing.assert_array_equal(adv.info.forward, adv.info.num_steps)
  np.testing.assert_array_equal(adv.info.backward, adv.info.num_steps)


@pytest.mark.parametrize(("name", "norm", "options"), ATTACKS, ids=IDS)
def test_clean_errors_are_done_at_once_and_hopeless_examples_stay(name, norm, options):
  wrong = np.where(np.arange(NUM) < 4, 1 - LABELS, LABELS)
  adv = _run(name, y=wrong, target=None, **options)
  np.testing.assert_array_equal(adv.x[:4], X[:4])
  assert np.all(adv.info.success[:4]) and np.all(adv.info.done)
  np.testing.assert_array_equal(adv.info.num_steps[:4], 1)
  assert np.all(np.asarray(adv.info.num_steps[4:]) > 1)

  hopeless = _model(shift=-50.0)
  adv = _run(name, hopeless, y=np.zeros(NUM, int), target=None, **options)
  np.testing.assert_array_equal(adv.x, X)
  assert not np.any(adv.info.success)


@pytest.mark.parametrize(("name", "norm", "options"), ATTACKS, ids=IDS)
def test_nan_is_counted_and_left_behind(name, norm, options):
  """Some images are NaN themselves; others must cross NaN's border if they go straight."""
  first = np.asarray(X)[:, 0, 0, 0]
  limit = np.sort(first)[-4] + 1e-4  # three images are beyond, one only just not
  model = _model(limit=limit)
  adv = _run(name, model, **options)
  nan = first > limit
  assert nan.sum() == 3 and np.all(np.isfinite(adv.x))
  np.testing.assert_array_equal(np.asarray(adv.info.nonfinite)[nan], adv.info.num_steps[nan])
  np.testing.assert_array_equal(np.asarray(adv.x)[nan], np.asarray(X)[nan])
  assert not np.any(np.asarray(adv.info.success)[nan])
  moved = np.any(np.asarray(adv.x) != np.asarray(X), axis=(1, 2, 3))
  z = np.asarray(model(KEYS, adv.x))
  assert np.all(np.isfinite(z[~nan])) and np.all((np.argmax(z, axis=1) != LABELS)[moved])
  assert np.mean(moved[~nan]) > 0.8


@pytest.mark.parametrize(("name", "norm", "options"), ATTACKS[:3], ids=IDS[:3])
def test_batches_and_numbers_change_nothing_and_trace_nothing(name, norm, options):
  whole = _run(name, **options)
  order = np.random.default_rng(0).permutation(NUM)
  permuted = _run(
    name, x=X[order], y=LABELS[order], target=TARGETS[order], keys=KEYS[order], **options
  )
  np.testing.assert_array_equal(permuted.x, np.asarray(whole.x)[order])
  np.testing.assert_array_equal(permuted.info.num_steps, np.asarray(whole.info.num_steps)[order])
  before = len(TRACES)
  half = _run(name, x=X[:5], y=LABELS[:5], target=TARGETS[:5], keys=KEYS[:5], **options)
  np.testing.assert_allclose(half.x, whole.x[:5], atol=1e-5)
  other = {
    "carlini_wagner": {
      "binary_search_steps": 11, "num_steps": 9, "step_size": 0.1, "initial_const": 1.0,
      "confidence": 0.1, "abort_early": False,
    },
    "ddn": {"num_steps": 9, "init_eps": 0.5, "gamma": 0.2},
    "fmn": {"num_steps": 9, "step_size": 0.1, "final_step_size": 0.1, "gamma": 0.2},
  }[name]  # fmt: skip
  _run(name, _model(2 * WEIGHTS), **{**options, **other})
  assert len(TRACES) == before


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm", "options"), ATTACKS, ids=IDS)
def test_a_step_is_the_same_eagerly(name, norm, options):
  attack = attacks.build(name, _model(), **options)
  jitted, _ = _two_steps(attack)
  with jax.disable_jit():
    before = len(TRACES)
    eager, _ = _two_steps(attack)
    assert len(TRACES) == before + 2  # the counter can count
  for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(eager), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def _two_steps(attack):
  """The state after two steps, through the programs of `run`."""
  state, tally = _start(attack)
  for _ in range(2):
    state, tally = programs.one_step(attack.step, KEYS, state, tally, jnp.int32(10**6))
  return state, tally


def _start(attack):
  goal = Goal(jnp.asarray(LABELS, jnp.int32), jnp.asarray(TARGETS, jnp.int32))
  return programs.start(attack.init, KEYS, X, goal, programs.no_tally(NUM))


def _constants(attack):
  """(c, whether it succeeded) of each search of the first example."""
  state, tally = _start(attack)
  seen = []
  for _ in range(attack.num_steps):
    search, const, found = (np.asarray(v)[0] for v in (state.search, state.const, state.found))
    spent = int(tally.num_steps[0])
    state, tally = programs.one_step(attack.step, KEYS, state, tally, jnp.int32(10**6))
    if state.search[0] > search:
      assert int(tally.num_steps[0]) == spent + 1
      seen.append((const, bool(found)))
  return seen


def test_constants_grow_tenfold_and_are_bisected_and_the_last_repeats_the_best():
  options = {"num_steps": 40, "step_size": 0.05, "initial_const": 1e-3, "abort_early": False}
  seen = _constants(attacks.build("carlini_wagner", _model(), binary_search_steps=10, **options))
  const, lower, upper, want = 1e-3, 0.0, np.inf, []
  for search in range(10):
    if search == 9:
      const = min(upper, 1e10)
    want.append(const)
    lower, upper = (lower, const) if seen[search][1] else (const, upper)
    const = 10 * const if np.isinf(upper) else (lower + upper) / 2
  np.testing.assert_allclose([c for c, _ in seen], want, rtol=1e-5)
  found = [success for _, success in seen]
  assert not found[0] and any(found) and not all(found[found.index(True) :])
  assert len(seen) == 10 and found[-1]


def test_early_abort_is_per_example_and_loses_nothing():
  early = _run("carlini_wagner", **SEARCH)
  late = _run("carlini_wagner", abort_early=False, **SEARCH)
  np.testing.assert_array_equal(late.info.num_steps, 700)
  spent = np.asarray(early.info.num_steps)
  assert np.max(spent) < 700 and len(set(spent.tolist())) > 3
  assert np.all(_distance(early.x, "l2") <= 1.01 * _distance(late.x, "l2"))


def test_confidence_is_reached_and_one_constant_can_be_fixed():
  adv = _run("carlini_wagner", confidence=0.5, **SEARCH)
  z = np.asarray(_model()(KEYS, adv.x))
  gap = np.where(LABELS == 0, 1, -1) * (z[:, 1] - z[:, 0])
  assert np.all(gap >= 0.5 - 1e-5)
  expected = (MARGINS + 0.5) / np.linalg.norm(WEIGHTS)
  np.testing.assert_allclose(_distance(adv.x, "l2"), expected, rtol=0.02)

  fixed = {"binary_search_steps": 1, "step_size": 0.003, "abort_early": False}
  for const, success in ((4e-3, 0), (10.0, NUM)):
    adv = _run("carlini_wagner", initial_const=const, num_steps=200, **fixed)
    np.testing.assert_array_equal(adv.info.num_steps, 200)
    assert np.sum(adv.info.success) == success
    if not success:  # at the least ||δ||² − c w·δ, which is δ = c w / 2
      gain = np.asarray(adv.info.loss) + MARGINS
      np.testing.assert_allclose(gain, 0.5 * const * np.sum(np.square(WEIGHTS)), rtol=0.01)


def test_ddn_keeps_to_grey_levels():
  x = jnp.round(X * 15) / 15
  model = _model()
  y = predictions(model, x)
  adv = _run("ddn", x=x, y=y, target=None, levels=16)
  levels = np.asarray(adv.x, np.float64) * 15
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-5)
  assert np.all(predictions(model, adv.x) != y)
  free = _run("ddn", x=x, y=y, target=None)
  assert np.all(_distance(adv.x, "l2", x) >= 0.99 * _distance(free.x, "l2", x))


def test_ddn_leaves_a_plateau_at_random():
  """Without a gradient there is only chance, each example's own."""

  def plateau(keys, x):
    far = jnp.max(jnp.abs(x - 0.5), axis=(1, 2, 3)) > 0.2
    return jnp.stack([~far, far], axis=1).astype(jnp.float32)

  grey = jnp.full_like(X, 0.5)
  adv = _run("ddn", plateau, x=grey, y=np.zeros(NUM, int), target=None, num_steps=30)
  again = _run("ddn", plateau, x=grey, y=np.zeros(NUM, int), target=None, num_steps=30)
  # Beyond the boundary too: there the distance is what a step could still gain, but the last.
  assert np.all(adv.info.success) and np.all(np.asarray(adv.info.zero_gradient) >= 29)
  np.testing.assert_array_equal(adv.x, again.x)
  assert len(np.unique(np.asarray(adv.x).reshape(NUM, -1), axis=0)) == NUM


@pytest.mark.parametrize(
  "norm", ["l1", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("l2", "l0"))]
)
def test_fmn_from_a_start_is_nearer_than_the_start(norm):
  sign = np.where(LABELS == 0, 1, -1)[:, None] * np.sign(WEIGHTS)[None, :]
  corner = jnp.asarray(sign > 0, jnp.float32).reshape(X.shape)
  first = jnp.arange(NUM)[:, None, None, None] < 6
  start = jnp.where(first, corner, X)  # the others are no success
  adv = _run("fmn", norm=norm, start=start, num_steps=90, binary_search_steps=6)
  assert np.all(adv.info.success)
  np.testing.assert_array_equal(adv.info.num_steps, 97)  # and x itself
  ratio = _distance(adv.x, norm) / _least(norm)
  assert np.all(ratio < (1.05 if norm != "l0" else 2.01)) and np.all(ratio > 1 - 1e-4)
  # The way from the start alone succeeds, and never beyond the start.
  adv = _run("fmn", norm=norm, start=start, num_steps=1, binary_search_steps=6)
  np.testing.assert_array_equal(adv.info.success, first[:, 0, 0, 0])
  assert np.all(_distance(adv.x, norm)[:6] < _distance(start, norm)[:6])


STARTED = [ATTACKS[0], ATTACKS[1], ATTACKS[2]]


@pytest.mark.parametrize(("name", "norm", "options"), STARTED, ids=IDS[:3])
def test_a_clean_error_is_found_at_distance_zero_whatever_the_start(name, norm, options):
  wrong = np.where(np.arange(NUM) < 4, 1 - LABELS, LABELS)
  mirrored = 1.0 - X  # on the other side, as the boundary goes through the grey image
  adv = _run(name, y=wrong, target=None, start=mirrored, **options)
  np.testing.assert_array_equal(adv.x[:4], X[:4])
  assert np.all(adv.info.success) and np.all(adv.info.done)
  np.testing.assert_array_equal(adv.info.num_steps[:4], 1)
  # The others begin there.
  assert np.all(_distance(adv.x, norm)[4:] < 0.5 * _distance(mirrored, norm)[4:])
  if name == "carlini_wagner":
    most = {**options, "abort_early": False, "binary_search_steps": 1, "num_steps": 8}
    adv = _run(name, y=wrong, target=None, start=mirrored, **most)
    np.testing.assert_array_equal(adv.info.num_steps[4:], 9)
    assert np.all(adv.info.success)  # at the start itself, if nowhere nearer


FOUR = jnp.asarray(np.random.default_rng(9).normal(size=(SIZE, 4)), jnp.float32)


def _four(weights, keys, x):
  return (x.reshape(len(x), -1) - 0.5) @ weights


SHORT = {"binary_search_steps": 4, "num_steps": 40, "step_size": 0.05, "initial_const": 1.0}


@pytest.mark.parametrize("name", ["carlini_wagner", "fmn"])
def test_targeted_dlr_does_not_stop_where_a_third_class_wins(name):
  model = Partial(_four, FOUR)
  y, x = predictions(model, X), X
  order = np.argsort(np.asarray(model(KEYS, x)), axis=1)
  last = order[:, 0]  # far behind two others
  attack = attacks.build(name, model, loss="dlr", **(SHORT if name != "fmn" else {}))
  loss = attack.step.keywords["objective"]
  mixed = np.where(np.arange(NUM) % 2, last, -1)
  goal = Goal(jnp.asarray(y, jnp.int32), jnp.asarray(mixed, jnp.int32))
  tried = images(50 * NUM, seed=5, shape=SHAPE, low=0.0, high=1.0).reshape(NUM, 50, *SHAPE)
  value, success = jax.jit(candidates)(loss, KEYS, jnp.zeros(NUM, jnp.int32), tried, goal)
  np.testing.assert_array_equal(value > 0, success)
  assert np.any(success) and not np.all(success)
  adv = attacks.run(attack, KEYS, x, y, target=last, batch_size=NUM, compact=False)
  np.testing.assert_array_equal(predictions(model, adv.x), last)


def _foolbox_rows():
  """All of foolbox's attacks, untargeted and targeted; its eager code is slow, so one is fast."""
  for targeted in (False, True):
    for row in (
      ("L2CarliniWagnerAttack", "carlini_wagner", "l2", {"abort_early": False}),
      ("L2CarliniWagnerAttack", "carlini_wagner", "l2", {"abort_early": True}),
      ("DDNAttack", "ddn", "l2", {"loss": "cross_entropy"}),
      ("L2FMNAttack", "fmn", "l2", {"norm": "l2"}),
      ("LInfFMNAttack", "fmn", "linf", {"norm": "linf"}),
      ("L1FMNAttack", "fmn", "l1", {"norm": "l1"}),
      ("L0FMNAttack", "fmn", "l0", {"norm": "l0"}),
    ):
      marks = [] if row[2] == "linf" and not targeted else [pytest.mark.slow]
      yield pytest.param(*row, targeted, marks=marks)


@pytest.mark.parametrize(("theirs", "name", "norm", "options", "targeted"), list(_foolbox_rows()))
def test_as_near_as_foolbox(theirs, name, norm, options, targeted):
  """The same curved network, images and settings."""
  y = predictions(CURVED, X)
  target = (y + 1) % 3 if targeted else None
  settings, extra = {"steps": 40}, {"num_steps": 40}
  if name == "carlini_wagner":
    shared = {"binary_search_steps": 4, "initial_const": 0.1}
    settings |= {"stepsize": 0.05, "abort_early": options["abort_early"], **shared}
    extra |= {"step_size": 0.05, **shared}
  model = foolbox.JAXModel(jax.jit(lambda x: CURVED(None, x)), bounds=(0, 1))
  criterion = (
    foolbox.criteria.Misclassification(ep.astensor(jnp.asarray(y)))
    if target is None
    else foolbox.criteria.TargetedMisclassification(ep.astensor(jnp.asarray(target)))
  )
  with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
    warnings.simplefilter("ignore")
    peer = getattr(foolbox.attacks, theirs)(**settings).run(model, ep.astensor(X), criterion)
  adv = _run(name, CURVED, y=y, target=target, **options, **extra)

  def distances(x):
    found = predictions(CURVED, x)
    return np.where(found != y if target is None else found == target, _distance(x, norm), np.inf)

  ours, other = distances(adv.x), distances(np.array(peer.raw))
  print(f"median {np.median(ours):.4f}, foolbox {np.median(other):.4f}")
  assert np.median(ours) <= 1.01 * np.median(other) and np.isfinite(np.median(ours))
  assert np.all(np.isfinite(ours) | ~np.isfinite(other))
  if name == "ddn" or options.get("abort_early") is False:  # the same method, not merely as good
    np.testing.assert_allclose(ours, other, rtol=0.01)


def test_wrong_hyperparameters_are_refused():
  for name, options, message in [
    ("carlini_wagner", {"loss": "cross_entropy"}, "needs a loss that is positive on success"),
    ("fmn", {"loss": "cross_entropy"}, "needs a loss that is positive on success"),
    ("carlini_wagner", {"num_steps": 0}, "binary_search_steps and num_steps must be >= 1"),
    ("carlini_wagner", {"initial_const": 0.0}, "initial_const must be a finite number > 0"),
    ("carlini_wagner", {"step_size": float("nan")}, "step_size must be a finite number > 0"),
    ("carlini_wagner", {"confidence": -1.0}, "confidence must be a finite number >= 0"),
    ("ddn", {"num_steps": 0}, "num_steps must be >= 1"),
    ("ddn", {"gamma": 1.0}, r"gamma must be in \(0, 1\), got 1.0"),
    ("ddn", {"init_eps": 0.0}, "init_eps must be a finite number > 0"),
    ("ddn", {"levels": 1}, "levels must be >= 2"),
    ("fmn", {"norm": "l3"}, "unknown norm 'l3'"),
    ("fmn", {"num_steps": 0}, "num_steps must be >= 1"),
    ("fmn", {"gamma": 0.0}, "gamma must be in"),
    ("fmn", {"step_size": -1.0}, "step_size must be a finite number > 0"),
    ("fmn", {"eps": 0.1}, "unknown hyperparameter of fmn 'eps'"),
  ]:
    with pytest.raises(ValueError, match=message):
      attacks.build(name, linear(), **options)
