"""Gradients through the classes that a loss depends on, against those through all."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys
from jax.tree_util import Partial

from gencls import models
from gencls.attacks import objective as objectives
from gencls.attacks.losses import FEW, LOSSES, signed_dlr
from gencls.attacks.through_few import through_few
from gencls.few_classes import takes_classes
from gencls.straight_through import binarize
from gencls.types import Goal

BATCH, CLASSES, PIXELS = 6, 12, 6
GOAL = Goal(jnp.arange(BATCH), jnp.asarray([-1, -1, -1, 7, 8, 0]))
FIRST = jnp.zeros(BATCH, jnp.int32)


def class_logits(weights, noise, keys, x, classes=None):
  """A curved score for each class, each with noise of its own; `classes` alone where given."""
  if classes is None:
    classes = jnp.broadcast_to(jnp.arange(len(weights)), (len(x), len(weights)))
  drawn = jax.vmap(lambda key: jax.random.normal(key, (len(weights),)))(keys)
  drawn = jnp.take_along_axis(drawn, classes, axis=1)
  flat = x.reshape(len(x), -1)
  return jnp.sum(jnp.sin(3 * weights[classes] * flat[:, None]), axis=-1) + noise * drawn


def both(noise=1.0):
  """(a function that takes classes, the same without)."""
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(CLASSES, PIXELS)), jnp.float32)
  few = Partial(class_logits, weights, jnp.float32(noise))
  return few, Partial(lambda w, noise, keys, x: class_logits(w, noise, keys, x), *few.args)


@pytest.mark.parametrize("loss", sorted(FEW, key=lambda loss: loss.__name__))
def test_no_loss_has_a_gradient_in_more_logits_than_it_says(loss):
  rng = np.random.default_rng(0)
  num = 400
  target = np.where(rng.random(num) < 0.5, -1, rng.integers(CLASSES, size=num))
  label = (target + rng.integers(1, CLASSES, size=num)) % CLASSES
  goal = Goal(jnp.asarray(label), jnp.asarray(target))
  for logits in (rng.normal(size=(num, CLASSES)), rng.integers(3, size=(num, CLASSES))):
    slope = jax.grad(lambda z: jnp.sum(loss(z, goal)))(jnp.asarray(logits, jnp.float32))
    most = int(jnp.max(jnp.sum(slope != 0, axis=1)))
    assert most <= FEW[loss]
    if logits.dtype != int:
      assert most == FEW[loss]  # and not in fewer: nothing is computed for nothing


@pytest.mark.parametrize("loss", [*sorted(LOSSES), "signed_dlr"])
@pytest.mark.parametrize("randomness", ["fixed", "fresh"])
def test_a_query_is_the_same_with_and_without(loss, randomness):
  eot = 1 if randomness == "fixed" else 3
  found = []
  for logits_fn in both():
    objective = objectives.build(
      logits_fn, loss=loss.removeprefix("signed_"), randomness=randomness, eot_samples=eot
    )
    if loss == "signed_dlr":
      objective = objectives.signed(objective, "a test")
      assert objective.keywords["loss"].func is signed_dlr
    found.append(objectives.query(objective, keys(BATCH), FIRST, images(BATCH), GOAL))
  assert float(jnp.min(jnp.max(jnp.abs(found[1].gradient), axis=(1, 2, 3)))) > 0
  for one, other in zip(*found, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_class_that_another_is_pursued_instead_of_gets_the_gradient():
  pursued = jnp.full(BATCH, 9)
  queries = [
    objectives.query(objectives.build(f), keys(BATCH), FIRST, images(BATCH), GOAL, pursued)
    for f in both()
  ]
  np.testing.assert_allclose(*(q.gradient for q in queries), rtol=1e-5, atol=1e-6)


def test_only_losses_of_few_classes_ask_for_them():
  asked = []

  def logits_fn(keys, x, classes=None):
    asked.append(None if classes is None else classes.shape)
    return class_logits(*both()[0].args, keys, x, classes)

  def accept(keys, x, logits):
    return jnp.max(logits, axis=1)

  def query(**options):
    asked.clear()
    objective = objectives.build(logits_fn, **options)
    objectives.query(objective, keys(BATCH), FIRST, images(BATCH), GOAL)
    return {shape for shape in asked if shape is not None}

  assert query(loss="margin") == {(BATCH, 2)}
  assert query(loss="dlr") == {(BATCH, 5)}
  assert query(loss="margin", randomness="fresh", eot_samples=3) == {(3 * BATCH, 2)}
  assert query(loss="cross_entropy") == set()
  assert query(loss="margin", accept=accept) == set()  # a detector looks at every logit
  asked.clear()
  objectives.build(logits_fn)(keys(BATCH), FIRST, images(BATCH), GOAL)
  assert asked == [None]  # without a gradient nothing is computed again


def test_five_of_nine_classes_are_not_few():
  few = both()[0]
  nine = Partial(class_logits, few.args[0][:9], few.args[1])
  calls = str(
    jax.make_jaxpr(
      lambda x: objectives.query(objectives.build(nine, loss="dlr"), keys(BATCH), FIRST, x, GOAL)
    )(images(BATCH))
  )
  assert f"f32[{BATCH},5," not in calls and f"f32[{BATCH},9," in calls


def test_gradients_of_other_losses_would_be_wrong():
  """The test above can fail: two classes are not enough for a cross-entropy."""
  few, all_of_them = both()

  def gradient(logits_fn):
    loss = lambda z: LOSSES["cross_entropy"](z, GOAL)  # noqa: E731
    return jax.grad(lambda x: jnp.sum(loss(logits_fn(x, loss))))(images(BATCH))

  wrong = gradient(lambda x, loss: through_few(few, keys(BATCH), x, loss, 2))
  right = gradient(lambda x, loss: all_of_them(keys(BATCH), x))
  assert float(jnp.max(jnp.abs(wrong - right))) > 1e-3 * float(jnp.max(jnp.abs(right)))


def test_an_argument_of_another_meaning_is_named():
  def logits_fn(keys, x, classes=12):
    return class_logits(*both()[0].args, keys, x)

  objective = objectives.build(logits_fn)
  with pytest.raises(ValueError, match=r"must return the logits of these classes, \[6, 2\]"):
    objectives.query(objective, keys(BATCH), FIRST, images(BATCH), GOAL)


def test_a_callable_that_does_not_tell_its_arguments_takes_no_classes():
  assert takes_classes(both()[0]) and not takes_classes(both()[1])
  assert takes_classes(functools.partial(class_logits, 1, 2)) and not takes_classes(min)


def test_a_built_model_tells_it_also_with_its_parameters_bound():
  classifier = models.build("gfz", image_shape=(8, 8, 1), num_classes=3)
  assert takes_classes(Partial(classifier.logits, {}))


def test_a_threshold_in_front_leaves_the_classes():
  few, all_of_them = both()
  assert takes_classes(binarize(few)) and not takes_classes(binarize(all_of_them))
  queries = [
    objectives.query(objectives.build(binarize(f)), keys(BATCH), FIRST, images(BATCH), GOAL)
    for f in (few, all_of_them)
  ]
  assert jnp.abs(queries[0].gradient).max() > 0
  np.testing.assert_allclose(*(q.gradient for q in queries), rtol=1e-5, atol=1e-6)


def _operations(f, *args):
  return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


def test_a_margin_costs_all_classes_once_and_two_classes_twice():
  shape, num_classes, k = (8, 8, 1), 10, 2
  sizes = {"latent_size": 8, "hidden_size": 64, "channels": (16, 16), "num_samples": k}
  classifier = models.build(
    "gfz", image_shape=shape, num_classes=num_classes, max_rows=10**6, **sizes
  )
  x, y = jnp.zeros((BATCH, *shape)), jnp.arange(BATCH)
  params = classifier.init(jax.random.key(0), x, y)
  objective = objectives.build(Partial(classifier.logits, params))
  goal = Goal(y, jnp.full_like(y, -1))
  query = _operations(lambda x: objectives.query(objective, keys(BATCH), FIRST, x, goal), x)
  two = jnp.broadcast_to(jnp.arange(2), (BATCH, 2))
  forward = _operations(lambda x: classifier.logits(params, keys(BATCH), x), x)
  backward = _operations(
    jax.value_and_grad(lambda x: jnp.sum(classifier.logits(params, keys(BATCH), x, two))), x
  )
  dense = _operations(
    jax.value_and_grad(lambda x: jnp.sum(classifier.logits(params, keys(BATCH), x))), x
  )
  assert query <= 1.05 * (forward + backward)
  assert query <= 0.8 * dense and math.isclose(dense / forward, 2, rel_tol=0.15)
