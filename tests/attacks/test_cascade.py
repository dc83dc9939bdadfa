import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, curved_logits, images, keys, noisy_logits, predictions
from jax.tree_util import Partial

from gencls import attacks
from gencls.attacks import auto_attack
from gencls.attacks import objective as objectives
from gencls.keys import example_keys
from gencls.types import Attack, Goal, Info

NUM, EPS = 40, 0.05
X = images(NUM)
MODEL = curved(num_classes=4)
TRUE = predictions(MODEL, X)
Y = np.where(np.arange(NUM) % 10 == 0, (TRUE + 1) % 4, TRUE)  # four clean errors
JUDGE = objectives.build(MODEL)
JUDGE_GOAL = Goal(jnp.asarray(Y, jnp.int32), jnp.full(NUM, -1))


def _fixed_result(push):
  """An attack of two steps that returns x + push, whatever the budget."""

  def step(keys, state):
    x_adv, count = state
    none = jnp.zeros(len(count))
    no, passes = none > 0, jnp.ones_like(count)
    return (x_adv, count + 1), Info(none, no, count >= 1, no, no, passes, 0 * passes)

  def init(push, keys, x, goal):
    return jnp.clip(x + push, 0.0, 1.0), jnp.zeros(len(x), jnp.int32)

  return Attack(Partial(init, jnp.float32(push)), Partial(step), Partial(lambda s: s[0]), 2)


def _members():
  weak = attacks.build("fgsm", MODEL, eps=EPS)
  strong = attacks.build("pgd", MODEL, eps=EPS, num_steps=10, num_restarts=2)
  return [("weak", weak), ("strong", strong)]


def _cascade(members, eps=EPS, **options):
  return attacks.sequence(members, JUDGE, norm="linf", eps=eps, **options)


def _run(attack, **options):
  return attacks.run(attack, keys(NUM), X, Y, **{"batch_size": 16, "compact": False, **options})


def _alone(attack):
  return predictions(MODEL, _run(attack).x) != Y


def test_each_member_sees_what_stands_and_the_worst_case_is_that_of_all():
  cascade = _cascade(_members())
  adv = _run(cascade)
  wrong = predictions(MODEL, adv.x) != Y
  weak, strong = (_alone(attack) for attack in cascade.attacks)
  expected = np.where(strong, 2, -1)
  expected[weak] = 1
  expected[TRUE != Y] = 0
  np.testing.assert_array_equal(adv.broken_by, expected)
  np.testing.assert_array_equal(wrong, expected >= 0)
  np.testing.assert_array_equal(adv.info.success, wrong)
  assert {-1, 0, 1, 2} == set(expected.tolist())  # the test is about something
  # Clean errors are left as they are; everything is in the ball; nothing was run in vain.
  np.testing.assert_array_equal(adv.x[expected == 0], X[expected == 0])
  assert np.all(np.abs(adv.x - X) <= EPS + 1e-6) and adv.info.done.all()
  steps = np.asarray(adv.info.num_steps)
  assert set(steps[expected == 0]) == {0} and set(steps[expected == 1]) == {1}
  assert set(steps[expected == -1]) == {1 + 22}
  # The judge's passes count too: one for x, one for each member's result.
  np.testing.assert_array_equal(adv.info.forward[expected == -1], 1 + (2 + 1) + (22 + 1))
  np.testing.assert_array_equal(adv.info.backward[expected == -1], 1 + 22)


def test_batches_and_order_do_not_matter_and_progress_ends_at_all_steps():
  cascade, seen = _cascade(_members()), []
  adv = _run(cascade, progress=lambda made, total: seen.append((made, total)))
  total = NUM * cascade.num_steps
  assert seen == sorted(seen) and seen[-1] == (total, total)
  order = np.random.default_rng(0).permutation(NUM)
  mixed = attacks.run(cascade, keys(NUM)[order], X[order], Y[order], batch_size=16)
  np.testing.assert_allclose(mixed.x, adv.x[order], atol=1e-6)
  np.testing.assert_array_equal(mixed.broken_by, adv.broken_by[order])
  empty = attacks.run(cascade, keys(0), X[:0], Y[:0])
  assert empty.x.shape == (0, 2, 3, 1) and empty.broken_by.shape == (0,)


def test_results_outside_the_ball_do_not_count():
  """As of a minimum-norm member: the same result, in a small and in a large ball."""
  far = _fixed_result(0.3)
  fooled = predictions(MODEL, np.clip(X + 0.3, 0, 1)) != Y
  right = TRUE == Y
  assert (fooled & right).any()
  small = _run(_cascade([("far", far)], eps=0.2))
  np.testing.assert_array_equal(small.broken_by, np.where(right, -1, 0))
  np.testing.assert_array_equal(small.x, X)
  large = _run(_cascade([("far", far)], eps=0.3))
  np.testing.assert_array_equal(large.broken_by, np.where(right, np.where(fooled, 1, -1), 0))


def test_a_member_without_gradients_that_finds_more_is_reported():
  members = [("nothing", attacks.build("fgsm", MODEL, eps=0.0)), ("blind", _fixed_result(0.3))]
  with pytest.warns(UserWarning, match=r"blind, which sees no gradients, broke \d+ of 36 examples"):
    _run(_cascade(members, eps=0.3))


def test_nothing_is_traced_again_for_another_number_of_standing_examples():
  traces = []

  def model(weights, readout, keys, x):
    traces.append(len(x))
    return curved_logits(weights, readout, keys, x)

  def attack(seed, eps):
    logits_fn = Partial(model, *curved(seed, num_classes=4).args)
    members = [
      (name, attacks.build("pgd", logits_fn, eps=eps, num_steps=n))
      for name, n in (("a", 1), ("b", 9))
    ]
    judge = objectives.build(logits_fn)
    y = predictions(logits_fn, X)
    before = len(traces)
    sequence = attacks.sequence(members, judge, norm="linf", eps=eps)
    adv = attacks.run(sequence, keys(NUM), X, y, batch_size=16, compact=False)
    return len(traces) - before, int(np.sum(np.asarray(adv.broken_by) < 0))

  first, _ = attack(0, 0.05)
  assert first > 0
  standing = set()
  for seed, eps in ((0, 0.02), (1, 0.08), (2, 0.15)):
    again, left = attack(seed, eps)
    assert again == 0
    standing.add(left)
  assert len(standing) > 1


# x, then 2 + 1 of the first and 3 + 1 of the second make 8 passes. A budget of 9 leaves one step of
# the third (2 passes, and the judge looks at its result), a budget of 8 none.
@pytest.mark.parametrize(("budget", "third"), [(9, 2 + 1), (8, 0)])
def test_a_query_budget_is_that_of_all_members_together(budget, third):
  members = [("first", _fixed_result(0.0)), *_members()]
  adv = _run(_cascade(members), max_queries=budget)
  spent = np.asarray(adv.info.forward + adv.info.backward)
  stands = np.asarray(adv.broken_by) == -1
  np.testing.assert_array_equal(spent[stands], 1 + 3 + 4 + third)
  assert adv.info.done.all()


def test_targeted_goals_are_judged_as_such():
  target = np.where(np.arange(NUM) % 2 == 0, (Y + 2) % 4, -1)
  adv = _run(_cascade(_members(), eps=EPS), target=target)
  found = predictions(MODEL, adv.x)
  reached = np.where(target < 0, found != Y, found == target)
  np.testing.assert_array_equal(np.asarray(adv.broken_by) >= 0, reached)


def _settings(version, num_classes=10, **options):
  """What the members of a version are built with, without the attacks themselves."""
  built = []

  def build(name, logits_fn, **settings):
    built.append((name, settings))
    return _members()[0][1]

  randomness = {"randomness": "fixed", "eot_samples": 1}
  cascade = auto_attack.auto_attack(
    MODEL,
    build=build,
    registry={"apgd": 0, "fab": 0, "square": 0},
    loss="margin",
    eps=EPS,
    version=version,
    num_classes=num_classes,
    **{**randomness, **options},
  )
  return cascade, dict(zip(cascade.names, built, strict=True))


def test_auto_attack_has_the_members_and_settings_of_the_authors():
  _, standard = _settings("standard")
  assert list(standard) == ["apgd_ce", "apgd_t", "fab_t", "square"]
  name, apgd_t = standard["apgd_t"]
  assert (name, apgd_t["loss"], apgd_t["num_targets"], apgd_t["num_steps"]) == (
    "apgd",
    "dlr",
    9,
    100,
  )
  assert standard["apgd_ce"][1]["loss"] == "cross_entropy" and apgd_t["eps"] == EPS
  assert standard["square"][1]["num_steps"] == 5000
  assert all(settings["eps"] == EPS for _, settings in standard.values())
  fab_t = standard["fab_t"][1]
  assert (fab_t["stop_at_eps"], fab_t["num_targets"]) == (True, 9)
  _, plus = _settings("plus")
  assert list(plus) == ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"]
  assert [plus[name][1].get("num_restarts", 1) for name in plus] == [5, 5, 5, 1, 1, 1]
  assert plus["fab"][1]["eps"] == EPS  # of its random starts, by the authors
  _, rand = _settings("rand", randomness="fresh", eot_samples=20)
  assert list(rand) == ["apgd_ce", "apgd_dlr"]
  for _, settings in rand.values():
    assert settings["eot_samples"] == 20 and settings["early_stop"] is False


def test_the_version_for_dear_models_has_three_losses_and_no_member_of_thousands_of_queries():
  _, apgd = _settings("apgd", num_steps=50, num_targets=3)
  losses = {name: (settings["loss"], settings["num_steps"]) for name, (_, settings) in apgd.items()}
  assert losses == {
    "apgd_ce": ("cross_entropy", 50), "apgd_margin": ("margin", 50), "apgd_t": ("dlr", 50)
  }  # fmt: skip
  assert apgd["apgd_t"][1]["num_targets"] == 3


def test_the_brief_version_is_the_authors_without_fab():
  (_, brief), (_, standard) = (_settings(v, num_queries=200) for v in ("brief", "standard"))
  assert list(brief) == ["apgd_ce", "apgd_t", "square"]
  assert brief == {name: standard[name] for name in brief}


def test_few_classes_change_the_members_with_a_warning():
  with pytest.warns(UserWarning, match="apgd_t takes the loss margin: targeted dlr needs 4"):
    _, three = _settings("standard", num_classes=3)
  assert three["apgd_t"][1]["loss"] == "margin" and three["apgd_t"][1]["num_targets"] == 2
  with pytest.warns(UserWarning) as caught:
    _, two = _settings("plus", num_classes=2)
  assert list(two) == ["apgd_ce", "apgd_dlr", "fab", "square"]
  assert two["apgd_dlr"][1]["loss"] == "margin"
  assert {str(w.message).split()[0] for w in caught} == {"apgd_dlr", "apgd_t", "fab_t"}


def test_auto_attack_rand_runs_and_members_that_are_missing_are_named(monkeypatch):
  attack = attacks.build(
    "auto_attack",
    MODEL,
    eps=EPS,
    version="rand",
    num_classes=4,
    num_steps=5,
    randomness="fresh",
    eot_samples=2,
  )
  adv = _run(attack)
  wrong = predictions(MODEL, adv.x) != Y
  np.testing.assert_array_equal(np.asarray(adv.broken_by) >= 0, wrong)
  assert attack.num_steps == 2 * 6 and wrong.sum() > 4
  monkeypatch.delitem(attacks.REGISTRY, "square", raising=False)
  with pytest.raises(ValueError, match=r"needs the attacks .*square, which are not in"):
    attacks.build("auto_attack", MODEL, eps=EPS)


@pytest.mark.parametrize(
  "version", ["standard", "apgd", pytest.param("plus", marks=pytest.mark.slow)]
)
def test_each_version_runs_and_what_it_reports_holds_up(version):
  """Four rough classes, in a ball that breaks some: every member meets those that stand."""
  model = curved(seed=3, num_classes=4)
  true = predictions(model, X)
  y = np.where(np.arange(NUM) % 10 == 0, (true + 1) % 4, true)
  sizes = {"num_classes": 4, "num_steps": 3, "num_queries": 6, "num_targets": 3}
  cascade = attacks.build("auto_attack", model, eps=0.03, version=version, **sizes)
  adv = attacks.run(cascade, keys(NUM), X, y, batch_size=NUM, compact=False)
  broken_by, steps = np.asarray(adv.broken_by), np.asarray(adv.info.num_steps)
  np.testing.assert_array_equal(predictions(model, adv.x) != y, broken_by >= 0)
  assert np.max(np.abs(np.asarray(adv.x) - np.asarray(X))) <= 0.03 + 1e-6
  assert np.all(adv.x >= 0) and np.all(adv.x <= 1) and adv.info.done.all()
  np.testing.assert_array_equal(broken_by == 0, true != y)
  assert np.sum(broken_by > 0) > 4 and np.sum(broken_by < 0) > 4
  # 4 iterates a run: what stands went through every run of every member.
  targeted, square = 3 * 4, 1 + 6
  runs = {
    "standard": 4 + 2 * targeted + square,
    "plus": 3 * 5 * 4 + 2 * targeted + square,
    "apgd": 2 * 4 + targeted,
  }
  assert cascade.num_steps == runs[version]
  np.testing.assert_array_equal(steps[broken_by < 0], runs[version])
  np.testing.assert_array_equal(steps[broken_by == 0], 0)


def test_a_cascade_keeps_a_budget_of_queries_and_its_members_start_apart():
  sizes = {"num_classes": 4, "num_steps": 3, "num_queries": 6, "num_targets": 3}
  cascade = attacks.build("auto_attack", MODEL, eps=0.001, **sizes)
  for limit in (1, 7, 30):
    adv = _run(cascade, max_queries=limit)
    spent = np.asarray(adv.info.forward + adv.info.backward)
    # Each may be passed by the step that reaches it, and by the judge of that member's result.
    assert spent.max() <= limit + 3 and (limit < 7 or spent.max() >= limit)
  first, second = (
    np.asarray(jax.jit(cascade.attacks[i].init)(keys(NUM), X, JUDGE_GOAL).x_adv) for i in (0, 1)
  )
  assert np.all(np.any(first != second, axis=(1, 2, 3)))


FRESH = {"randomness": "fresh", "eot_samples": 20}
NOISY = Partial(
  noisy_logits,
  jnp.float32(1.0),
  jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32),
)


def _graded(x, y):
  """Accuracy over draws that no attack has seen."""
  logits = jax.jit(NOISY)
  draws = [example_keys(seed, np.arange(len(x)), "grade") for seed in range(60)]
  return np.mean([np.argmax(np.asarray(logits(k, x)), axis=1) == y for k in draws])


@pytest.mark.slow
def test_under_fresh_draws_the_ensemble_is_as_strong_as_its_members_to_the_end():
  y = np.argmax(np.asarray(X).reshape(NUM, 6) @ np.asarray(NOISY.args[1]), axis=1)
  y[0] = (y[0] + 1) % 5  # a clean error is pushed further too

  def run(name, **options):
    attack = attacks.build(name, NOISY, eps=0.25, num_steps=15, **FRESH, **options)
    return attacks.run(attack, keys(NUM), X, y, compact=False)

  ensemble = run("auto_attack", version="rand", num_classes=5)
  default = run("apgd", loss="cross_entropy")
  early = run("apgd", loss="cross_entropy", early_stop=True)
  late = run("apgd", loss="cross_entropy", early_stop=False)
  np.testing.assert_array_equal(default.x, late.x)
  strong = _graded(late.x, y)
  assert _graded(ensemble.x, y) < strong + 0.02
  assert _graded(early.x, y) > strong + 0.1  # the test is about something
  np.testing.assert_array_equal(ensemble.info.num_steps, 2 * 16)
  assert ensemble.broken_by[0] == 0 and np.any(np.asarray(ensemble.x[0]) != np.asarray(X[0]))


@pytest.mark.parametrize("name", ["pgd", "apgd", "mim", "square", "spsa"])
def test_only_fixed_randomness_stops_at_the_first_success_by_default(name):
  def stops(model, **options):
    plan = attacks.build(name, model, eps=EPS, **options).step.keywords["plan"]
    return bool(plan.stop_loss < 0 if name == "spsa" else plan.early_stop)

  explicit = {"stop_loss": -1.0} if name == "spsa" else {"early_stop": True}
  assert stops(MODEL) and not stops(NOISY, **FRESH) and stops(NOISY, **FRESH, **explicit)


def test_under_fresh_draws_the_largest_success_of_all_members_is_kept():
  """Steps towards class 1 of a model without noise: the second goes further than the third."""

  def slope(keys, x):
    return jnp.stack([jnp.full(len(x), 0.5), jnp.mean(x, axis=(1, 2, 3))], axis=1)

  x, y = jnp.full((2, 2, 3, 1), 0.4), np.array([0, 0])
  members = [(str(push), _fixed_result(push)) for push in (0.12, 0.3, 0.2)]
  for randomness, push in (({}, 0.12), (FRESH, 0.3)):
    judge = objectives.build(slope, **randomness)
    cascade = attacks.sequence(members, judge, norm="linf", eps=0.4)
    adv = attacks.run(cascade, keys(2), x, y, compact=False)
    np.testing.assert_allclose(adv.x, 0.4 + push, rtol=1e-6)
    np.testing.assert_array_equal(adv.broken_by, 1)  # the first that did


def _probabilities(keys, x):
  return jax.nn.softmax(MODEL(keys, x))


def _randomised(keys, x):
  return MODEL(keys, x) + jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)


def _rounded(keys, x):
  return jnp.round(MODEL(keys, x)) + 9.0 * jax.nn.one_hot(jnp.asarray(TRUE)[:1], 4)


def _fgsm_on(logits_fn, **options):
  members = [("fgsm", attacks.build("fgsm", logits_fn, eps=EPS))]
  judge = objectives.build(logits_fn)
  return _run(attacks.sequence(members, judge, norm="linf", eps=EPS, **options))


def test_flags():
  with pytest.raises(ValueError, match="seems to return probabilities"):
    _fgsm_on(_probabilities)
  with pytest.raises(ValueError, match="num_classes=10, but the model has 4 logits"):
    _fgsm_on(MODEL, num_classes=10)
  with pytest.warns(UserWarning, match="the model is randomised"):
    _fgsm_on(_randomised)
  with pytest.warns(UserWarning, match=r"\d+ of \d+ standing examples had an input gradient of"):
    _fgsm_on(_rounded)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: _cascade([]), "members with different names"),
    (lambda: _cascade([_members()[0]] * 2), "members with different names"),
    (lambda: _run(_cascade(_members()), record_every=3), "record_every must be 0, got 3"),
    (lambda: _settings("standards"), "did you mean 'standard'"),
    (lambda: _settings("standard", randomness="fresh"), "is for deterministic models"),
    (lambda: _settings("rand"), "set randomness='fresh' and eot_samples=20"),
    (lambda: _settings("plus", num_classes=1), "num_classes must be >= 2"),
    (lambda: attacks.build("auto_attack", MODEL), "auto_attack needs eps"),
    (lambda: attacks.build("auto_attack", MODEL, eps=1, step=1), "unknown hyperparameter of auto"),
    (lambda: attacks.build("autoattack", MODEL, eps=1), "did you mean 'auto_attack'"),
  ],
)
def test_wrong_settings_are_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()
