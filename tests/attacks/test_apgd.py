import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, images, keys, linear, noisy_logits, predictions
from jax.tree_util import Partial

from gencls import attacks
from gencls.attacks import objective as objectives
from gencls.types import Goal

NUM = 24
SIZE = 32
ALL = slice(None)
X = images(NUM)
UNTARGETED = jnp.full(NUM, -1, jnp.int32)


def _logits(slope, constant, bumps, poison, network, readout, keys, x):
  """A linear model, a bumpy one and a small network in one: most tests share its programs.

  It is NaN where the first pixel is above `poison`.
  """
  del keys
  flat = x.reshape(len(x), -1)
  rise = jnp.sum(jnp.sin(9 * flat + 5 * jnp.roll(flat, -1, axis=1)), axis=1)
  bumpy = bumps * jnp.stack([0 * rise, rise, 0 * rise, 0 * rise], axis=1)
  bad = jnp.where(flat[:, :1] > poison, jnp.nan, 0.0)
  return flat @ slope + constant[None] + bumpy + jnp.tanh((flat - 0.5) @ network) @ readout + bad


def _model(slope=0.0, constant=(0.0, 0.0, -99.0, -99.0), bumps=0.0, poison=2.0, dtype="f4"):
  slope = jnp.asarray(np.zeros((6, 4)) + slope, dtype)
  network, readout = jnp.zeros((6, 16), dtype), jnp.zeros((16, 4), dtype)
  constant, bumps, poison = (jnp.asarray(v, dtype) for v in (constant, bumps, poison))
  return Partial(_logits, slope, constant, bumps, poison, network, readout)


MODEL = Partial(_logits, *_model(constant=np.zeros(4)).args[:4], *curved(num_classes=4).args)
Y = predictions(MODEL, X)


def _run(name="apgd", logits_fn=MODEL, *, x=X, y=Y, order=ALL, target=None, start=None, **options):
  """The examples `order` in one padded batch."""
  attack = attacks.build(name, logits_fn, **{"eps": 0.06, "num_steps": 20, **options})
  given = (keys(NUM)[order], x[order], y[order])
  return attacks.run(attack, *given, target=target, start=start, batch_size=SIZE, compact=False)


@jax.jit
def _init(init, keys, x, goal):
  return init(keys, x, goal)


@jax.jit
def _step(step, keys, state):
  return step(keys, state)


WEIGHT = np.asarray([1.5, -2.0, 0.25, 3.0, -1.0, 0.5])
# Class 0 is right by far, and the margin has the gradient WEIGHT.
FAR = _model(np.stack([0 * WEIGHT, WEIGHT, 0 * WEIGHT, 0 * WEIGHT], 1), (50.0, 0.0, -99.0, -99.0))


@pytest.mark.parametrize(
  ("name", "norm", "dual"),
  [("mim", "linf", 1), ("mim", "l1", np.inf), ("apgd", "linf", 1), ("apgd", "l2", 2)],
)
def test_linear_model_moves_by_eps_times_the_dual_norm(name, norm, dual):
  steps = {"mim": 5, "apgd": 20}[name]
  adv = _run(name, FAR, y=0 * Y, norm=norm, eps=0.2, num_steps=steps)
  gain = np.reshape(np.asarray(adv.x - X, np.float64), (NUM, -1)) @ WEIGHT
  np.testing.assert_allclose(gain, 0.2 * np.linalg.norm(WEIGHT, ord=dual), rtol=1e-3)
  assert not adv.info.success.any()


def _bumpy_gradient(x):
  """Of f(x) = Σ sin(9 x_i + 5 x_{i+1}), in float64; and f."""
  phase = 9 * x + 5 * np.roll(x, -1, axis=1)
  return 9 * np.cos(phase) + 5 * np.roll(np.cos(phase), 1, axis=1), np.sum(np.sin(phase), axis=1)


def _numpy_mim(x, eps, num_steps, decay):
  at, total = x.copy(), np.zeros_like(x)
  for _ in range(num_steps):
    gradient, _ = _bumpy_gradient(at)
    total = decay * total + gradient / np.mean(np.abs(gradient), axis=1, keepdims=True)
    at = np.clip(at + eps / num_steps * np.sign(total), x - eps, x + eps).clip(0, 1)
  return at


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_mim_is_the_loop_of_the_paper(decay):
  model = _model(constant=(50.0, 0.0, -99.0, -99.0), bumps=1.0)
  adv = _run("mim", model, y=0 * Y, eps=0.25, num_steps=12, decay=decay)
  flat = np.asarray(X, np.float64).reshape(NUM, -1)
  expected = _numpy_mim(flat, 0.25, 12, decay)
  np.testing.assert_allclose(np.reshape(adv.x, (NUM, -1)), expected, atol=1e-5)
  other = _numpy_mim(flat, 0.25, 12, 0.0)
  assert np.abs(other - expected).max() > 0.05  # momentum matters here


def test_mim_survives_gradients_of_any_scale():
  for scale in (1e-30, 1e30):
    model = Partial(_logits, scale * FAR.args[0], scale * FAR.args[1], *FAR.args[2:])
    adv = _run("mim", model, y=0 * Y, eps=0.2, num_steps=5)
    np.testing.assert_allclose(np.abs(adv.x - X), 0.2, rtol=1e-4)


def _numpy_apgd(x, start, eps, num_steps, norm, rho):
  """The paper's algorithm for one image, with the oscillation count of the authors' code (<=)."""

  def project(z):
    delta = z - x
    size = np.linalg.norm(delta)
    delta = np.clip(delta, -eps, eps) if norm == "linf" else delta * min(1, eps / max(size, 1e-30))
    return np.clip(x + delta, 0, 1)

  def evaluate(z):
    gradient, value = _bumpy_gradient(z[None])
    steepest = np.sign(gradient) if norm == "linf" else gradient / np.linalg.norm(gradient)
    return steepest[0], value[0]

  points = [0.0, 0.22]
  while points[-1] < 1:
    points.append(points[-1] + max(points[-1] - points[-2] - 0.03, 0.06))
  checkpoints = {int(np.ceil(round(p * num_steps, 6))) for p in points[1:]}
  at, before, size = start, start, 2 * eps
  direction, loss = evaluate(at)
  losses, best = [loss], (at, direction, loss)
  last, halved, best_then = 0, True, loss
  sizes, bests, success = [size], [loss], None
  for k in range(num_steps):
    share = 1.0 if k == 0 else 0.75
    z = project(at + size * direction)
    at, before = project(at + share * (z - at) + (1 - share) * (at - before)), at
    direction, loss = evaluate(at)
    losses.append(loss)
    success = at if loss > 0 else success
    if loss > best[2]:
      best = (at, direction, loss)
    if k + 1 in checkpoints:
      rises = np.sum(np.diff(losses[last:]) > 0)
      halve = rises <= rho * (k + 1 - last) or (not halved and best_then >= best[2])
      last, halved, best_then = k + 1, halve, best[2]
      if halve:
        size, (at, direction, _) = size / 2, best
    sizes.append(size)
    bests.append(best[2])
  return np.asarray(sizes), np.asarray(bests), success


def _float64_run(norm, eps, rho):
  """(start [B, ...], step sizes [T, B], best losses [T, B], the last state)."""
  with jax.enable_x64(True):
    model = _model(bumps=1.0, dtype="f8")
    attack = attacks.build("apgd", model, norm=norm, eps=eps, rho=rho, early_stop=False)
    x, goal = jnp.asarray(X, jnp.float64), Goal(jnp.zeros(NUM, jnp.int32), UNTARGETED)
    state = _init(attack.init, keys(NUM), x, goal)
    start, sizes, bests = np.asarray(state.x_adv), [], []
    for _ in range(attack.num_steps):
      state, info = _step(attack.step, keys(NUM), state)
      sizes.append(np.asarray(state.schedule.size))
      bests.append(np.asarray(state.best_loss))
    assert attack.num_steps == 101 and info.done.all() and state.best.dtype == jnp.float64
  return start, np.asarray(sizes), np.asarray(bests), state


@pytest.mark.parametrize(
  ("norm", "eps"), [("linf", 0.25), pytest.param("l2", 0.5, marks=pytest.mark.slow)]
)
def test_the_schedule_is_that_of_the_paper(norm, eps):
  """In float64, and until the loss has converged: then rounding decides whether it rose."""
  halvings = set()
  for rho in (0.75, 0.25):  # the smaller one leaves more to the second condition
    start, sizes, bests, state = _float64_run(norm, eps, rho)
    compared = []
    for i in range(NUM):
      flat = np.asarray(X[i], np.float64).ravel()
      expected, best, success = _numpy_apgd(flat, start[i].ravel(), eps, 100, norm, rho)
      until = max(np.sum(best < best[-1] - 1e-9), 23)
      np.testing.assert_allclose(sizes[:until, i], expected[:until], rtol=1e-6)
      np.testing.assert_allclose(bests[:until, i], best[:until], atol=1e-6)
      np.testing.assert_allclose(bests[-1, i], best[-1], atol=1e-4)
      if until > 99 or norm == "linf":
        np.testing.assert_allclose(np.ravel(state.adversarial[i]), success, atol=1e-4)
      compared.append(until)
      halvings.add(expected[until - 1])
    assert np.mean(np.asarray(compared) > 42) > 0.5  # several checkpoints
  assert len(halvings) >= 3


def _targets(label, **options):
  attack = attacks.build("apgd", MODEL, eps=0.1, **options)
  return _init(attack.init, keys(NUM), X, Goal(jnp.asarray(label, "int32"), UNTARGETED)).targets


def test_targets_are_the_classes_by_clean_logit_without_the_label():
  order = np.argsort(-np.asarray(MODEL(keys(NUM), X)), axis=1)
  np.testing.assert_array_equal(_targets(Y, num_targets=2), order[:, 1:])
  # A clean error: its prediction is the first target.
  np.testing.assert_array_equal(_targets(order[:, 1], num_targets=2), order[:, [0, 2, 3]])
  assert _targets(Y).shape == (NUM, 0)


def _aimed_runs(num_targets, num_restarts, target=-1):
  """The loss of each run, which tells its target; passes and steps."""
  options = {"num_steps": 1, "num_targets": num_targets, "num_restarts": num_restarts}
  attack = attacks.build("apgd", _model(constant=(9.0, 4.0, 2.0, 1.0)), eps=0.1, **options)
  goal = Goal(jnp.zeros(NUM, jnp.int32), jnp.full(NUM, target, jnp.int32))
  state, seen, passes = _init(attack.init, keys(NUM), X, goal), [], 0
  for _ in range(attack.num_steps):
    state, info = _step(attack.step, keys(NUM), state)
    seen.append(float(info.loss[0]))
    passes += int(info.forward[0])
    if info.done[0]:
      break
  return seen[::2], passes, len(seen)


def test_runs_pursue_one_target_after_the_other_and_at_most_all():
  # Margins of the targets 1, 2, 3: minus 5, 7, 8.
  assert _aimed_runs(2, 1) == ([-5.0, -7.0], 5, 4)
  assert _aimed_runs(9, 2) == ([-5.0, -5.0, -7.0, -7.0, -8.0, -8.0], 13, 12)
  assert _aimed_runs(2, 1, target=3) == ([-8.0, -8.0], 5, 4)
  assert _aimed_runs(0, 2) == ([-5.0, -5.0], 4, 4)


def test_any_misclassification_counts_while_a_target_is_pursued():
  """Class 1 wins on the way to class 2, which cannot."""
  mean = np.full((6, 1), 1 / 6)
  model = _model(mean * [0, 1, 1, 0], (0.5, 0.0, -0.3, -9.0))
  x, goal = jnp.full_like(X, 0.45), Goal(jnp.zeros(NUM, jnp.int32), UNTARGETED)
  attack = attacks.build("apgd", model, eps=0.1, num_steps=5, num_targets=2)
  state = _init(attack.init, keys(NUM), x, goal)
  state = state._replace(targets=state.targets.at[:, 0].set(2))
  for _ in range(6):
    state, info = _step(attack.step, keys(NUM), state)
  assert state.found.all() and np.all(predictions(model, attack.result(state)) == 1)


def test_targeted_goals_and_a_mixed_batch():
  target = np.where(np.arange(NUM) % 3 == 0, -1, (Y + 1) % 4)
  for num_targets in (0, 3):
    adv = _run(target=target, eps=0.25, num_targets=num_targets)
    found = predictions(MODEL, adv.x)
    reached = np.where(target < 0, found != Y, found == target)
    np.testing.assert_array_equal(reached, adv.info.success)
    assert reached[target >= 0].mean() > 0.4 and reached[target < 0].all()


@pytest.mark.slow
def test_apgd_is_as_strong_as_pgd_with_the_same_passes_and_keeps_its_success():
  x = images(128)
  y = predictions(curved(), x)

  def broken(name, **options):
    attack = attacks.build(name, curved(), eps=0.08, **options)
    adv = attacks.run(attack, keys(128), x, y, compact=False)
    wrong = predictions(curved(), adv.x) != y
    np.testing.assert_array_equal(wrong, adv.info.success)
    return wrong

  pgd = broken("pgd", num_steps=40)
  plain = broken("apgd", num_steps=40)
  late = broken("apgd", num_steps=40, early_stop=False)
  assert plain.sum() >= pgd.sum() - 1 and 0 < plain.sum() < 128
  np.testing.assert_array_equal(plain, late)
  more = broken("apgd", num_steps=40, num_restarts=3)
  assert np.all(more | ~plain)


def test_without_early_stop_the_run_of_the_first_success_is_finished():
  early = _run(eps=0.25, num_steps=10, num_restarts=2)
  late = _run(eps=0.25, num_steps=10, num_restarts=2, early_stop=False)
  steps, found = np.asarray(early.info.num_steps), np.asarray(early.info.success)
  assert found.any() and np.any(steps[found] < 11)
  np.testing.assert_array_equal(late.info.num_steps[found], np.where(steps[found] <= 11, 11, 22))


def _ball_norm(delta, norm):
  flat = np.reshape(np.asarray(delta, np.float64), (len(delta), -1))
  return np.linalg.norm(flat, axis=1, ord={"linf": np.inf, "l2": 2}[norm])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_in_ball_and_box_eps_zero_permutation_and_given_starts(norm):
  x = images(NUM, low=0.0, high=1.0)
  y = predictions(MODEL, x)
  for eps in (0.0, 0.05, 0.7, 3.0):
    adv = _run(x=x, y=y, norm=norm, eps=eps, num_steps=6, num_restarts=2)
    assert np.all(_ball_norm(adv.x - x, norm) <= eps * (1 + 1e-6) + 1e-7)
    assert adv.x.min() >= 0 and adv.x.max() <= 1
    if not eps:
      np.testing.assert_array_equal(adv.x, x)
  order = np.random.default_rng(0).permutation(NUM)
  plain = _run(x=x, y=y, norm=norm, num_steps=6)
  mixed = _run(x=x, y=y, order=order, norm=norm, num_steps=6)
  np.testing.assert_array_equal(mixed.x, plain.x[order])
  begun = _run(x=x, y=y, start=images(NUM, seed=5), norm=norm, num_steps=6)
  assert not np.array_equal(begun.x, plain.x)


@pytest.mark.slow
def test_jit_equals_eager_and_a_split_batch_the_whole():
  attack = attacks.build("apgd", linear(), eps=0.05, num_steps=2)
  y = predictions(linear(), X[:6])
  whole = attacks.run(attack, keys(6), X[:6], y)
  with jax.disable_jit():
    eager = attacks.run(attack, keys(6)[:2], X[:2], y[:2], compact=False)
  np.testing.assert_allclose(eager.x, whole.x[:2], atol=1e-6)
  split = attacks.run(attack, keys(6), X[:6], y, batch_size=4)
  np.testing.assert_allclose(split.x, whole.x, atol=1e-6)
  np.testing.assert_array_equal(split.info.num_steps, whole.info.num_steps)


def test_restarts_start_apart_on_the_sphere():
  attack = attacks.build("apgd", FAR, eps=0.1, num_steps=1, num_restarts=3)
  state, starts = _init(attack.init, keys(NUM), X, Goal(jnp.zeros(NUM, jnp.int32), UNTARGETED)), []
  for t in range(attack.num_steps):
    starts += [np.asarray(state.x_adv)] if t % 2 == 0 else []
    state, _ = _step(attack.step, keys(NUM), state)
  for a, b in [(0, 1), (1, 2), (0, 2)]:
    assert np.all(np.abs(starts[a] - starts[b]).max(axis=(1, 2, 3)) > 0.01)
  for start in starts:
    np.testing.assert_allclose(_ball_norm(start - X, "linf"), 0.1, rtol=1e-4)


@pytest.mark.parametrize("name", ["mim", "apgd"])
def test_nan_is_counted_and_is_no_success(name):
  bad = np.arange(NUM) % 3 == 0
  x = X.at[:, 0, 0, 0].set(jnp.where(bad, 0.9, 0.4))
  model = _model(FAR.args[0], (0.3, 0.0, -99.0, -99.0), poison=0.6)
  adv = _run(name, model, x=x, y=0 * Y, eps=0.2, num_steps=5)
  np.testing.assert_array_equal(adv.info.nonfinite[bad], 6)
  np.testing.assert_array_equal(adv.info.nonfinite[~bad], 0)
  assert not adv.info.success[bad].any() and adv.info.success[~bad].any()
  assert np.all(np.abs(adv.x - x) <= 0.2 + 1e-6) and np.all(np.isfinite(adv.x))


def test_expectation_over_transformation_pursues_targets_too():
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
  noisy = Partial(noisy_logits, jnp.float32(0.5), weights)
  objective = objectives.build(noisy, randomness="fresh", eot_samples=3, loss="dlr")
  step, target = jnp.zeros(NUM, jnp.int32), jnp.asarray((Y + 1) % 4, jnp.int32)
  untargeted, targeted = Goal(jnp.asarray(Y), UNTARGETED), Goal(jnp.asarray(Y), target)

  @jax.jit
  def query(objective, target):
    at = objectives.query(objective, keys(NUM), step, X, untargeted, target)
    expected = objective(keys(NUM), step, X, targeted)[0]
    return at, expected, objective(keys(NUM), step, X, untargeted)[1]

  at, loss, success = query(objective, target)
  np.testing.assert_allclose(at.loss, loss, rtol=1e-5)
  np.testing.assert_array_equal(at.success, success)


def test_other_numbers_do_not_compile_again():
  traces = []

  def model(weights, readout, keys, x):
    traces.append(len(x))
    return jnp.tanh((x.reshape(len(x), -1) - 0.5) @ weights) @ readout

  def attack(seed, **options):
    logits_fn = Partial(model, *curved(seed, num_classes=4).args)
    _run(logits_fn=logits_fn, y=np.zeros(NUM, int), **options)
    return len(traces)

  first = attack(0, num_targets=2)
  assert attack(1, num_targets=3, num_restarts=2, num_steps=7, eps=0.3, rho=0.5) == first
  assert first > 0


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: _run(norm="l1"), "for l1 there is pgd"),
    (lambda: _run(norm="l3"), "unknown norm of apgd 'l3'"),
    (lambda: _run(num_steps=0), "num_steps and num_restarts must be >= 1"),
    (lambda: _run(num_targets=-1), "num_targets >= 0"),
    (lambda: _run(rho=1.5), "rho must be a share"),
    (
      lambda: _run(logits_fn=linear(num_classes=2), y=0 * Y, num_targets=1),
      "at least 3 classes, got 2",
    ),
    (
      lambda: _run(logits_fn=linear(), y=0 * Y, num_targets=2, loss="dlr"),
      "at least 4 classes, got 3; use loss='margin'",
    ),
    (lambda: _run("mim", decay=-1.0), "decay must be"),
    (lambda: _run("mim", num_steps=0), "num_steps and num_restarts"),
    (lambda: _run("mim", early_stop=True, keep_best=False), "early_stop=False"),
  ],
)
def test_wrong_settings_are_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()
