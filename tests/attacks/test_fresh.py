"""Attacks of minimum norm and by enumeration under fresh draws: one lucky draw is no result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import attacks, example_keys
from gencls.evaluation.minimum_norm import FRESH_STRETCHES, nearest_failure, stretches

NUM, PIXELS, CLASSES = 100, 16, 3
WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(PIXELS, CLASSES)) * 2, jnp.float32)
X = jnp.asarray(0.25 + 0.5 * np.random.default_rng(1).random((NUM, 4, 4, 1)), jnp.float32)
KEYS = example_keys(0, np.arange(NUM))


def exact(x):
  return (x.reshape(len(x), -1) - 0.5) @ WEIGHTS


def noisy(keys, x):
  return exact(x) + jax.vmap(lambda key: jax.random.normal(key, (CLASSES,)))(keys)


Y = np.asarray(jnp.argmax(exact(X), axis=1))


@jax.jit
def _right(x):
  """[NUM], the share of 200 new draws that are right."""

  def draw(seed):
    keys = example_keys(seed, jnp.arange(NUM), "grade")
    return jnp.argmax(noisy(keys, x), axis=1) == Y

  return jnp.mean(jax.vmap(draw)(jnp.arange(200)), axis=0)


STANDING = np.asarray(_right(X)) > 0.5
MINIMUM = {
  "carlini_wagner": {"binary_search_steps": 2, "num_steps": 60, "initial_const": 10.0},
  "deepfool": {"num_steps": 20},
  "ddn": {"num_steps": 40},
  "fmn": {"num_steps": 40},
  "fab": {"num_steps": 20},
  "hop_skip_jump": {"num_steps": 2, "initial_num_evals": 40},
}


def test_there_is_something_to_break():
  assert 50 < STANDING.sum() < NUM


LONG = {"hop_skip_jump", "carlini_wagner"}  # seconds each


@pytest.mark.parametrize(
  "name",
  [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in MINIMUM],
)
def test_a_lucky_draw_of_the_clean_image_does_not_end_a_search(name):
  attack = attacks.build(name, noisy, randomness="fresh", **MINIMUM[name])
  x_adv = np.asarray(attacks.run(attack, KEYS, X, Y).x)
  moved = np.any(x_adv != X, axis=(1, 2, 3))
  assert moved.all()
  at = nearest_failure(x_adv, np.asarray(X), _right, FRESH_STRETCHES)
  broken = np.asarray(_right(at)) <= 0.5
  # Walks along a boundary that moves at every draw go astray.
  assert np.mean(broken) > {"fab": 0.8, "hop_skip_jump": 0.65}.get(name, 0.97)
  # What no draw is needed for stays at distance 0.
  still = np.all(at == X, axis=(1, 2, 3))
  np.testing.assert_array_equal(still, ~STANDING)


@pytest.mark.parametrize(("name", "eps"), [("uniform_noise", 0.2), ("gaussian_noise", 1.0)])
def test_noise_is_chosen_by_its_mean_loss_and_not_by_its_first_success(name, eps):
  settings = {"eps": eps, "num_repeats": 30, "randomness": "fresh", "eot_samples": 5}
  result = attacks.run(attacks.build(name, noisy, **settings), KEYS, X, Y)
  moved = np.any(result.x != X, axis=(1, 2, 3))
  assert moved[STANDING].all()
  assert (np.asarray(result.info.forward) == 31).all()  # nobody stops
  chosen = np.mean(np.asarray(_right(result.x))[STANDING])
  first = attacks.run(attacks.build(name, noisy, **{**settings, "num_repeats": 1}), KEYS, X, Y)
  assert chosen < np.mean(np.asarray(_right(first.x))[STANDING]) - 0.05


def test_only_a_fresh_seed_has_long_stretches():
  assert stretches("known_seed")[0] == 1.0 and max(stretches("known_seed")) == 1.5
  assert stretches("fresh_seed")[0] == 0.0 and list(stretches("fresh_seed")) == sorted(
    stretches("fresh_seed")
  )


@pytest.mark.slow
def test_carlini_wagner_pushes_until_the_merged_logits_fail():
  # The mean of the samples' margins may be positive where the merged logits are right.
  rng = np.random.default_rng(0)
  weights = jnp.asarray(rng.normal(size=(16, 3, 8)) * 60, jnp.float32)
  x = jnp.asarray(rng.random((40, 4, 4, 1)), jnp.float32)

  def samples(keys, x):
    del keys
    return jnp.einsum("bd,dck->bck", x.reshape(len(x), -1) - 0.5, weights)

  def merged(keys, x):
    return jax.nn.logsumexp(samples(keys, x), axis=2) - np.log(8)

  keys = example_keys(0, np.arange(40))
  y = np.asarray(jnp.argmax(merged(keys, x), axis=1))
  found = {}
  for logits_fn in (merged, samples):
    numbers = {"binary_search_steps": 4, "num_steps": 60}
    x_adv = attacks.run(attacks.build("carlini_wagner", logits_fn, **numbers), keys, x, y).x
    wrong = np.asarray(jnp.argmax(merged(keys, x_adv), axis=1)) != y
    size = np.linalg.norm(np.reshape(x_adv - x, (40, -1)), axis=1)
    found[logits_fn] = np.where(wrong, size, np.inf)
  assert np.isfinite(found[merged]).all()
  assert np.isfinite(found[samples]).sum() >= 36
  assert np.median(found[samples]) < 1.2 * np.median(found[merged])
