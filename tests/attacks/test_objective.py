import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, images, keys, noisy_logits
from jax.tree_util import Partial

from gencls import attacks
from gencls.attacks import objective as objectives
from gencls.attacks.losses import misclassified
from gencls.types import Goal

GOAL = Goal(jnp.asarray([0, 1, 2, 0], jnp.int32), jnp.asarray([-1, -1, 0, 2], jnp.int32))
FIRST = jnp.zeros(4, jnp.int32)


def test_candidates_are_the_objective_of_each_image():
  objective = objectives.build(curved())
  x = jnp.stack([images(4, seed=s) for s in range(5)], axis=1)  # [B, M, H, W, D]
  loss, success = objectives.candidates(objective, keys(4), FIRST, x, GOAL)
  assert loss.shape == success.shape == (4, 5)
  for m in range(5):
    one = objective(keys(4), FIRST, x[:, m], GOAL)
    np.testing.assert_allclose(loss[:, m], one[0], rtol=1e-5)
    np.testing.assert_array_equal(success[:, m], one[1])


def test_candidates_share_their_examples_key():
  noisy = Partial(noisy_logits, jnp.float32(1.0), jnp.ones((6, 3)))
  x = jnp.repeat(images(4)[:, None], 3, axis=1)
  loss, _ = objectives.candidates(objectives.build(noisy), keys(4), FIRST, x, GOAL)
  np.testing.assert_allclose(loss, jnp.broadcast_to(loss[:, :1], loss.shape), rtol=1e-5)
  assert len(np.unique(np.asarray(loss[:, 0]))) == 4


def test_class_scores_are_the_logits_and_differentiable():
  objective = objectives.build(curved(), loss="dlr")
  scores, success = objectives.class_scores(objective, keys(4), FIRST, images(4), GOAL)
  logits = curved()(keys(4), images(4))
  np.testing.assert_array_equal(scores, logits)
  np.testing.assert_array_equal(success, misclassified(logits, GOAL))

  def first(x):
    return jnp.sum(objectives.class_scores(objective, keys(4), FIRST, x, GOAL)[0][:, 0])

  def direct(x):
    return jnp.sum(curved()(keys(4), x)[:, 0])

  np.testing.assert_allclose(jax.grad(first)(images(4)), jax.grad(direct)(images(4)), rtol=1e-6)


def test_class_scores_of_fresh_draws_are_their_mean():
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
  noisy = Partial(noisy_logits, jnp.float32(1.0), weights)
  objective = objectives.build(noisy, randomness="fresh", eot_samples=400)
  scores, _ = objectives.class_scores(objective, keys(4), FIRST, images(4), GOAL)
  expected = np.asarray(images(4)).reshape(4, 6) @ np.asarray(weights)
  # The noise of a logit has the standard deviation |x|, about 1.2; four standard errors.
  np.testing.assert_allclose(scores, expected, atol=4 * 1.3 / 20)


def test_class_scores_need_an_objective_with_logits():
  def other(keys, step, x, goal):
    return jnp.zeros(4), jnp.zeros(4, bool)

  with pytest.raises(ValueError, match="build its objective"):
    objectives.class_scores(Partial(other), keys(4), FIRST, images(4), GOAL)


def test_half_precision_logits_are_raised_to_float32():
  half = lambda keys, x: x.reshape(len(x), -1)[:, :3].astype(jnp.bfloat16)  # noqa: E731
  x = jnp.full((2, 2, 2, 1), 0.5)
  for name in ("apgd", "pgd"):
    result = attacks.run(attacks.build(name, half, eps=0.1), keys(2), x, np.array([0, 1]))
    assert result.info.loss.dtype == jnp.float32
    assert np.all(np.max(np.abs(result.x - x), axis=(1, 2, 3)) > 0.05)


def test_a_function_of_the_image_alone_is_told_how_to_become_one_of_both():
  with pytest.raises(ValueError, match="lambda keys, x: f"):
    attacks.build("pgd", lambda x: x, eps=0.1)
  with pytest.raises(ValueError, match="logits_fn must take"):
    attacks.build("pgd", lambda keys, x, train: x, eps=0.1)
  attacks.build("pgd", lambda keys, x, train=False: x, eps=0.1)
