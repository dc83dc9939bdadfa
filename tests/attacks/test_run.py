import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, curved_logits, images, keys, predictions
from jax.tree_util import Partial

from gencls import attacks
from gencls.types import Attack, Goal, Info

NUM = 24
SIZE = 32  # with its halves: most tests share their compiled programs
X = images(NUM)
Y = predictions(curved(), X)
KEYS = keys(NUM)
ALL = slice(None)


def _pgd(logits_fn=None, **options):
  options = {"eps": 0.06, "num_steps": 10, "num_restarts": 2, **options}
  return attacks.build("pgd", curved() if logits_fn is None else logits_fn, **options)


def _run(logits_fn=None, *, keys=KEYS, x=X, y=Y, **options):
  """PGD in one padded batch of `SIZE`."""
  names = (
    "target",
    "start",
    "loop",
    "batch_size",
    "progress",
    "record_every",
    "compact",
    "max_queries",
    "num_workers",
  )
  settings = {name: options.pop(name) for name in names if name in options}
  return attacks.run(_pgd(logits_fn, **options), keys, x, y, **{"batch_size": SIZE, **settings})


def _equal(first, second, *, rows=ALL):
  np.testing.assert_array_equal(first.x, np.asarray(second.x)[rows])
  for a, b in zip(first.info, second.info, strict=True):
    np.testing.assert_array_equal(a, np.asarray(b)[rows])


def _close(first, second):
  np.testing.assert_allclose(first.x, second.x, atol=1e-5)
  np.testing.assert_array_equal(first.info.success, second.info.success)
  np.testing.assert_array_equal(first.info.num_steps, second.info.num_steps)


def test_permuting_the_batch_permutes_the_result_bit_for_bit():
  order = np.random.default_rng(0).permutation(NUM)
  plain = _run()
  permuted = _run(keys=KEYS[order], x=X[order], y=Y[order])
  _equal(permuted, plain, rows=order)
  assert not np.array_equal(permuted.x, plain.x)


@pytest.mark.parametrize("batch_size", [16, None])
def test_splitting_and_padding_change_nothing_beyond_float_error(batch_size):
  _close(_run(batch_size=batch_size, compact=batch_size is not None), _run())


def test_dropping_finished_examples_changes_nothing():
  counted = _Counted()
  logits_fn = Partial(counted, *curved().args)
  whole = _run(logits_fn, compact=False)
  assert set(counted.traces) == {1, SIZE}
  _close(_run(logits_fn), whole)
  assert {1, SIZE} < set(counted.traces) <= {1, SIZE, SIZE // 2, SIZE // 4, SIZE // 8}
  # Some examples finish at once and some never: the test is about something.
  assert 1 in whole.info.num_steps and 22 in whole.info.num_steps


def _countdown(num_steps, seen=None):
  """An attack that is done with x after 64 x steps and shows in it who was there.

  Its result is (steps made, the label, what the key draws). `seen` gets the size of each step.
  """

  def init(keys, x, goal):
    return jnp.round(64 * x[:, 0, 0, 0]), jnp.zeros(len(x)), jnp.float32(1) * goal.label

  def step(keys, state):
    if seen is not None:
      jax.debug.callback(lambda size: seen.append(int(size)), jnp.int32(len(keys)))
    lives, made, label = state
    zeros, count = jnp.zeros(len(lives)), jnp.ones(len(lives), jnp.int32)
    no, drawn = zeros > 0, jax.vmap(jax.random.uniform)(keys)
    info = Info(drawn, no, made + 1 >= lives, no, no, count, count)
    return (lives, made + 1, label), info

  def result(state):
    return jnp.stack(state, axis=1)[:, None, None, :]

  return Attack(Partial(init), Partial(step), Partial(result), num_steps)


def _lived(lives):
  """(keys, x, y) of a countdown; labels are no two alike."""
  x = np.repeat(np.asarray(lives, np.float32).reshape(-1, 1, 1, 1) / 64, 3, axis=3)
  return keys(len(lives)), x, np.arange(len(lives))


def _check_lived(adv, lives, made=None):
  """Every example has its own steps, label and key."""
  lives = np.asarray(lives)
  made = lives if made is None else made
  np.testing.assert_array_equal(adv.info.num_steps, made)
  np.testing.assert_array_equal(adv.x[:, 0, 0], np.stack([lives, made, np.arange(len(lives))], 1))
  drawn = jax.vmap(jax.random.uniform)(keys(len(lives)))
  np.testing.assert_array_equal(adv.info.loss, drawn)
  np.testing.assert_array_equal(adv.info.done, made == lives)


@pytest.mark.parametrize(
  ("lives", "expected"),
  [
    # 66 of 100 go on in 75 places, not in 100, for the steps that are left.
    (np.repeat([1, 50], [34, 66]), {100: 1, 25: 3 * 49}),
    (np.repeat([1, 50], [42, 58]), {100: 1, 50: 49, 13: 49}),
    (np.repeat([1, 50], [75, 25]), {100: 1, 25: 49}),
    (np.repeat([1, 50], [10, 90]), {100: 50}),  # 50 and 50 would save nothing
    (np.repeat([1, 4], [90, 10]), {100: 4}),  # of 4 steps: less than a program is worth
  ],
)
def test_examples_that_go_on_are_spread_over_smaller_batches(lives, expected):
  seen, lives = [], np.random.default_rng(0).permutation(lives)
  attack = _countdown(max(lives), seen)
  adv = attacks.run(attack, *_lived(lives), loop="python", batch_size=100)
  jax.effects_barrier()
  _check_lived(adv, lives)
  assert dict(Counter(seen)) == expected


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"compact": False}, {"loop": "device"},
                                     {"max_seconds": 1e6}, {"record_every": 4}])  # fmt: skip
def test_parts_padding_workers_and_limits_mix_no_examples(options):
  """130 examples in two batches of 100, of all lives; steps made are reported as they grow."""
  lives, seen = np.random.default_rng(1).choice([1, 3, 9, 30, 60], 130), []
  how = {"loop": "python", "batch_size": 100, **options}
  adv = attacks.run(_countdown(60), *_lived(lives), progress=lambda *made: seen.append(made), **how)
  _check_lived(adv, lives)
  made = [each for each, total in seen]
  assert made == sorted(made) and seen[-1] == (60 * 130, 60 * 130)


def test_a_query_budget_counts_in_every_part():
  lives = np.random.default_rng(2).choice([1, 50], 100, p=[0.34, 0.66])
  adv = attacks.run(_countdown(50), *_lived(lives), batch_size=100, loop="python", max_queries=40)
  spent = np.minimum(lives, 20)  # two passes for each step
  np.testing.assert_array_equal(adv.info.num_steps, spent)
  np.testing.assert_array_equal(adv.x[:, 0, 0, 1], spent)
  assert adv.info.done.all()


@pytest.mark.parametrize(("looks", "made"), [(4, [3, 1, 1]), (54, [50, 4, 1])])
def test_parts_that_wait_when_work_is_stopped_keep_what_they_have(looks, made, monkeypatch):
  """Another worker has failed after some steps in the first or the second of three parts."""
  left = iter([False] * looks)  # before each step, and before parts are made
  module = sys.modules["gencls.attacks.run"]
  monkeypatch.setattr(module, "_late", lambda job: next(left, True))
  lives = np.repeat([1, 50], [34, 66])
  adv = attacks.run(_countdown(50), *_lived(lives), loop="python", batch_size=100)
  spent = np.asarray(adv.info.num_steps)
  last, middle, first = (spent[34:59], spent[59:84], spent[84:])  # the last part runs first
  assert [set(part) for part in (first, middle, last)] == [{each} for each in made]
  _check_lived(adv, lives, spent)


def test_finished_examples_stay_as_they_are_even_when_not_dropped():
  """An attack that goes on moving after it is done must not change its result."""

  def step(keys, state):
    new = state + jnp.ones_like(state)
    num = jnp.full(len(state), 0.0)
    no, count = num > 0, jnp.ones_like(num, jnp.int32)
    return new, Info(num, no, new[:, 0, 0, 0] >= 4.0, no, no, 2 * count, count)

  attack = Attack(Partial(lambda keys, x, goal: x), Partial(step), Partial(lambda s: s), 9)
  x = jnp.asarray([0.0, 1.0]).reshape(2, 1, 1, 1)
  adv = attacks.run(attack, keys(2), x, np.zeros(2, int), compact=False)
  np.testing.assert_array_equal(adv.x.ravel(), [4, 4])
  np.testing.assert_array_equal(adv.info.num_steps, [4, 3])
  np.testing.assert_array_equal(adv.info.forward, [8, 6])
  np.testing.assert_array_equal(adv.info.backward, [4, 3])


@pytest.mark.parametrize("loop", ["python", "device"])
def test_a_query_budget_stops_each_example_with_its_best(loop):
  adv = _run(eps=0.02, loop=loop, max_queries=9)
  whole = _run(eps=0.02)
  assert np.max(np.asarray(whole.info.num_steps)) == 22
  spent = np.minimum(np.asarray(whole.info.num_steps), 5)  # two passes a step: 10 >= 9
  np.testing.assert_array_equal(adv.info.num_steps, spent)
  np.testing.assert_array_equal(adv.info.forward + adv.info.backward, 2 * spent)
  assert adv.info.done.all() and np.all(np.abs(adv.x - X) <= 0.02 + 1e-6)


@pytest.mark.parametrize("max_queries", [2, 6, 14, 24])
def test_cut_short_the_result_is_an_iterate_that_was_evaluated(max_queries):
  """Large steps to and fro, many of which succeed only once: the next iterate is not the best."""
  adv = _run(eps=0.05, step_size=0.08, max_queries=max_queries)
  wrong = predictions(curved(), adv.x) != Y
  np.testing.assert_array_equal(adv.info.success, wrong)
  assert not wrong.all()

  attack = _pgd(eps=0.05, step_size=0.08)
  goal = Goal(jnp.asarray(Y, jnp.int32), jnp.full(NUM, -1, jnp.int32))
  state, step = jax.jit(attack.init)(KEYS, X, goal), jax.jit(attack.step)
  iterates, losses = [], []
  for _ in range(max_queries // 2):
    iterates.append(np.asarray(state.x_adv))
    state, info = step(KEYS, state)
    losses.append(np.asarray(info.loss))
  best = np.stack(iterates)[np.argmax(losses, axis=0), np.arange(NUM)]
  np.testing.assert_allclose(np.asarray(adv.x)[~wrong], best[~wrong], atol=1e-5)


def test_workers_share_the_batches_and_change_nothing():
  seen = []
  options = {"batch_size": 16, "record_every": 5}
  one = _run(**options)
  two = _run(num_workers=2, progress=lambda made, total: seen.append((made, total)), **options)
  _equal(two, one)
  np.testing.assert_array_equal(two.history.num_steps, one.history.num_steps)
  # Sums over the batches, whose examples all finish or make every step.
  assert seen == sorted(seen) and seen[-1] == (22 * NUM, 22 * NUM)
  # Sized for the workers: as many batches for each.
  counted = _Counted()
  attack = attacks.build("fgsm", Partial(counted, *curved().args), eps=0.1, check_result=False)
  attacks.run(attack, KEYS, X, Y, num_workers=3)
  assert set(counted.traces) == {1, 8}


def test_both_loops_give_the_same():
  _close(_run(loop="device"), _run(loop="python"))


class _Counted:
  """A model that notes the batch size of each trace."""

  def __init__(self):
    self.traces = []

  def __call__(self, weights, readout, keys, x):
    self.traces.append(len(x))  # in the traced body: runs once per trace
    return curved_logits(weights, readout, keys, x)


@pytest.mark.parametrize(("loop", "compact"), [("python", True), ("device", False)])
def test_nothing_is_traced_again_once_each_batch_size_was_seen(loop, compact):
  counted = _Counted()

  def attack(parameters, **options):
    before = len(counted.traces)
    logits_fn = Partial(counted, *curved(parameters).args)
    _run(logits_fn, loop=loop, compact=compact, **options)
    return counted.traces[before:]

  first = [*attack(0), *attack(1, eps=0.3), *attack(1, eps=0.05)]
  assert len(first) == len(set(first)) <= 5  # each batch size once, and one example
  again = []
  for parameters in (0, 1, 2):
    again += attack(parameters, eps=0.05, num_steps=20)
    again += attack(parameters, eps=0.2, step_size=0.03, num_steps=25)
    again += attack(parameters, eps=0.0, num_restarts=4)
    again += attack(parameters, num_restarts=1, random_start=False, early_stop=False)
  assert len(again) == len(set(again))
  assert not set(first) & set(again), (first, again)
  # The counter can count: another attack is another trace.
  attacks.run(attacks.build("fgsm", Partial(counted, *curved().args), eps=0.1), keys(NUM), X, Y)
  assert counted.traces[-1] == NUM


def test_fgsm_without_a_check_makes_one_pass_each_way_and_claims_no_success():
  options = {"eps": 0.1, "check_result": False}
  quick = attacks.run(attacks.build("fgsm", curved(), **options), KEYS, X, Y)
  full = attacks.run(attacks.build("fgsm", curved(), eps=0.1), KEYS, X, Y)
  # Another program, so equal to rounding alone.
  np.testing.assert_allclose(quick.x, full.x, atol=1e-6)
  assert full.info.success.any() and not quick.info.success.any() and quick.info.done.all()
  assert set(np.asarray(quick.info.forward)) == {1} == set(np.asarray(quick.info.backward))
  assert set(np.asarray(full.info.forward)) == {2} and set(np.asarray(full.info.backward)) == {1}


def test_the_callers_images_survive_donation():
  x = jnp.array(X)
  _run(x=x)
  np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("loop", ["python", "device"])
def test_history_progress_and_empty_batches(loop):
  seen = []
  adv = _run(
    loop=loop,
    compact=loop == "python",
    batch_size=16,
    record_every=5,
    progress=lambda done, total: seen.append((done, total)),
  )
  _close(adv, _run())
  assert all(field.shape == (22 // 5, NUM) for field in adv.history)
  spent = np.asarray(adv.history.num_steps)
  np.testing.assert_array_equal(
    spent, np.minimum([[5], [10], [15], [20]], np.asarray(adv.info.num_steps))
  )
  assert np.all(np.diff(np.asarray(adv.history.success, int), axis=0) >= 0)
  assert seen == sorted(seen) and seen[-1] == (22 * NUM, 22 * NUM)

  empty = attacks.run(_pgd(), keys(0), X[:0], Y[:0], loop=loop, record_every=5)
  assert empty.x.shape == (0, 2, 3, 1) and all(field.shape == (0,) for field in empty.info)


def test_a_time_limit_returns_what_there_is():
  adv = attacks.run(_pgd(), keys(NUM), X, Y, max_seconds=1e-9)
  assert not adv.info.done.any() and np.all(np.isnan(adv.info.loss))
  np.testing.assert_array_equal(adv.x, X)  # nothing was evaluated


def _bad_attack(init=None, step=None):
  good = _pgd()
  return good._replace(
    init=Partial(init) if init else good.init, step=Partial(step) if step else good.step
  )


def _info(state):
  zero = jnp.zeros(len(jax.tree.leaves(state)[0]))
  count = zero.astype(jnp.int32)
  return Info(zero, zero > 0, zero > 0, zero > 0, zero > 0, count, count)


@pytest.mark.parametrize(
  ("init", "step", "message"),
  [
    (lambda k, x, g: {"x": x, "count": jnp.int32(0)}, None, r"state\['count'\] has shape \(\)"),
    (
      lambda k, x, g: {"x": x},
      lambda k, s: ({"x": s["x"].astype(jnp.float16)}, _info(s)),
      r"state\['x'\] went from float32\[24, 2, 3, 1\] to float16",
    ),
    (
      lambda k, x, g: {"x": x, "n": jnp.broadcast_to(0.0, x.shape[:1])},
      lambda k, s: ({"x": s["x"], "n": s["n"] + jnp.ones(NUM)}, _info(s)),
      r"state\['n'\] went from float32\[24\] \(weak\) to float32\[24\]",
    ),
    (lambda k, x, g: {"x": x}, lambda k, s: ({"y": s["x"]}, _info(s)), "of the structure"),
    (
      lambda k, x, g: {"x": x},
      lambda k, s: (s, _info(s)._replace(loss=jnp.float32(0))),
      r"Info.loss must be \[24\]",
    ),
  ],
)
def test_an_attack_that_breaks_the_contract_is_named(init, step, message):
  with pytest.raises(ValueError, match=message):
    attacks.run(_bad_attack(init, step), keys(NUM), X, Y)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"x": np.asarray(X) * 255}, r"x must be finite and in \[0, 1\]"),
    ({"x": X.at[0, 0, 0, 0].set(jnp.nan)}, "x must be finite"),
    ({"x": np.zeros((4, 2, 3, 1), np.uint8)}, "float32"),
    ({"x": X[..., 0]}, r"must be an array \[B, H, W, D\]"),
    ({"x": np.asarray(X).tolist()}, "x must be an array .* got list"),
    ({"x": [[0.1], [0.1, 0.2]]}, "x must be an array .* got list"),
    ({"start": None, "x": object()}, "x must be an array .* got object"),
    ({"start": np.asarray(X).tolist()}, "start must be an array .* got list"),
    ({"y": Y[:3]}, r"y must be \[24\] integers"),
    ({"y": Y.astype("f4")}, r"y must be \[24\] integers"),
    ({"y": np.where(np.arange(NUM) == 0, 3, Y)}, "y must be < 3, the number of logits, got 3"),
    ({"y": np.where(np.arange(NUM) == 0, -1, Y)}, "y must be >= 0, got -1"),
    ({"target": Y}, "target must differ from the label"),
    ({"target": np.full(NUM, 7)}, "target must be < 3"),
    ({"start": X[:5]}, "start must have the shape of x"),
    ({"start": X * 9}, "start must be finite and in"),
    ({"keys": keys(3)}, r"keys must be \[24\] typed keys"),
    ({"keys": jax.random.PRNGKey(0)}, "typed keys"),
    ({"loop": "scan"}, "unknown loop"),
    ({"batch_size": 0}, "batch_size >= 1"),
    ({"num_workers": 0}, "num_workers must be >= 1"),
    ({"record_every": -1}, "record_every must be >= 0"),
    ({"max_queries": 0}, "max_queries must be >= 1"),
    ({"max_seconds": 0.0}, "max_seconds must be > 0"),
    ({"max_seconds": float("nan")}, "max_seconds must be > 0 or None .* got nan"),
  ],
)
def test_wrong_inputs_are_refused(change, message):
  arguments = {"keys": keys(NUM), "x": X, "y": Y, **change}
  first = [arguments.pop(name) for name in ("keys", "x", "y")]
  with pytest.raises(ValueError, match=message):
    attacks.run(_pgd(), *first, **arguments)


def test_targeted_dlr_needs_four_classes():
  with pytest.raises(ValueError, match="targeted dlr needs at least 4 classes, got 3"):
    attacks.run(_pgd(loss="dlr"), keys(NUM), X, Y, target=(Y + 1) % 3)


def test_goal_and_numpy_inputs():
  """NumPy arrays do as well as JAX ones, and the label's width does not matter."""
  adv = _run(x=np.asarray(X), y=np.asarray(Y, np.uint8))
  _equal(adv, _run())
  assert isinstance(adv.x, jax.Array) and Goal._fields == ("label", "target", "start", "clean")
