import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from attack_models import curved, images, keys, linear, noisy_logits, predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from gencls import attacks
from gencls.attacks import objective as objectives
from gencls.attacks.losses import margin
from gencls.attacks.schedules import SCHEDULES
from gencls.types import Goal

NORMS = ["linf", "l2"]


def _two_class(weight):
  """A linear model of two classes whose margin has the gradient `weight`."""
  return Partial(
    lambda weights, keys, x: x.reshape(len(x), -1) @ weights,
    jnp.stack([jnp.zeros_like(weight), weight], axis=1),
  )


def _margin_gain(logits_fn, x, x_adv):
  z, z_adv = (np.asarray(logits_fn(keys(len(x)), v), np.float64) for v in (x, x_adv))
  return (z_adv[:, 1] - z_adv[:, 0]) - (z[:, 1] - z[:, 0])


WEIGHT = jnp.asarray([1.5, -2.0, 0.25, 3.0, -1.0, 0.5])
# Shifted so that class 0 is right by far and no attack stops early.
SHIFTED = Partial(
  lambda weights, keys, x: x.reshape(len(x), -1) @ weights + jnp.asarray([[50.0, 0.0]]),
  jnp.stack([jnp.zeros_like(WEIGHT), WEIGHT], axis=1),
)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("fgsm", {}),
    ("pgd", {"num_steps": 20, "rel_step_size": 0.5}),
    ("pgd", {"num_steps": 20, "rel_step_size": 0.5, "rule": "momentum", "num_restarts": 2}),
  ],
)
def test_linear_model_moves_by_eps_times_the_dual_norm(name, options, norm, dual, loss):
  x, eps = images(4), 0.2
  attack = attacks.build(name, SHIFTED, norm=norm, eps=eps, loss=loss, **options)
  adv = attacks.run(attack, keys(4), x, jnp.zeros(4, int))
  gain = eps * np.linalg.norm(np.asarray(WEIGHT), ord=dual)
  np.testing.assert_allclose(_margin_gain(SHIFTED, x, adv.x), gain, rtol=1e-3)
  assert not adv.info.success.any()


@pytest.mark.parametrize("name", ["fgsm", "fgm", "pgd"])
@settings(deadline=None, max_examples=25)
@given(
  eps=st.floats(0, 2),
  seed=st.integers(0, 99),
  norm=st.sampled_from(NORMS),
  start=st.booleans(),
)
def test_every_result_is_in_ball_and_box(name, eps, seed, norm, start):
  x = images(4, seed=seed, low=0, high=1)
  options = {"num_steps": 3, "num_restarts": 2} if name == "pgd" else {}
  attack = attacks.build(name, curved(), norm=norm, eps=eps, **options)
  begin = images(4, seed=seed + 1, low=0, high=1) if start else None
  adv = attacks.run(attack, keys(4, seed), x, jnp.zeros(4, int), start=begin)
  delta = (np.asarray(adv.x, np.float64) - np.asarray(x, np.float64)).reshape(4, -1)
  size = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
  assert np.all(size <= eps * (1 + 1e-6) + 1e-7)
  assert adv.x.min() >= 0 and adv.x.max() <= 1


def test_default_norms_and_registry():
  x = images(3)
  y = np.zeros(3, int)

  def result(name, **options):
    attack = attacks.build(name, SHIFTED, eps=0.1, **options)
    return np.asarray(attacks.run(attack, keys(3), x, y).x)

  np.testing.assert_array_equal(result("fgsm"), result("fgm", norm="linf"))
  np.testing.assert_array_equal(result("fgm"), result("fgsm", norm="l2"))
  assert not np.array_equal(result("fgm"), result("fgsm"))


def _robust_count(x, y, **options):
  attack = attacks.build("pgd", curved(), eps=0.1, num_steps=10, **options)
  adv = attacks.run(attack, keys(len(x)), x, y, compact=False)  # fewer programs
  right = predictions(curved(), adv.x) == y
  # What the attack says of itself is what a prediction says.
  np.testing.assert_array_equal(~right, adv.info.success)
  return right.sum()


def test_restarts_and_steps_strengthen_pgd_and_pgd_beats_fgsm():
  x = images(64)
  y = predictions(curved(), x)
  fgsm = attacks.run(attacks.build("fgsm", curved(), eps=0.1), keys(64), x, y)
  single = (predictions(curved(), fgsm.x) == y).sum()
  one, many = _robust_count(x, y), _robust_count(x, y, num_restarts=5)
  assert 0 < many <= one <= single + 1
  assert many < single
  for rule in ("momentum", optax.scale_by_adam(b1=0.5)):
    assert _robust_count(x, y, rule=rule, schedule="cosine") <= single + 1


def test_tracking_keeps_a_success_that_the_last_iterate_loses():
  """Steps so long that the iterate jumps to and fro: tracked, one success is enough."""
  x = images(64)
  y = predictions(curved(), x)
  options = {"eps": 0.08, "num_steps": 5, "step_size": 0.16, "random_start": False}
  attack = attacks.build("pgd", curved(), early_stop=False, **options)
  state = attack.init(keys(64), x, Goal(jnp.asarray(y, "int32"), jnp.full(64, -1)))
  step = jax.jit(attack.step)
  ever = np.zeros(64, bool)
  for _ in range(attack.num_steps):
    state, info = step(keys(64), state)
    ever |= np.asarray(info.success)
  tracked = predictions(curved(), attack.result(state)) != y
  untracked = predictions(curved(), state.x_adv) != y
  np.testing.assert_array_equal(tracked, ever)
  assert np.all(tracked | ~untracked) and tracked.sum() > untracked.sum()


def test_without_early_stop_the_success_of_the_largest_loss_is_kept():
  x = images(64)
  y = predictions(curved(), x)
  goal = Goal(jnp.asarray(y, "int32"), jnp.full(64, -1))

  def margins(early_stop):
    attack = attacks.build("pgd", curved(), eps=0.1, num_steps=10, early_stop=early_stop)
    adv = attacks.run(attack, keys(64), x, y, compact=False)
    return np.asarray(margin(curved()(keys(64), adv.x), goal)), adv.info

  (early, early_info), (late, late_info) = margins(True), margins(False)
  assert np.all(late >= early - 1e-6) and np.mean(late) > np.mean(early)
  assert early_info.num_steps.sum() < late_info.num_steps.sum() == 64 * 11


def test_targeted_attacks_reach_their_target():
  x = images(64)
  logits_fn = linear(size=6, num_classes=4)
  y = predictions(logits_fn, x)
  target = np.where(np.arange(64) % 3 == 0, -1, (y + 1) % 4)  # a mixed batch
  for loss in ("margin", "dlr", "cross_entropy"):
    attack = attacks.build("pgd", logits_fn, eps=0.2, num_steps=20, loss=loss)
    adv = attacks.run(attack, keys(64), x, y, target=target, compact=False)
    found = predictions(logits_fn, adv.x)
    reached = np.where(target < 0, found != y, found == target)
    np.testing.assert_array_equal(reached, adv.info.success)
    assert reached[target >= 0].mean() > 0.5


def test_restarts_start_apart_and_from_the_given_start_first():
  x, start = images(4), images(4, seed=7)
  attack = attacks.build("pgd", SHIFTED, eps=0.2, num_steps=1, step_size=0.0, num_restarts=3)

  def starts(start):
    goal = Goal(jnp.zeros(4, jnp.int32), jnp.full(4, -1), start)
    state, step = attack.init(keys(4), x, goal), jax.jit(attack.step)
    seen = [state.x_adv]
    for _ in range(attack.num_steps - 1):
      state, _ = step(keys(4), state)
      seen.append(state.x_adv)
    return np.asarray(seen)[::2]

  own, given = starts(None), starts(start)
  for a, b in [(0, 1), (1, 2), (0, 2)]:
    assert np.all(np.abs(own[a] - own[b]).max(axis=(1, 2, 3)) > 0.01)
  np.testing.assert_array_equal(given[0], np.clip(start, x - 0.2, x + 0.2))
  np.testing.assert_array_equal(given[1:], own[1:])


def test_the_last_iterate_of_a_restart_is_evaluated_before_the_next():
  """With one move, only the moved point succeeds: it must be seen in the first restart."""
  logits_fn = _two_class(WEIGHT)
  x = images(6)
  z = np.asarray(logits_fn(keys(6), x))[:, 1]
  y = (z > 0).astype(int)
  eps = float(np.max(np.abs(z)) / np.sum(np.abs(WEIGHT))) * 1.01
  attack = attacks.build("pgd", logits_fn, eps=eps, num_steps=1, rel_step_size=2.0, num_restarts=2)
  adv = attacks.run(attack, keys(6), x, y, compact=False)
  assert adv.info.success.all() and np.all(np.asarray(adv.info.num_steps) <= 2)


def _eot_gradient(eot_samples, step):
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
  noisy = Partial(noisy_logits, jnp.float32(2.0), weights)
  objective = objectives.build(noisy, randomness="fresh", eot_samples=eot_samples)
  goal = Goal(jnp.zeros(50, jnp.int32), jnp.full(50, -1))
  query = jax.jit(objectives.query)
  at = query(objective, keys(50), jnp.full(50, step), images(50), goal)
  true = np.asarray(weights[:, 1] - weights[:, 0])
  return np.asarray(at.gradient).reshape(50, 6), true


def test_expectation_over_transformation_nears_the_true_gradient():
  one, true = _eot_gradient(1, 0)
  many, _ = _eot_gradient(25, 0)
  error_one = np.sqrt(np.mean((one - true) ** 2))
  error_many = np.sqrt(np.mean((many - true) ** 2))
  assert error_one == pytest.approx(2 * np.sqrt(2), rel=0.15)
  assert error_many == pytest.approx(error_one / 5, rel=0.2)


def test_fresh_draws_differ_by_step_and_fixed_ones_do_not():
  assert not np.array_equal(_eot_gradient(1, 0)[0], _eot_gradient(1, 1)[0])
  weights = jnp.ones((6, 2))
  objective = objectives.build(Partial(noisy_logits, jnp.float32(2.0), weights))
  goal = Goal(jnp.zeros(4, jnp.int32), jnp.full(4, -1))
  loss = [objective(keys(4), jnp.full(4, step), images(4), goal)[0] for step in (0, 1)]
  np.testing.assert_array_equal(*loss)
  # Fixed randomness is the example's key as it is: what a caller gets from logits_fn.
  logits = noisy_logits(2.0, weights, keys(4), images(4))
  np.testing.assert_array_equal(loss[0], margin(logits, goal))


def test_fresh_success_is_a_majority_of_draws():
  def coin(keys, x):
    return jnp.stack([jnp.zeros(len(x)), jax.vmap(jax.random.normal)(keys) + x[:, 0, 0, 0]], 1)

  x = jnp.asarray([-1.0, 1.0]).reshape(2, 1, 1, 1)
  goal = Goal(jnp.zeros(2, jnp.int32), jnp.full(2, -1))
  many = objectives.build(coin, randomness="fresh", eot_samples=101)
  np.testing.assert_array_equal(many(keys(2), jnp.zeros(2, "int32"), x, goal)[1], [False, True])


def _nan_for_some(keys, x):
  """A linear model that is NaN for images whose first pixel is above one half."""
  bad = jnp.where(x[:, :1, 0, 0] > 0.5, jnp.nan, 1.0)
  return (x.reshape(len(x), -1) @ jnp.eye(6, 3) + jnp.asarray([[3.0, 0.0, 0.0]])) * bad


def test_nan_is_counted_at_every_step_and_moves_nothing():
  x = jnp.full((4, 2, 3, 1), 0.4).at[1:3, 0, 0, 0].set(0.9)
  attack = attacks.build("pgd", _nan_for_some, eps=0.05, num_steps=5, random_start=False)
  adv = attacks.run(attack, keys(4), x, np.zeros(4, int))
  steps = attack.num_steps
  np.testing.assert_array_equal(adv.info.nonfinite, [0, steps, steps, 0])
  np.testing.assert_array_equal(adv.x[1:3], x[1:3])
  assert not adv.info.success.any() and np.all(np.isfinite(adv.x))
  assert np.all(np.asarray(adv.x[0]) != np.asarray(x[0]), axis=-1).any()


def test_zero_gradients_are_counted():
  attack = attacks.build(
    "pgd", lambda keys, x: jnp.round(x.reshape(len(x), -1)), eps=0.1, num_steps=3
  )
  adv = attacks.run(attack, keys(3), jnp.zeros((3, 2, 3, 1)) + 0.2, np.zeros(3, int))
  assert not adv.info.success.any() and np.all(adv.info.num_steps >= 3)
  np.testing.assert_array_equal(adv.info.zero_gradient, adv.info.num_steps)


def test_a_flat_loss_at_the_success_that_ends_an_attack_is_no_zero_gradient():
  """The DLR is 1 wherever the label is the third class: such an image is broken, not masked."""
  third, first = jnp.asarray([0.9, 0.7, 0.5, 0.3]), jnp.asarray([0.5, 0.7, 0.9, 0.3])
  x, y = jnp.stack([third, first]).reshape(2, 2, 2, 1), np.array([2, 2])
  options = {"eps": 0.01, "num_steps": 3, "loss": "dlr"}

  def zeros(logits_fn, **own):
    built = attacks.build("pgd", logits_fn, **options, **own)
    info = attacks.run(built, keys(2), x, y).info
    np.testing.assert_array_equal(info.success, [True, False])
    return np.asarray(info.zero_gradient).tolist(), np.asarray(info.num_steps).tolist()

  plain = lambda keys, x: x.reshape(len(x), -1)  # noqa: E731
  assert zeros(plain)[0] == [0, 0]
  rounded = lambda keys, x: jnp.round(10 * x.reshape(len(x), -1))  # noqa: E731
  flat, steps = zeros(rounded)
  assert flat == [0, steps[1]]
  # Where a success does not end it, an attack goes on from there, and the gradient counts.
  assert zeros(plain, early_stop=False)[0] == [3, 0]
  assert zeros(plain, randomness="fresh")[0] == [3, 0]


def test_cross_entropy_sees_through_a_gap_of_fifty_nats():
  """Saturated, the plain cross-entropy's direction is the rival's alone, which is wrong here."""

  def logits_fn(keys, x):
    flat = x.reshape(len(x), -1)
    # The rival rises with pixel 0, and the true class ten times as much.
    return jnp.stack([50.0 + 10.0 * flat[:, 0], flat[:, 0], flat[:, 1] * 0], axis=1)

  x = images(3)
  attack = attacks.build("fgsm", logits_fn, eps=0.1, loss="cross_entropy")
  adv = attacks.run(attack, keys(3), x, np.zeros(3, int))
  assert np.all(np.asarray(adv.x - x)[:, 0, 0, 0] < 0)

  def plain(x):
    return -jnp.sum(jax.nn.log_softmax(logits_fn(None, x))[:, 0])

  assert np.all(np.asarray(jax.grad(plain)(x))[:, 0, 0, 0] >= 0)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: attacks.build("pdg", SHIFTED, eps=0.1), "unknown attack 'pdg'; did you mean 'pgd'"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, num_step=3), "did you mean 'num_steps'"),
    (lambda: attacks.build("pgd", SHIFTED), "pgd needs eps"),
    (lambda: attacks.build("pgd", SHIFTED, eps=-0.1), "eps must be"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, norm="l3"), "unknown norm 'l3'"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, loss="margins"), "did you mean 'margin'"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, rule="mom"), "unknown rule"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, schedule="cos"), "unknown schedule"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, num_steps=0), "num_steps and num_restarts"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, step_size=1, rel_step_size=1), "not both"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, step_size=float("nan")), "step size must"),
    (
      lambda: attacks.build("pgd", SHIFTED, eps=0.1, num_restarts=2, random_start=False),
      "repeats one run",
    ),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, randomness="fres"), "did you mean 'fresh'"),
    (lambda: attacks.build("pgd", SHIFTED, eps=0.1, eot_samples=2), "randomness='fresh'"),
    (
      lambda: attacks.build("pgd", SHIFTED, eps=0.1, randomness="fresh", eot_samples=0),
      "eot_samples must be >= 1",
    ),
  ],
)
def test_wrong_settings_are_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_step_sizes():
  def step_size(**options):
    attack = attacks.build("pgd", SHIFTED, eps=0.3, num_steps=10, **options)
    return float(attack.step.keywords["plan"].step_size)

  assert step_size() == pytest.approx(0.075)
  assert step_size(step_size=0.01) == pytest.approx(0.01)
  assert step_size(rel_step_size=1 / 30) == pytest.approx(0.01)
  progress = jnp.asarray([0.0, 0.5, 1.0])
  np.testing.assert_allclose(SCHEDULES["cosine"](progress), [1, 0.5, 0], atol=1e-6)


def test_fgsm_moves_an_image_that_is_wrong_already():
  x = images(8)
  wrong = (predictions(curved(), x) + 1) % 3
  moved = attacks.run(attacks.build("fgsm", curved(), eps=0.1), keys(8), x, jnp.asarray(wrong))
  distance = np.abs(np.asarray(moved.x - x)).reshape(8, -1).max(axis=1)
  np.testing.assert_allclose(distance, 0.1, atol=1e-6)


def test_under_fresh_draws_the_kept_iterate_is_lucky_and_the_last_one_strong():
  weights = jnp.stack([jnp.zeros_like(WEIGHT), WEIGHT], axis=1)
  noisy = Partial(noisy_logits, jnp.float32(3.0), weights)
  x, y = images(64), jnp.zeros(64, int)

  def gain(keep_best):
    options = {"num_steps": 10, "early_stop": False, "keep_best": keep_best}
    attack = attacks.build("pgd", noisy, eps=0.2, randomness="fresh", **options)
    delta = np.asarray(attacks.run(attack, keys(64), x, y).x - x).reshape(64, -1)
    return (delta @ np.asarray(WEIGHT)).mean()

  assert gain(keep_best=False) > 1.2 * gain(keep_best=True)
  with pytest.raises(ValueError, match="early_stop=False"):
    attacks.build("pgd", noisy, eps=0.1, keep_best=False)
