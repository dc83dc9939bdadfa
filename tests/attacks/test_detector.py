"""Attacks that a detector has to accept, against the closed form of two hyperplanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys
from jax.tree_util import Partial
from scipy.optimize import linprog

from gencls import attacks
from gencls.attacks import boundary_planes
from gencls.attacks import objective as objectives
from gencls.attacks.losses import LOSSES
from gencls.evaluate import check_specs
from gencls.evaluation.attack_specs import AttackSpec
from gencls.types import Goal

NUM, SHAPE, SIZE = 16, (5, 5, 1), 25
KEYS = keys(NUM)
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=SIZE)  # class 1 beyond the plane through the grey image
VERDICT = RNG.normal(size=SIZE) - 0.3 * WEIGHT  # accepted beyond its own, which is against it
THRESHOLD = 0.1


def _logits(weight, keys, x):
  del keys
  value = (x.reshape(len(x), -1) - 0.5) @ weight
  return jnp.stack([-0.5 * value, 0.5 * value], axis=1)


def _accept(verdict, threshold, keys, x, logits):
  del keys, logits
  return (x.reshape(len(x), -1) - 0.5) @ verdict - threshold


MODEL = Partial(_logits, jnp.asarray(WEIGHT, jnp.float32))
ACCEPT = Partial(_accept, jnp.asarray(VERDICT, jnp.float32), jnp.float32(THRESHOLD))
POOL = np.asarray(images(400, shape=SHAPE, low=0.4, high=0.6))
# Right, at some distance of the boundary; accepted or not.
X = jnp.asarray(POOL[(POOL.reshape(400, -1) - 0.5) @ WEIGHT < -0.2][:NUM])
Y = np.zeros(NUM, int)


def _gaps(x):
  """What is left to each of the two planes, [B, 2]; both <= 0 is a success."""
  flat = np.asarray(x, np.float64).reshape(len(x), -1) - 0.5
  return np.stack([-flat @ WEIGHT, THRESHOLD - flat @ VERDICT], axis=1)


def _least_l2():
  """The distance to the intersection of two half-spaces."""
  planes, distances = np.stack([WEIGHT, VERDICT]), []
  for gaps in _gaps(X):
    moves = [planes[k] * gaps[k] / np.sum(planes[k] ** 2) for k in (0, 1)]
    moves.append(np.linalg.pinv(planes) @ gaps)
    enough = [np.linalg.norm(m) for m in moves if np.all(planes @ m >= gaps - 1e-9)]
    distances.append(min(enough))
  return np.array(distances)


def _least_linf():
  planes = np.stack([WEIGHT, VERDICT])
  bounds = [(-1, 1)] * SIZE + [(0, None)]
  sides = np.concatenate([np.eye(SIZE), -np.eye(SIZE)])
  above = np.concatenate([sides, -np.ones((2 * SIZE, 1))], axis=1)
  below = np.concatenate([-planes, np.zeros((2, 1))], axis=1)
  cost = np.r_[np.zeros(SIZE), 1.0]
  return np.array(
    [
      linprog(cost, np.r_[above, below], np.r_[np.zeros(2 * SIZE), -gaps], bounds=bounds).fun
      for gaps in _gaps(X)
    ]
  )


def _run(name, accept=ACCEPT, **options):
  attack = attacks.build(name, MODEL, accept=accept, **options)
  return attacks.run(attack, KEYS, X, Y, compact=False)


def test_carlini_wagner_finds_the_nearest_accepted_error():
  options = {"binary_search_steps": 5, "num_steps": 80, "initial_const": 1.0}
  adv = _run("carlini_wagner", **options)
  plain = _run("carlini_wagner", accept=None, **options)
  assert np.all(_gaps(adv.x) <= 1e-6) and np.all(adv.info.success)
  assert np.mean(_gaps(plain.x)[:, 1] > 0) > 0.5  # without it most are rejected
  delta = np.asarray(adv.x - X, np.float64).reshape(NUM, -1)
  ratio = np.linalg.norm(delta, axis=1) / _least_l2()
  assert np.all(ratio > 1 - 1e-4) and np.all(ratio < 1.03), ratio


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_pgd_succeeds_where_the_linear_programme_does(loss):
  least = _least_linf()
  eps = 1.5 * np.max(least)
  options = {"loss": loss, "num_steps": 60, "random_start": False}
  adv = _run("pgd", eps=eps, **options)
  assert np.all(_gaps(adv.x) <= 1e-6) and np.all(adv.info.success)
  plain = _run("pgd", accept=None, eps=eps, **options)
  assert np.mean(_gaps(plain.x)[:, 1] > 0) > 0.5
  small = _run("pgd", eps=0.98 * np.min(least), **options)
  assert not np.any(small.info.success)


# margins and scores by example: both hold, the score fails, the margin fails, both fail
MARGINS = np.array([3.0, 3.0, -2.0, -2.0, 0.5])
SCORES = np.array([1.0, -1.0, 1.0, -1.0, 1.0])


def _evaluate(loss, weight, **options):
  def logits(keys, x):
    return jnp.stack([0 * x[:, 0, 0, 0], x[:, 0, 0, 0]], axis=1)

  def accept(keys, x, logits):
    return x[:, 0, 1, 0]

  x = jnp.asarray(np.stack([MARGINS, SCORES], axis=1).reshape(5, 1, 2, 1), jnp.float32)
  detector = {"accept": accept, "accept_weight": weight}
  objective = objectives.build(logits, loss=loss, **detector, **options)
  goal = Goal(jnp.zeros(5, jnp.int32), jnp.full(5, -1, jnp.int32))
  zero = jnp.zeros(5, jnp.int32)
  at = jax.jit(objectives.query)(objective, keys(5), zero, x, goal)
  scores, success = jax.jit(objectives.class_scores)(objective, keys(5), zero, x, goal)
  np.testing.assert_array_equal(success, at.success)
  np.testing.assert_array_equal(scores[:, 1], x[:, 0, 0, 0])
  return at


@pytest.mark.parametrize("options", [{}, {"randomness": "fresh", "eot_samples": 3}])
def test_the_loss_is_positive_where_both_hold_and_pursues_what_fails(options):
  at = _evaluate("margin", 2.0, **options)
  np.testing.assert_array_equal(at.success, [True, False, False, False, True])
  np.testing.assert_allclose(at.loss, [2.0, -2.0, -2.0, -4.0, 0.5], rtol=1e-6)
  np.testing.assert_array_equal(np.asarray(at.loss) > 0, at.success)
  gradient = np.asarray(at.gradient).reshape(5, 2)
  np.testing.assert_allclose(gradient, [[0, 2], [0, 2], [1, 0], [1, 2], [1, 0]], atol=1e-6)


def test_losses_without_a_sign_get_the_hinge_alone():
  at = _evaluate("cross_entropy", 2.0)
  loss = np.log1p(np.exp(MARGINS)) + 2.0 * np.minimum(SCORES, 0)
  np.testing.assert_allclose(at.loss, loss, rtol=1e-5)


def test_a_majority_of_draws_has_to_be_wrong_and_accepted():
  """Every second draw is rejected or right; hardly any is both wrong and accepted."""

  def coin(keys):
    return jnp.where(jax.vmap(jax.random.bernoulli)(keys), 1.0, -1.0)

  def logits(keys, x):
    return jnp.stack([-coin(keys), coin(keys)], axis=1)

  def against(keys, x, logits):
    return logits[:, 0]

  def along(keys, x, logits):
    return logits[:, 1]

  goal = Goal(jnp.zeros(NUM, jnp.int32), jnp.full(NUM, -1, jnp.int32))
  shares = []
  for accept in (None, along, against):
    objective = objectives.build(logits, randomness="fresh", eot_samples=11, accept=accept)
    shares.append(np.mean(jax.jit(objective)(KEYS, jnp.zeros(NUM, jnp.int32), X, goal)[1]))
  assert 0.1 < shares[0] == shares[1] < 0.9 and shares[2] == 0


@pytest.mark.parametrize("name", boundary_planes.ATTACKS)
def test_attacks_that_go_by_class_boundaries_refuse_a_detector(name):
  accept = Partial(lambda keys, x, logits: logits[:, 0])
  with pytest.raises(ValueError, match=f"{name} pursues the boundaries between classes alone"):
    attacks.build(name, MODEL, accept=accept)
  spec = AttackSpec(name, name, "linf", (0.1,), "margin", 1, {}, against="detector")
  with pytest.raises(ValueError, match=f"{name} pursues the boundaries between classes alone"):
    check_specs([spec])  # before any work
  options = {"eps": 0.1, "num_classes": 4, "num_steps": 5, "num_queries": 5}
  members = {
    seeing: attacks.build("auto_attack", MODEL, accept=seeing, **options).names
    for seeing in (None, accept)
  }
  assert set(members[None]) - set(members[accept]) == {"fab_t"} and "apgd_t" in members[accept]


def test_a_score_that_is_not_finite_is_no_success_and_is_counted():
  def accept(keys, x, logits):
    return jnp.where(jnp.arange(NUM) % 2 == 0, jnp.nan, 1.0) * jnp.mean(x, axis=(1, 2, 3))

  attack = attacks.build("pgd", MODEL, accept=accept, eps=0.5, num_steps=3)
  adv = attacks.run(attack, KEYS, X, Y, compact=False)
  np.testing.assert_array_equal(adv.info.success, np.arange(NUM) % 2)
  np.testing.assert_array_equal(np.asarray(adv.info.nonfinite) > 0, np.arange(NUM) % 2 == 0)


def test_the_parameters_of_a_detector_do_not_compile_again():
  traces = []

  def accept(threshold, keys, x, logits):
    traces.append(1)
    return logits[:, 1] - threshold

  def run(threshold, weight):
    given = {"accept": Partial(accept, jnp.float32(threshold)), "accept_weight": weight}
    attack = attacks.build("pgd", MODEL, eps=0.3, num_steps=2, **given)
    attacks.run(attack, KEYS, X, Y, compact=False)
    return len(traces)

  assert run(0.0, 1.0) == run(0.5, 3.0) > 0


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="accept_weight must be a finite number > 0, got 0"):
    attacks.build("pgd", MODEL, eps=0.1, accept=ACCEPT, accept_weight=0.0)
  attack = attacks.build("pgd", MODEL, eps=0.1, accept=lambda keys, x, logits: logits)
  with pytest.raises(ValueError, match=r"one score per example, \[16\], got shape \(16, 2\)"):
    attacks.run(attack, KEYS, X, Y)
  published = {"cross_entropy_of_probabilities", "margin_of_probabilities"}
  assert set(LOSSES) - published == {"cross_entropy", "dlr", "margin"}  # the cases above
