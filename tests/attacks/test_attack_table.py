"""What holds for every registered attack, on a plain JAX function; attack_table.py has the rows."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, images, keys
from attack_table import TABLE

from gencls import attacks, sanity
from gencls.attacks import programs
from gencls.attacks.run import NO_LIMIT
from gencls.types import Goal

NAMES = sorted(attacks.REGISTRY)
NUM, CLASSES = 8, 3
X = images(NUM)
KEYS, CURSED = keys(NUM), keys(NUM, seed=13)
CURVED = curved()
TRACES = []
ALL = slice(None)


def plain_model(keys, x):
  """Logits of a model from outside: no Partial, weights closed over, NaN for cursed keys."""
  TRACES.append(len(x))  # in the traced body: runs once per trace
  mine, bad = jax.random.key_data(keys), jax.random.key_data(CURSED)
  cursed = jnp.any(jnp.all(mine[:, None] == bad[None], axis=-1), axis=1)
  return jnp.where(cursed[:, None], jnp.nan, CURVED(keys, x))


Y = np.argmax(np.asarray(plain_model(KEYS, X)), axis=1)


def predicted(x_adv):
  return np.argmax(np.asarray(plain_model(KEYS, jnp.asarray(x_adv))), axis=1)


def row(name):
  if name not in TABLE:
    pytest.fail(f"the attack {name!r} has no row in tests/attacks/attack_table.py; add one")
  return TABLE[name]


has_eps = attacks.takes_eps


def build(name, **changes):
  return attacks.build(name, plain_model, **(row(name).options | changes))


def run(attack, rows=ALL, keys=KEYS, target=None):
  """Always in one padded batch of `NUM`, so that all tests share one program per attack."""
  target = None if target is None else target[rows]
  return attacks.run(
    attack, keys[rows], X[rows], Y[rows], target=target, batch_size=NUM, compact=False
  )


@functools.cache
def base(name):
  """The result that the tests of one attack compare with."""
  return run(build(name))


def norms(name, x_adv):
  """The norm of the perturbation that the attack is about, [B], in float64."""
  signature = inspect.signature(attacks.REGISTRY[name]).parameters
  default = signature["norm"].default if "norm" in signature else "l2"
  order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[row(name).options.get("norm", default)]
  delta = np.asarray(x_adv, np.float64) - np.asarray(X, np.float64)
  return np.linalg.norm(delta.reshape(NUM, -1), ord=order, axis=1)


def test_the_table_has_every_attack_and_no_other():
  missing, unknown = set(NAMES) - set(TABLE), set(TABLE) - set(NAMES)
  assert not missing, f"add a row to tests/attacks/attack_table.py for {sorted(missing)}"
  assert not unknown, f"tests/attacks/attack_table.py has rows of no attack: {sorted(unknown)}"


@pytest.mark.parametrize("name", NAMES)
def test_results_are_images_in_box_and_ball_and_say_the_truth(name):
  adv = base(name)
  x_adv, success = np.asarray(adv.x), np.asarray(adv.info.success)
  assert x_adv.dtype == np.float32 and x_adv.shape == X.shape
  assert x_adv.min() >= 0 and x_adv.max() <= 1
  assert np.all(np.asarray(adv.info.forward) >= 1)
  # The row is about something: the attack moves, and succeeds somewhere.
  assert np.any(x_adv != np.asarray(X)) and success.any()
  np.testing.assert_array_equal(success[success], (predicted(x_adv) != Y)[success])
  if has_eps(name):
    assert np.all(norms(name, x_adv) <= row(name).options["eps"] * (1 + 1e-6) + 1e-7)
  else:
    np.testing.assert_array_equal(x_adv[~success], np.asarray(X)[~success])


@pytest.mark.parametrize("name", NAMES)
def test_the_sanity_checks_know_what_kind_of_attack_it_is(name):
  """`gencls.sanity` holds white-box attacks against black-box ones, by their names."""
  backward = np.asarray(base(name).info.backward)
  assert sanity.gradient_free(name) == (backward.max() == 0), "GRADIENT_FREE lacks or has it"
  single = "num_steps" not in inspect.signature(attacks.REGISTRY[name]).parameters
  known = name in sanity.SINGLE_STEP or sanity.gradient_free(name)
  assert known or not single, "SINGLE_STEP lacks it"


@pytest.mark.parametrize("name", [name for name in NAMES if has_eps(name)])
def test_eps_zero_gives_the_image_bit_for_bit(name):
  np.testing.assert_array_equal(run(build(name, eps=0.0)).x, X)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_batch_permutes_the_result_bit_for_bit(name):
  order = np.random.default_rng(0).permutation(NUM)
  permuted = run(build(name), order)
  np.testing.assert_array_equal(permuted.x, np.asarray(base(name).x)[order])
  for after, before in zip(permuted.info, base(name).info, strict=True):
    np.testing.assert_array_equal(after, np.asarray(before)[order])


@pytest.mark.parametrize("name", NAMES)
def test_splitting_the_batch_changes_nothing(name):
  parts = [run(build(name), rows) for rows in (slice(0, 3), slice(3, None))]
  np.testing.assert_allclose(np.concatenate([part.x for part in parts]), base(name).x, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_reached_where_success_is_claimed(name):
  target = np.where(np.arange(NUM) % 2, -1, (Y + 1) % CLASSES)
  adv = run(build(name), target=target)
  found, success = predicted(adv.x), np.asarray(adv.info.success)
  reached = np.where(target < 0, found != Y, found == target)
  assert np.all(reached[success])
  # The untargeted half does not know of the other.
  np.testing.assert_array_equal(adv.x[1::2], base(name).x[1::2])


# Eager, every operation compiles by itself.
FAST = ("fgsm", "pgd")


@pytest.mark.parametrize(
  "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_jit_equals_eager(name):
  attack = build(name)
  goal = Goal(jnp.asarray(Y, jnp.int32), jnp.full(NUM, -1, jnp.int32))
  eager = attack.init(KEYS, X, goal)
  state, tally = programs.start(attack.init, KEYS, X, goal, programs.no_tally(NUM))
  done = np.zeros(NUM, bool)
  for _ in range(min(attack.num_steps, 3)):
    eager, info = attack.step(KEYS, eager)
    done |= np.asarray(info.done)
    state, tally = programs.one_step(attack.step, KEYS, state, tally, jnp.int32(NO_LIMIT))
  live = ~done  # `run` freezes the others
  jitted = np.asarray(programs.result(attack.result, state))
  np.testing.assert_allclose(attack.result(eager)[live], jitted[live], atol=1e-5)
  np.testing.assert_array_equal(tally.done, done)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_gives_an_empty_result(name):
  empty = run(build(name), slice(0, 0))
  assert empty.x.shape == (0, *X.shape[1:]) and all(field.shape == (0,) for field in empty.info)


@pytest.mark.parametrize("name", NAMES)
def test_nan_logits_are_counted_no_success_and_touch_no_other_example(name):
  cursed = np.arange(NUM) >= NUM - 3
  with_nan = jnp.where(cursed, CURSED, KEYS)
  adv = run(build(name), keys=with_nan)
  x_adv = np.asarray(adv.x)
  assert np.all(np.isfinite(x_adv)) and x_adv.min() >= 0 and x_adv.max() <= 1
  assert np.all(np.asarray(adv.info.nonfinite)[cursed] >= 1)
  assert not np.asarray(adv.info.success)[cursed].any()
  np.testing.assert_array_equal(x_adv[~cursed], np.asarray(base(name).x)[~cursed])
  assert not np.asarray(adv.info.nonfinite)[~cursed].any()
  if not has_eps(name):
    np.testing.assert_array_equal(x_adv[cursed], np.asarray(X)[cursed])


@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_do_not_compile_again(name):
  base(name)  # whatever must be traced has been
  before = len(TRACES)
  other = run(build(name, **row(name).other))
  assert TRACES[before:] == []
  assert not np.array_equal(other.x, base(name).x)
  # The counter can count.
  jax.eval_shape(
    lambda keys, x: build(name).step.keywords["objective"](
      keys, jnp.zeros(NUM, jnp.int32), x, Goal(jnp.asarray(Y, jnp.int32), jnp.full(NUM, -1))
    ),
    KEYS,
    X,
  )
  assert len(TRACES) > before
