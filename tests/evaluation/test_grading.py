"""Grading: balls and boxes in NumPy, keys, draws, and the choice of the worst candidate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from toy_evaluation import LEVELS, SHAPE, toy_images, toy_subject

from gencls.evaluation import grading
from gencls.evaluation.grading import (
  attack_keys,
  check_draws,
  draw_keys,
  grade,
  grey,
  reclip,
  worst_case,
)

NORMS = ("linf", "l2", "l1", "l0", "l1.5", "l3")
GRADE = {"threat": "known_seed", "seed": 0, "select_draws": 1, "grade_draws": 1}


@pytest.mark.parametrize(
  ("norm", "eps"),
  [("linf", 0.2), ("l2", 0.2), ("l1", 1.5), ("l0", 3.0), ("l1.5", 0.6), ("l3", 0.2)],
)
def test_reclip_brings_back_and_leaves_alone(norm, eps):
  rng = np.random.default_rng(0)
  x = rng.random((6, *SHAPE)).astype(np.float32)
  wild = (x + rng.standard_normal(x.shape)).astype(np.float32)
  fixed, outside = reclip(wild, x, norm, eps)
  assert outside.all()
  assert (grading.perturbation_norm(fixed, x, norm) <= eps + grading.tolerance(norm, eps)).all()
  assert fixed.min() >= 0
  assert fixed.max() <= 1
  again, outside = reclip(fixed, x, norm, eps)
  assert not outside.any()
  np.testing.assert_array_equal(again, fixed)


def test_norms_are_their_definitions():
  x = np.zeros((1, 1, 2, 2), np.float32)
  x_adv = np.array([0.5, 0.0, 0.25, 1.0], np.float32).reshape(x.shape)
  sizes = {norm: grading.perturbation_norm(x_adv, x, norm)[0] for norm in NORMS}
  powers = {"l1.5": 0.5**1.5 + 0.25**1.5 + 1, "l3": 0.125 + 0.25**3 + 1}
  expected = {"linf": 1.0, "l2": pytest.approx(1.3125**0.5), "l1": 1.75, "l0": 3.0}
  expected |= {norm: pytest.approx(v ** (1 / float(norm[1:]))) for norm, v in powers.items()}
  assert sizes == expected
  for norm in ("l0.5", "lx"):
    with pytest.raises(ValueError, match=f"number p >= 1 .*, got '{norm}'"):
      grading.perturbation_norm(x_adv, x, norm)


def test_norms_of_large_p_do_not_underflow():
  x = np.zeros((3, 1, 2, 2), np.float32)
  x_adv = np.array([1e-6, 0.5, 0], np.float32)[:, None, None, None] + x
  found = grading.perturbation_norm(x_adv, x, "l400")
  np.testing.assert_allclose(found, 4 ** (1 / 400) * np.array([1e-6, 0.5, 0]), rtol=1e-6)


def test_l0_keeps_the_largest_changes_and_l1_the_direction():
  x = np.full((1, 1, 2, 2), 0.5, np.float32)
  delta = np.array([0.25, -0.4, 0.1, 0.25], np.float32).reshape(x.shape)
  kept = reclip(x + delta, x, "l0", 2.9)[0] - x
  np.testing.assert_allclose(kept.ravel(), [0.25, -0.4, 0, 0], atol=1e-7)  # of equals the first
  np.testing.assert_allclose(reclip(x + delta, x, "l1", 0.5)[0] - x, 0.5 * delta, atol=1e-6)
  # Exactly on the ball is inside.
  assert not reclip(x + delta, x, "l0", 4.0)[1].any()
  assert not reclip(x + delta, x, "l1", 1.0)[1].any()


@pytest.mark.parametrize("norm", ["l1", "l1.2", "l3"])
def test_rounding_never_leaves_the_ball(norm):
  """Each of 3072 rounded entries may be off by 3e-8: the sum must still not exceed eps."""
  rng = np.random.default_rng(0)
  x = rng.uniform(0.5, 1.0, (20, 32, 32, 3)).astype(np.float32)
  found, _ = reclip(rng.random(x.shape).astype(np.float32), x, norm, 0.1)
  assert (grading.perturbation_norm(found, x, norm) <= 0.1 + 1e-7).all()


def test_the_tolerance_grows_with_eps_where_rounded_entries_add_up():
  found = {norm: grading.tolerance(norm, 5.0) for norm in NORMS}
  assert found == pytest.approx({n: 5e-6 if n in ("l1", "l1.5") else 1e-6 for n in NORMS})
  assert all(grading.tolerance(norm, 0.1) == 1e-6 for norm in NORMS)


def test_no_ball_is_an_infinite_radius():
  rng = np.random.default_rng(0)
  x, wild = rng.random((2, 3, *SHAPE)).astype(np.float32)
  for norm in NORMS:
    found, outside = reclip(wild, x, norm, np.inf)
    assert not outside.any()
    np.testing.assert_array_equal(found, wild)
    np.testing.assert_array_equal(reclip(2 * wild, x, norm, np.inf)[0], np.minimum(2 * wild, 1))


def test_the_tolerance_never_shrinks_eps():
  x = np.zeros((1, *SHAPE), np.float32)
  at = np.full_like(x, 0.5)
  np.testing.assert_array_equal(reclip(at, x, "linf", 0.5)[0], at)
  beyond, outside = reclip(at + np.float32(1e-5), x, "linf", 0.5)
  assert outside.all()
  np.testing.assert_array_equal(beyond, at)


def test_non_finite_adversarials_are_an_error():
  x = np.zeros((2, *SHAPE), np.float32)
  with pytest.raises(ValueError, match="non-finite pixels for 1 of 2"):
    reclip(np.where(np.arange(2)[:, None, None, None] == 1, np.nan, x), x, "linf", 0.1)


def test_grey_is_reached_exactly_at_half():
  x = np.random.default_rng(0).random((5, *SHAPE)).astype(np.float32)
  np.testing.assert_array_equal(grey(x, "linf", 0.5), np.full_like(x, 0.5))
  near = grey(x, "l2", 0.3)
  np.testing.assert_allclose(grading.perturbation_norm(near, x, "l2"), 0.3, rtol=1e-5)


def test_known_seed_shares_the_key_and_fresh_seed_does_not():
  index = np.arange(3)

  def bits(keys):
    return np.asarray(jax.random.key_data(keys)).tolist()

  known_attack = bits(attack_keys("known_seed", 0, index))
  assert known_attack == bits(draw_keys("known_seed", 0, index, "grade", 0))
  streams = [bits(attack_keys("fresh_seed", 0, index))]
  for purpose in ("select", "grade"):
    streams += [bits(draw_keys("fresh_seed", 0, index, purpose, d)) for d in (0, 1)]
  assert len({str(stream) for stream in streams}) == 5


def test_grading_is_the_mean_over_draws():
  subject = toy_subject(noise=5.0)
  dataset = toy_images(12)
  x = np.asarray(dataset.images / (LEVELS - 1), np.float32)
  many = {**GRADE, "threat": "fresh_seed", "select_draws": 3, "grade_draws": 20}
  found = grade(subject.logits_fn, x, dataset.labels, dataset.indices, **many)
  keys = [draw_keys("fresh_seed", 0, dataset.indices, "grade", d) for d in range(20)]
  right = [np.argmax(subject.logits_fn(k, x), 1) == dataset.labels for k in keys]
  np.testing.assert_allclose(found.correct, np.mean(right, 0), rtol=1e-6)
  assert len(np.unique(found.correct)) > 2


@pytest.mark.parametrize("detector", [False, True])
def test_choosing_and_grading_have_draws_of_their_own(detector):
  """By hand, draw for draw: select draws choose, grade draws count, with a detector too."""
  subject, dataset = toy_subject(noise=5.0), toy_images(12)
  x = np.asarray(dataset.images / (LEVELS - 1), np.float32)
  given = (subject.logits_fn, x, dataset.labels, dataset.indices)
  accept = Partial(_top_logit, jnp.float32(-5.0)) if detector else None
  expected = {}
  for purpose, count in (("select", 7), ("grade", 20)):
    keys = [draw_keys("fresh_seed", 0, dataset.indices, purpose, d) for d in range(count)]
    logits = np.stack([subject.logits_fn(k, x) for k in keys])
    right = np.argmax(logits, 2) == dataset.labels
    accepted = np.max(logits, 2) >= -5.0
    expected[purpose] = right, accepted, np.mean(right | ~accepted, 0)
  many = {"threat": "fresh_seed", "seed": 0, "select_draws": 7, "accept": accept}
  right, accepted, held = expected["select"]
  found = grade(*given, **many, grade_draws=20)
  np.testing.assert_allclose(found.select_correct, np.mean(right, 0), rtol=1e-6)
  np.testing.assert_allclose(found.correct, np.mean(expected["grade"][0], 0), rtol=1e-6)
  share = held if detector else np.mean(right, 0)
  chosen_on = {"threat": "fresh_seed", "seed": 0, "purpose": "select", "draws": 7}
  chosen_on["accept"] = accept
  np.testing.assert_allclose(grading.share_right(*given, **chosen_on), share, rtol=1e-6)
  assert not np.allclose(found.select_correct, found.correct)
  if detector:
    np.testing.assert_allclose(found.verdict.select_held, held, rtol=1e-6)
    np.testing.assert_allclose(found.verdict.held, expected["grade"][2], rtol=1e-6)
    reached = grading.share_right(*given, **chosen_on, reached=True)
    np.testing.assert_allclose(reached, np.mean(right & accepted, 0), rtol=1e-6)
    assert 0.0 < np.mean(accepted) < 1.0


def _top_logit(threshold, keys, x, logits):
  del keys, x
  return jnp.max(logits, axis=1) - threshold


@pytest.mark.parametrize(
  ("threat", "draws", "match"),
  [
    ("known_seed", (1, 20), "fresh_seed"),
    ("fresh_seed", (5, 19), "grade_draws >= 20"),
    ("fresh_sed", (5, 20), "did you mean 'fresh_seed'"),
  ],
)
def test_draws_must_fit_the_threat_model(threat, draws, match):
  with pytest.raises(ValueError, match=match):
    check_draws(threat, *draws)


def test_worst_case_chooses_on_select_and_reports_grade():
  select = [np.array([1.0, 0.4, 0.5, 1.0]), np.array([0.2, 0.6, 0.5, 1.0])]
  margins = [np.array([-9.0, 1.0, 0.0, 2.0]), np.array([1.0, -9.0, 0.0, 1.0])]
  graded = [np.array([1.0, 0.9, 0.3, 1.0]), np.array([0.3, 0.0, 0.1, 0.9])]
  pick, correct = worst_case(select, margins, graded)
  assert pick.tolist() == [1, 0, 0, 1]
  np.testing.assert_allclose(correct, [0.3, 0.9, 0.3, 0.9])  # not the minimum of the graded ones


def test_an_attack_that_fails_now_and_then_is_not_hidden_by_ties():
  """p(correct) = 0.95: most images tie with the untouched one on five select draws."""
  rng = np.random.default_rng(0)
  z = 1.645 + rng.standard_normal((25, 4000))  # the margin of each draw; right with p = 0.95
  untouched = np.full((25, 4000), 9.0)
  select, graded = [[v[:5] > 0 for v in (untouched, z)], [v[5:] > 0 for v in (untouched, z)]]
  shares = [[np.mean(v, axis=0) for v in draws] for draws in (select, graded)]
  margins = [np.mean(v[:5], axis=0) for v in (untouched, z)]
  assert np.mean(worst_case(shares[0], margins, shares[1])[1]) == pytest.approx(0.95, abs=0.005)


def test_margins_of_non_finite_rows_are_the_worst():
  z = np.array([[3.0, 1.0], [np.nan, 0.0], [np.inf, 0.0], [0.0, 2.0]])
  found = grading.margin(z, np.zeros(4, np.int32))
  np.testing.assert_array_equal(found, [2.0, -np.inf, -np.inf, -2.0])


def test_worst_case_of_pure_noise_is_not_biased_down():
  """Candidates that are all alike: choosing on the graded draws would report too little."""
  rng = np.random.default_rng(0)
  select, graded = rng.binomial(20, 0.8, (2, 8, 4000)) / 20
  found = worst_case(list(select), list(rng.random((8, 4000))), list(graded))[1]
  assert np.mean(found) == pytest.approx(0.8, abs=0.005)
  assert np.mean(np.min(graded, axis=0)) < 0.7
