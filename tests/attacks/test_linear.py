"""DeepFool and FAB: closed forms, linear programmes, Foolbox, and the contract."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, images, keys, linear, noisy_logits, predictions
from jax.tree_util import Partial
from scipy.optimize import linprog

from gencls import attacks
from gencls.attacks.norms import DUAL_NORMS
from gencls.evaluation.grading import perturbation_norm
from gencls.types import Goal

SHAPE = (4, 6, 1)
ROUGH = curved(size=24, num_classes=5, width=24)
CURVED = Partial(ROUGH.func, 0.4 * ROUGH.args[0], ROUGH.args[1])  # smoother: boundaries are further
X = images(32, shape=SHAPE, low=0, high=1)
INNER = images(32, shape=SHAPE)
Y = predictions(CURVED, X)
KEYS = keys(32)
# The tests below share the programs of these where they can: other numbers do not compile again.
ATTACKS = {
  "deepfool-l2": ("deepfool", {"norm": "l2"}),
  "deepfool-linf": ("deepfool", {"norm": "linf"}),
  "deepfool-l1.5": ("deepfool", {"norm": "l1.5"}),
  "fab-l2": ("fab", {"norm": "l2", "num_steps": 15}),
  "fab-l1": ("fab", {"norm": "l1", "num_steps": 15}),
  "fab-t": ("fab", {"norm": "l2", "num_steps": 5, "num_targets": 9, "num_restarts": 2}),
}


def _run(name, logits_fn, x=X, y=Y, *, num=None, compact=False, target=None, start=None, **options):
  """One batch without dropping examples: one program each for init, step and result."""
  attack = attacks.build(name, logits_fn, **options)
  given = KEYS[: len(x)] if num is None else num
  return attacks.run(attack, given, x, y, compact=compact, target=target, start=start)


def _norms(norm, x_adv, x=X):
  return perturbation_norm(np.asarray(x_adv), np.asarray(x), norm)


def _linear_distances(norm, logits_fn, x, y):
  """|f_k| / ||w_k||_dual of the nearest boundary, from the weights in float64."""
  weights, bias = (np.asarray(leaf, float) for leaf in logits_fn.args)
  z = np.asarray(x, float).reshape(len(x), -1) @ weights + bias
  difference = weights[:, None, :] - weights[:, y][:, :, None]  # [D, B, C]
  order = {"l1": np.inf, "l2": 2, "linf": 1}[norm]
  size = np.linalg.norm(difference, ord=order, axis=0)
  gaps = z[np.arange(len(y)), y][:, None] - z
  rivals = np.arange(z.shape[1])[None] != np.asarray(y)[:, None]
  return np.min(np.where(rivals, gaps / np.where(rivals, size, 1), np.inf), axis=1)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_on_a_linear_model_deepfool_goes_the_shortest_way_and_overshoots_it(norm):
  logits_fn = linear(size=24, num_classes=5)
  y = predictions(logits_fn, INNER)
  adv = _run("deepfool", logits_fn, INNER, y, norm=norm)
  assert adv.info.success.all() and np.all(predictions(logits_fn, adv.x) != y)
  np.testing.assert_array_equal(adv.info.num_steps, 2)  # the clean image, and the success
  expected = 1.02 * (_linear_distances(norm, logits_fn, INNER, y) + 1e-4)
  np.testing.assert_allclose(_norms(norm, adv.x, INNER), expected, rtol=1e-4)


@pytest.mark.parametrize(("norm", "num_targets"), [("l2", 0), ("l1", 0), ("linf", 4)])
def test_on_a_linear_model_fab_finds_the_distance(norm, num_targets):
  logits_fn = linear(size=24, num_classes=5)
  # In l1 one pixel goes all the way, so images further from the boundary than from the wall leave.
  y = predictions(logits_fn, INNER)
  expected = _linear_distances(norm, logits_fn, INNER, y)
  inside = expected < 0.3
  assert inside.mean() > 0.4
  adv = _run("fab", logits_fn, INNER, y, norm=norm, num_steps=20, num_targets=num_targets)
  assert adv.info.success.all() and np.all(predictions(logits_fn, adv.x) != y)
  ratio = (_norms(norm, adv.x, INNER) / expected)[inside]
  assert np.all(ratio > 1 - 1e-4) and np.all(ratio < 1.01), ratio


def _smallest_in_box(norm, w, gap, x):
  """The least ℓ∞ or ℓ1 norm of a δ with w·δ >= gap in the box: a linear programme."""
  num = len(x)
  one = np.eye(num)
  walls = [(-v, 1 - v) for v in x]
  sizes = np.ones((num, 1)) if norm == "linf" else one
  bound = np.vstack([np.hstack([one, -sizes]), np.hstack([-one, -sizes])])
  reach = np.append(-w, np.zeros(sizes.shape[1]))[None]
  return linprog(
    np.append(np.zeros(num), np.ones(sizes.shape[1])),
    np.vstack([bound, reach]),
    np.append(np.zeros(2 * num), -gap),
    bounds=walls + [(0, None)] * sizes.shape[1],
  )


@pytest.mark.parametrize("norm", ["linf", pytest.param("l1", marks=pytest.mark.slow)])
def test_at_the_walls_fab_finds_the_linear_programmes_optimum(norm):
  rng = np.random.default_rng(3)
  x = np.round(rng.uniform(size=(16, *SHAPE)) + rng.uniform(-0.2, 0.2, size=(16, *SHAPE)), 1)
  x = np.clip(x, 0, 1).astype("f4")
  w = rng.normal(size=24)
  logits_fn = Partial(
    lambda w, keys, x: jnp.stack([jnp.zeros(len(x)), x.reshape(len(x), -1) @ w - 1.5], axis=1),
    jnp.asarray(w, jnp.float32),
  )
  y = np.zeros(16, int)
  flat = x.reshape(16, -1).astype(float)
  right = predictions(logits_fn, x) == 0
  best = [_smallest_in_box(norm, w, 1.5 - w @ row, row) for row in flat]
  reachable = np.asarray([b.success for b in best]) & right
  assert reachable.sum() >= 8
  adv = _run("fab", logits_fn, jnp.asarray(x), y, norm=norm, num_steps=40)
  np.testing.assert_array_equal(adv.info.success[right], reachable[right])
  optimum = np.asarray([b.fun for b in best], float)[reachable]
  dual = np.asarray(DUAL_NORMS[norm](jnp.asarray(w)[None]))[0]
  free = np.abs(1.5 - flat @ w)[reachable] / dual
  assert np.mean(optimum > 1.02 * free) > 0.5  # the walls matter
  ratio = _norms(norm, adv.x, x)[reachable] / optimum
  assert np.all(ratio > 1 - 1e-4) and np.all(ratio < 1.01), ratio


@pytest.mark.parametrize("norm", ["l2", pytest.param("linf", marks=pytest.mark.slow)])
def test_deepfool_is_foolboxs(norm):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # foolbox imports deprecated modules
    foolbox = pytest.importorskip("foolbox")
    ep = pytest.importorskip("eagerpy")
  method = foolbox.attacks.L2DeepFoolAttack if norm == "l2" else foolbox.attacks.LinfDeepFoolAttack
  model = foolbox.JAXModel(jax.jit(lambda x: CURVED(KEYS, x)), bounds=(0, 1))
  with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
    warnings.simplefilter("ignore")
    labels = ep.astensor(jnp.asarray(Y, jnp.int32))
    raw, _, success = method(steps=20)(model, ep.astensor(X), labels, epsilons=None)
  theirs = _norms(norm, jnp.asarray(raw.raw))
  adv = _run("deepfool", CURVED, norm=norm, num_steps=20)
  ours = _norms(norm, adv.x)
  np.testing.assert_array_equal(adv.info.success, success.raw)
  assert np.median(ours) <= 1.01 * np.median(theirs) and np.max(adv.info.num_steps) > 3
  # Float error may take a wrong turn where two boundaries are equally near, no more.
  assert np.mean(np.abs(ours / theirs - 1) < 1e-3) > 0.9, ours / theirs


def test_fewer_candidates_cost_fewer_passes_and_look_at_the_likeliest_classes():
  few = _run("deepfool", CURVED, num_candidates=2)
  whole = _run("deepfool", CURVED)  # ten, where there are five
  np.testing.assert_array_equal(few.info.backward, few.info.num_steps)
  np.testing.assert_array_equal(whole.info.backward, 4 * whole.info.num_steps)
  np.testing.assert_array_equal(whole.info.forward, whole.info.num_steps)
  assert np.mean(_norms("l2", whole.x)) < 0.99 * np.mean(_norms("l2", few.x))
  # The only rival is the runner-up of the clean image.
  logits = np.asarray(CURVED(KEYS, X))
  assert np.mean(predictions(CURVED, few.x) == np.argsort(logits, axis=1)[:, -2]) > 0.8


def test_the_candidates_are_those_of_the_clean_image():
  """Put where another class is the runner-up, DeepFool still moves towards the clean one's."""

  def logits_fn(keys, x):
    return jnp.concatenate([jnp.full((len(x), 1), 2.0), x[:, 0, :2, 0]], axis=1)

  attack = attacks.build("deepfool", logits_fn, num_candidates=2)
  x = jnp.asarray([[0.6, 0.2], [0.2, 0.6]]).reshape(2, 1, 2, 1)
  state = attack.init(KEYS[:2], x, Goal(jnp.zeros(2, jnp.int32), jnp.full(2, -1)))
  step = jax.jit(attack.step)
  state, _ = step(KEYS[:2], state)
  moved, _ = step(KEYS[:2], state._replace(x_adv=x[::-1]))
  move = np.asarray(moved.moves - state.moves).reshape(2, 2)
  np.testing.assert_allclose(move, [[1.8001, 0], [0, 1.8001]], atol=1e-4)


def test_fab_beats_deepfool_and_all_targets_are_as_good_as_all_classes():
  deepfool = _norms("l2", _run("deepfool", CURVED).x)
  whole = _run("fab", CURVED, norm="l2", num_steps=15)
  targets = _run("fab", CURVED, norm="l2", num_steps=15, num_targets=9)  # there are four
  for adv, runs, passes in ((whole, 1, 4), (targets, 4, 1)):
    assert adv.info.success.all() and adv.info.done.all()
    found = _norms("l2", adv.x)
    assert np.mean(found) < 0.97 * np.mean(deepfool) and np.mean(found <= deepfool) > 0.8
    np.testing.assert_array_equal(adv.info.num_steps, 16 * runs)
    np.testing.assert_array_equal(adv.info.backward, 16 * runs * passes)
    np.testing.assert_array_equal(adv.info.forward, 16 * runs)
  ratio = np.median(_norms("l2", targets.x)) / np.median(_norms("l2", whole.x))
  assert ratio < 1.01


@pytest.mark.parametrize("name", ATTACKS)
def test_targeted_examples_reach_their_target_in_a_mixed_batch(name):
  target = np.where(np.arange(32) % 3 == 0, -1, (Y + 1 + np.arange(32) % 4) % 5)
  method, options = ATTACKS[name]
  mixed = _run(method, CURVED, target=target, **options)
  found = predictions(CURVED, mixed.x)
  reached = np.where(target < 0, found != Y, found == target)
  np.testing.assert_array_equal(reached, mixed.info.success)
  assert reached.mean() > 0.9 and mixed.x.min() >= 0 and mixed.x.max() <= 1
  missed = ~reached
  np.testing.assert_array_equal(mixed.x[missed], X[missed])
  # The others do not notice, and to a target it is further.
  plain = _run(method, CURVED, **options)
  others = target < 0
  np.testing.assert_array_equal(mixed.x[others], plain.x[others])
  aimed = reached & ~others
  norm = options["norm"]
  assert np.median(_norms(norm, mixed.x)[aimed]) > np.median(_norms(norm, plain.x)[aimed])
  if name == "fab-t":
    np.testing.assert_array_equal(mixed.info.num_steps, np.where(others, 48, 12))


def test_targeted_deepfool_goes_to_the_farthest_boundary_of_a_linear_model():
  """One step onto the farthest of the boundaries ahead; the vertex of two needs more."""
  logits_fn = linear(size=24, num_classes=5)
  y = predictions(logits_fn, INNER)
  target = (y + 1) % 5
  adv = _run("deepfool", logits_fn, INNER, y, target=target)
  assert adv.info.success.all()
  weights, bias = (np.asarray(leaf, float) for leaf in logits_fn.args)
  z = np.asarray(INNER, float).reshape(32, -1) @ weights + bias
  ahead = z - z[np.arange(32), target][:, None]
  size = np.linalg.norm(weights[:, None, :] - weights[:, target][:, :, None], axis=0)
  least = np.max(ahead / np.where(size > 0, size, 1), axis=1)
  found = _norms("l2", adv.x, INNER)
  quick = np.asarray(adv.info.num_steps) == 2
  assert quick.sum() > 5
  np.testing.assert_allclose(found[quick], 1.02 * (least + 1e-4)[quick], rtol=1e-4)
  assert np.all(found > least) and np.median(found / least) < 1.1


@pytest.mark.parametrize("name", ATTACKS)
def test_permuting_and_splitting_change_nothing_and_all_is_in_the_box(name):
  method, options = ATTACKS[name]
  whole = _run(method, CURVED, **options)
  assert whole.x.min() >= 0 and whole.x.max() <= 1 and whole.x.dtype == np.float32
  np.testing.assert_array_equal(predictions(CURVED, whole.x) != Y, whole.info.success)
  assert whole.info.success.mean() > 0.9
  order = np.random.default_rng(0).permutation(32)
  permuted = _run(method, CURVED, X[order], Y[order], num=KEYS[order], **options)
  np.testing.assert_array_equal(permuted.x, whole.x[order])
  attack = attacks.build(method, CURVED, **options)  # padded to 32 rows: the same programs
  part = attacks.run(attack, KEYS[5:16], X[5:16], Y[5:16], batch_size=32, compact=False)
  np.testing.assert_array_equal(part.x, whole.x[5:16])


@pytest.mark.slow  # op by op, each compiled alone
def test_jit_equals_eager():
  jitted = _run("fab", CURVED, norm="l2", num_steps=2)
  with jax.disable_jit():
    eager = _run("fab", CURVED, norm="l2", num_steps=2)
  np.testing.assert_allclose(jitted.x, eager.x, atol=1e-4)
  np.testing.assert_array_equal(jitted.info.success, eager.info.success)
  assert jitted.info.success.sum() > 10


@pytest.mark.parametrize("name", ["deepfool", "fab"])
def test_clean_errors_are_done_at_once_and_the_others_begin_at_the_start(name):
  y = np.where(np.arange(32) % 2, Y, (Y + 1) % 5)
  start = np.asarray([X[np.flatnonzero(label != Y)[0]] for label in Y])
  other = predictions(CURVED, start) != y
  assert other[1::2].all()
  adv = _run(name, CURVED, y=y, norm="l2", num_steps=1, start=start)
  expected = np.where(np.arange(32)[:, None, None, None] % 2, start, X)
  np.testing.assert_allclose(adv.x, expected, atol=1e-6)
  np.testing.assert_array_equal(adv.x[::2], X[::2])
  np.testing.assert_array_equal(adv.info.num_steps, np.where(np.arange(32) % 2, 2, 1))
  assert adv.info.success.all()


def _troubled(keys, x):
  """A linear model: NaN where the first pixel is above one half, flat where the last one is."""
  flat = x.reshape(len(x), -1)
  z = 2.0 * flat[:, :3] + jnp.asarray([[1.0, 0.0, 0.0]])
  z = jnp.where(flat[:, -1:] > 0.5, jnp.asarray([[1.0, 0.0, -1.0]]), z)
  return jnp.where(flat[:, :1] > 0.5, jnp.nan, 1.0) * z


@pytest.mark.parametrize("name", ["deepfool", "fab"])
def test_nan_and_flat_models_are_counted_and_move_nothing(name):
  x = jnp.full((4, *SHAPE), 0.4).at[1, 0, 0, 0].set(0.9).at[2, -1, -1, 0].set(0.9)
  options = {"num_candidates": None} if name == "deepfool" else {}
  adv = _run(name, _troubled, x, np.zeros(4, int), norm="l2", num_steps=6, **options)
  np.testing.assert_array_equal(adv.x[1:3], x[1:3])
  np.testing.assert_array_equal(adv.info.nonfinite, [0, 7, 0, 0])
  np.testing.assert_array_equal(adv.info.zero_gradient, [0, 0, 7, 0])
  np.testing.assert_array_equal(adv.info.success, [True, False, False, True])
  assert np.all(np.isfinite(adv.x))


def test_a_step_of_fab_is_that_of_the_paper():
  """x' = (1 − α)(z + η δ) + α (x + η δ_x), with z = x + β (x_adv − x) behind the boundary."""
  weights = np.array([[1.0, -1.0], [0.5, -0.5], [-0.25, 0.25], [0.75, -0.75]])
  two = Partial(lambda keys, x: (x.reshape(len(x), -1) - 0.5) @ jnp.asarray(weights, jnp.float32))
  x = np.full((2, 2, 2, 1), 0.5) + 0.1 * weights[:, 0].reshape(2, 2, 1)
  start = x - np.array([0.05, 0.2]).reshape(2, 1, 1, 1) * weights[:, 0].reshape(2, 2, 1) + 0.01
  attack = attacks.build("fab", two, norm="l2", num_steps=5, alpha_max=0.1, eta=1.05, beta=0.9)
  goal = Goal(jnp.zeros(2, jnp.int32), jnp.full(2, -1), jnp.asarray(start, jnp.float32))
  state = jax.jit(attack.init)(KEYS[:2], jnp.asarray(x, jnp.float32), goal)
  for _ in range(2):  # x itself, then the given start
    state, _ = jax.jit(attack.step)(KEYS[:2], state)

  w = 2 * weights[:, 0]  # of the logit of the label less the other
  behind = (start - 0.5).reshape(2, -1) @ w < 0
  assert list(behind) == [False, True]
  z = np.where(behind[:, None], (x + 0.9 * (start - x)).reshape(2, -1), start.reshape(2, -1))
  flat, to_plane = x.reshape(2, -1), lambda at: -((at - 0.5) @ w)[:, None] * w / (w @ w)
  delta, delta_x = to_plane(z), to_plane(flat)
  size, size_x = (np.linalg.norm(d, axis=1, keepdims=True) for d in (delta, delta_x))
  alpha = np.minimum(size / (size + size_x), 0.1)
  assert np.all(alpha > 0.04)
  want = (1 - alpha) * (z + 1.05 * delta) + alpha * (flat + 1.05 * delta_x)
  np.testing.assert_allclose(state.x_adv.reshape(2, -1), want, atol=1e-6)


def test_restarts_are_random_at_half_of_the_best_or_of_eps_and_never_lose():
  attack = attacks.build("fab", CURVED, norm="l2", num_steps=2, num_restarts=3, eps=0.1)
  y = predictions(CURVED, INNER)
  state = attack.init(KEYS, INNER, Goal(jnp.asarray(y, "int32"), jnp.full(32, -1)))
  step = jax.jit(attack.step)
  starts, bests = [], []
  for _ in range(6):
    state, _ = step(KEYS, state)
    starts.append(state.x_adv)
    bests.append(np.asarray(state.best_norm))
  second, third = starts[2], starts[5]

  def expected(best):
    return 0.5 * np.minimum(best, 0.1)

  np.testing.assert_allclose(_norms("l2", second, INNER), expected(bests[2]), rtol=1e-3)
  np.testing.assert_allclose(_norms("l2", third, INNER), expected(bests[5]), rtol=1e-3)
  assert np.min(_norms("l2", second, third) / _norms("l2", second, INNER)) > 0.3
  assert np.any(bests[5] < 0.1) and np.any(bests[2] > 0.1)
  assert np.all(bests[5] <= bests[2])
  np.testing.assert_allclose(_norms("l2", attack.result(state), INNER), bests[5], rtol=1e-5)


def test_in_l1_deepfool_goes_on_with_the_next_pixel_where_one_is_at_the_wall():
  """Of a gap of 1.3 − 0.9 = 0.4, the slope of 2 has room for 0.2; the next one takes the rest."""
  weights = jnp.zeros((24, 2)).at[:3, 1].set(jnp.asarray([2.0, -1.5, 0.5]))
  logits_fn = Partial(linear().func, weights, jnp.asarray([1.3, 0.0]))
  x, y = jnp.full((4, *SHAPE), 0.9), np.zeros(4, int)
  adv = _run("deepfool", logits_fn, x, y, norm="l1", overshoot=0.0)
  assert adv.info.success.all()
  moved = np.asarray(adv.x - x).reshape(4, 24)
  np.testing.assert_allclose(moved[:, 0], 0.1, atol=1e-6)
  np.testing.assert_allclose(moved[:, 1], -0.2 / 1.5 - 1e-4, atol=1e-5)
  assert np.all(moved[:, 2:] == 0)


def test_fab_stops_at_the_first_success_within_eps_where_asked():
  options = {"norm": "l2", "num_steps": 5, "num_targets": 9, "num_restarts": 2}
  y = predictions(CURVED, INNER)
  whole = _run("fab", CURVED, INNER, y, **options)
  eps = float(np.median(_norms("l2", whole.x, INNER)))
  adv = _run("fab", CURVED, INNER, y, eps=eps, stop_at_eps=True, **options)
  norms, steps = _norms("l2", adv.x, INNER), np.asarray(adv.info.num_steps)
  near, most = norms <= eps, 2 * 4 * 6
  assert 0.3 < np.mean(near) < 0.7
  assert np.all(steps[~near] == most) and np.all(steps[near] < most) and np.median(steps[near]) < 12
  assert np.all(predictions(CURVED, adv.x)[near] != y[near])
  # As many are within eps as without; the distance itself is not sought there.
  within = _norms("l2", _run("fab", CURVED, INNER, y, eps=eps, **options).x, INNER) <= eps
  np.testing.assert_array_equal(near, within)


def test_fresh_draws_are_met_with_the_mean_logits():
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(24, 3)), jnp.float32)
  noisy = Partial(noisy_logits, jnp.float32(0.05), weights)
  y = predictions(Partial(noisy_logits, jnp.float32(0.0), weights), X)
  adv = _run("deepfool", noisy, y=y, randomness="fresh", eot_samples=8, overshoot=0.5)
  still = predictions(Partial(noisy_logits, jnp.float32(0.0), weights), adv.x) == y
  assert still.mean() < 0.1 and np.max(_norms("l2", adv.x)) < 3


def test_other_numbers_do_not_trace_again():
  traces = []

  def counted(weights, keys, x):
    traces.append(len(x))
    return jnp.tanh(x.reshape(len(x), -1) @ weights)

  weights = jnp.asarray(np.random.default_rng(0).normal(size=(24, 3)), jnp.float32)
  for scale in (1.0, 2.0):
    logits_fn = Partial(counted, scale * weights)
    for step in (2, 3):
      _run("deepfool", logits_fn, y=Y % 3, num_steps=step, overshoot=0.01 * step)
      _run(
        "fab", logits_fn, y=Y % 3, num_steps=step, alpha_max=0.1 * step, eps=step, num_restarts=2
      )
  assert sorted(traces) == [1, 32, 32]  # one example for the number of classes, then each attack


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("deepfool", {"norm": "l0"}, "p >= 1 .*, got 'l0': take norm='l1', or fmn"),
    ("deepfool", {"norm": "l0.5"}, "number p >= 1 .*, got 'l0.5': write 'l1'"),
    ("deepfool", {"norm": "lx"}, "number p >= 1 .*, got 'lx': for instance 'l2'"),
    ("deepfool", {"num_steps": 0}, "num_steps must be >= 1, got 0"),
    ("deepfool", {"overshoot": -0.1}, "overshoot must be"),
    ("deepfool", {"num_candidates": 1}, "num_candidates must be >= 2"),
    ("deepfool", {"eps": 0.1}, "unknown hyperparameter of deepfool 'eps'"),
    ("fab", {"norm": "l3"}, "unknown norm 'l3'"),
    ("fab", {"num_restarts": 0}, "num_steps and num_restarts must be >= 1"),
    ("fab", {"num_targets": -1}, "num_targets must be >= 0"),
    ("fab", {"beta": 1.0}, "beta in"),
    ("fab", {"eta": 0.9}, "eta >= 1"),
    ("fab", {"alpha_max": 2}, "alpha_max must be"),
    ("fab", {"eps": float("nan")}, "eps must be a finite number"),
  ],
)
def test_wrong_settings_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build(name, CURVED, **options)
