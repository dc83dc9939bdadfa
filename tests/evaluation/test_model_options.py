"""Options of attack cells that need more of a model than its logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import (
  CLASSES,
  IDENTITY,
  offering_subject,
  protocol,
  record,
  toy_images,
  toy_subject,
)

from gencls import data, models
from gencls import evaluate as evaluation
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.model_options import Pool, attack_inputs, pool, start_images
from gencls.keys import example_keys
from gencls.models.binarized import binarize
from gencls.training.adversarial import adversarial

KEYS = example_keys(0, np.arange(6))
X = jnp.asarray(data.to_float(toy_images(6).images, 17))


def test_options_are_taken_out_and_change_what_the_attack_sees():
  logits_fn, rest = attack_inputs(offering_subject(), "pgd", {"num_steps": 3, "start": None})
  assert logits_fn is offering_subject().attack_logits_fn and rest == {"num_steps": 3}
  weights_fn, rest = attack_inputs(offering_subject(), "pgd", {"per_sample": True, "num_steps": 3})
  assert weights_fn(KEYS, X).shape == (6, CLASSES, 2) and rest == {"num_steps": 3}


def test_an_attack_that_decodes_gets_the_models_decoder():
  _, rest = attack_inputs(offering_subject(), "latent_descent", {"num_steps": 2})
  y = jnp.arange(6) % CLASSES
  image = rest.pop("decode_fn")(KEYS, jnp.zeros((6, 2)), y)
  np.testing.assert_array_equal(image, offering_subject().params["mean"][y])
  assert rest == {"num_steps": 2, "latent_size": 2, "num_classes": CLASSES}


def _with_pixel_threshold(threshold):
  classifier = toy_subject().classifier._replace(pixel_threshold=threshold)
  return toy_subject()._replace(attacked=(classifier, {}))


def test_flips_are_at_the_models_threshold():
  own = {"num_steps": 2, "at": 0.3}
  assert attack_inputs(_with_pixel_threshold(0.3), "pixel_flips", {"num_steps": 2})[1] == own
  assert attack_inputs(_with_pixel_threshold(0.3), "pixel_flips", own)[1] == own
  assert attack_inputs(_with_pixel_threshold(0.3), "pgd", {})[1] == {}
  # Of a model that is known by its logits alone it can only be told.
  assert attack_inputs(toy_subject(), "pixel_flips", {"at": 0.4})[1] == {"at": 0.4}


@pytest.mark.parametrize(
  ("threshold", "at", "message"),
  [
    (0.3, {"at": 0.4}, r"flip pixels at=0\.4, but the model thresholds its input at 0\.3: leave"),
    (None, {}, "this one sees grey levels: leave it out"),
  ],
)
def test_flips_at_another_threshold_or_at_none_are_refused(threshold, at, message):
  with pytest.raises(ValueError, match=message):
    attack_inputs(_with_pixel_threshold(threshold), "pixel_flips", at)
  grey = models.build("mlp", image_shape=(4, 4, 1), num_classes=3)
  classifier = binarize(grey, threshold) if threshold else grey
  with pytest.raises(ValueError, match=message):
    adversarial(classifier, attack="pixel_flips", eps=0.1, **at)


def test_the_start_is_the_template_of_the_strongest_wrong_class():
  assert start_images(offering_subject(), {}, KEYS, X, jnp.zeros(6, jnp.int32)) is None
  y = jnp.asarray(toy_images(6).labels)
  starts = start_images(offering_subject(), {"start": "wrong_reconstruction"}, KEYS, X, y)
  logits = np.array(offering_subject().logits_fn(KEYS, X))
  logits[np.arange(6), y] = -np.inf
  expected = np.clip(offering_subject().params["mean"], 0, 1)[np.argmax(logits, axis=1)]
  assert starts is not None
  np.testing.assert_allclose(starts, expected)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("pgd", {"per_sample": True}, "per_sample=True needs a model .* 'log_weights'"),
    ("pgd", {"start": "wrong_reconstruction"}, "needs a model .* 'reconstruct'"),
    ("latent_descent", {}, "latent_descent needs a model .* 'decoder'"),
    (
      "pgd",
      {"start": "wrong"},
      r"unknown start 'wrong'; .* Valid: nearest_wrong, wrong_rec",
    ),
    ("pgd", {"per_sample": 1}, "per_sample must be True or False, got 1"),
  ],
)
def test_what_a_model_does_not_offer_is_refused(name, options, message):
  plain = toy_subject()._replace(attacked=(toy_subject().classifier, {}))
  with pytest.raises(ValueError, match=message):
    attack_inputs(plain, name, options)


def test_a_subject_without_the_attacked_model_is_no_fault_of_the_model():
  with pytest.raises(ValueError, match=r"per_sample=True .* Subject was not given `attacked`"):
    attack_inputs(toy_subject(), "pgd", {"per_sample": True})


def test_an_evaluation_attacks_each_sample_from_the_wrong_template(tmp_path):
  options = {"start": "wrong_reconstruction", "per_sample": True}
  still = {"num_steps": 1, "step_size": 0.0}
  spec = AttackSpec("generative", "pgd", "linf", (0.1,), "margin", 1, {**still, **options})
  cells = evaluation.evaluate(
    offering_subject(),
    toy_images(8),
    protocol(keep_images=8, clean=("accuracy",)),
    [spec],
    folder=tmp_path,
    identity=IDENTITY,
    record=record(),
    progress=False,
  )
  cell = cells[-1]
  assert cell.header["settings"]["attack"]["hyperparameters"] == {**still, **options}
  images = toy_images(8)
  x, y = jnp.asarray(data.to_float(images.images, 17)), jnp.asarray(images.labels)
  starts = start_images(offering_subject(), options, example_keys(0, np.arange(8)), x, y)
  assert starts is not None
  expected = np.clip(starts, x - np.float32(0.1), x + np.float32(0.1))
  np.testing.assert_allclose(cell.arrays["x_adv"], expected, atol=1e-6)


def test_a_walk_starts_at_the_nearest_image_of_another_class_that_is_right(tmp_path):
  """An attack that does not move is left at its start."""
  still = {"num_steps": 1, "step_size": 0.0, "start": "nearest_wrong"}
  spec = AttackSpec("walk", "pgd", "linf", (1.0,), "margin", 1, still)
  images = toy_images(24)
  images = images._replace(labels=np.where(images.indices % 4 == 0, 0, images.labels))
  cells = evaluation.evaluate(
    toy_subject(),  # its logits are enough
    images,
    protocol(keep_images=24, clean=("accuracy",)),
    [spec],
    folder=tmp_path,
    identity=IDENTITY,
    record=record(),
    progress=False,
  )
  x, y = np.asarray(data.to_float(images.images, 17)), images.labels
  right = cells[1].arrays["correct"] == 1
  assert 12 < right.sum() < 24
  distance = np.sum((x[:, None] - x[None]) ** 2, axis=(2, 3, 4))
  distance[(y[:, None] == y[None]) | ~right[None]] = np.inf
  np.testing.assert_allclose(cells[-1].arrays["x_adv"], x[np.argmin(distance, 1)], atol=1e-6)


def test_where_the_pool_has_no_start_it_is_the_image_itself():
  images, nearest = toy_images(6), {"start": "nearest_wrong"}
  assert pool({"start": "wrong_reconstruction"}, images, images.labels == 0) is None
  one = pool(nearest, images, images.labels == 0)
  starts = start_images(toy_subject(), nearest, KEYS, X, jnp.asarray(images.labels), one)
  own = images.labels == 0
  np.testing.assert_array_equal(starts[own], X[own])
  assert np.all(np.any(starts[~own] != X[~own], axis=(1, 2, 3)))
  none = pool(nearest, images, images.labels < 0)
  assert none is not None and len(none.images) == 0
  starts = start_images(toy_subject(), nearest, KEYS, X, jnp.asarray(images.labels), none)
  np.testing.assert_array_equal(starts, X)


def _reads_the_first_pixel(keys, x):
  """Class 1 where the first pixel is dark, as the pool's labels say, and again where it is 1."""
  del keys
  first = x[:, 0, 0, 0]
  return jnp.stack([jnp.full_like(first, 0.5), jnp.where(first > 0.9, 1.0, 1.0 - first)], axis=1)


def test_the_next_nearest_start_is_tried_where_the_nearest_fails_under_the_keys_of_x():
  subject = toy_subject()._replace(attack_logits_fn=jax.tree_util.Partial(_reads_the_first_pixel))
  values = np.array([1.0, 0.95, 0.8, 0.7, 0.1], np.float32)
  right = Pool(_plain(values), jnp.asarray([0, 0, 0, 0, 1]))
  x, y, nearest = _plain([1.0, 0.77, 0.0]), jnp.asarray([1, 1, 0]), {"start": "nearest_wrong"}

  def starts(**options):
    found = start_images(subject, nearest, KEYS[:3], x, y, right, **options)
    assert found is not None
    return np.asarray(found)[:, 0, 0, 0]

  np.testing.assert_allclose(starts(), [0.8, 0.8, 0.1])
  np.testing.assert_allclose(starts(target=jnp.asarray([0, 0, 1])), [0.8, 0.8, 0.1])

  def accept(keys, x, logits):
    return 0.75 - x[:, 0, 0, 0]

  np.testing.assert_allclose(starts(accept=jax.tree_util.Partial(accept)), [0.7, 0.7, 0.1])
  # Where none of them succeeds, the nearest: noise may still find one.
  nowhere = jax.tree_util.Partial(lambda keys, x, logits: -jnp.ones(len(x)))
  np.testing.assert_allclose(starts(accept=nowhere), [1.0, 0.8, 0.1])


def _plain(values):
  images = np.reshape(np.asarray(values, np.float32), (-1, 1, 1, 1))
  return jnp.asarray(np.broadcast_to(images, (len(images), 4, 4, 1)))
