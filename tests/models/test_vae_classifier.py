"""Classifiers on a variational code: what the labels reach, and when."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gencls import densities, models
from gencls.keys import example_keys, fold
from gencls.models.likelihoods import SCALE_FLOOR
from gencls.nets.images import ConvDecoder
from gencls.training import settings as train_settings
from gencls.training.step import initial_state, train_step

SHAPE, CLASSES, BATCH = (8, 8, 1), 3, 12


def built(name, **hyperparameters):
  small = {"latent_size": 3, "channels": (4, 4), **hyperparameters}
  return models.build(name, image_shape=SHAPE, num_classes=CLASSES, **small)


def images():
  x = jax.random.uniform(jax.random.key(0), (BATCH, *SHAPE))
  return x, jnp.arange(BATCH) % CLASSES


def test_kl_against_a_sum_of_log_densities():
  rng = np.random.default_rng(0)
  mean, scale = rng.normal(size=4), rng.uniform(0.1, 2, size=4)
  z = np.random.default_rng(1).normal(mean, scale, size=(400_000, 4))
  log_q, log_p = (stats.norm.logpdf(z, *p).sum(axis=1) for p in ((mean, scale), (0, 1)))
  found = densities.kl_to_standard_normal(jnp.float32(mean), jnp.log(jnp.float32(scale)))
  error = (log_q - log_p).std() / np.sqrt(len(z))
  assert abs(found - (log_q - log_p).mean()) < 4 * error


def test_pretraining_maximises_the_elbo_by_scipy():
  """log p(x | z) − KL(q(z | x) ‖ N(0, I)) at the z that is drawn, and nothing of the labels."""
  squared = {"likelihood": "squared_error"}
  classifier = built("pretrained_vae_classifier", decoder_size=16, pretrain_steps=3, **squared)
  x, y = images()
  params = classifier.init(jax.random.key(1), x, y)
  noise = np.random.default_rng(0)
  params = jax.tree.map(lambda a: a + jnp.float32(0.1 * noise.normal(size=a.shape)), params)
  keys = example_keys(0, y, "train")
  features = x
  for i in range(2):  # 4×4 convolutions of stride 2
    layer = params["encoder"][f"Conv_{i}"]
    features = jax.lax.conv_general_dilated(
      features, layer["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    features = np.maximum(np.asarray(features) + np.asarray(layer["bias"]), 0)
  dense = params["encoder"]["ConcatDense_0"]
  h = np.float64(features).reshape(BATCH, -1) @ np.float64(dense["kernel"]) + np.float64(
    dense["bias"]
  )
  mean, raw = np.split(h, 2, axis=1)
  scale = np.exp(raw) + SCALE_FLOOR
  z = mean + scale * np.float64([jax.random.normal(key, (3,)) for key in fold(keys, "q")])
  decoder = ConvDecoder(SHAPE, (4, 4), 16)
  output = np.float64(decoder.apply({"params": params["decoder"]}, [jnp.float32(z)]))
  image = 1 / (1 + np.exp(-output.reshape(BATCH, -1)))
  log_p_x = stats.norm.logpdf(x.reshape(BATCH, -1), image, np.sqrt(0.5)).sum(axis=1)
  kl = 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale)).sum(axis=1)
  loss = classifier.loss(params, keys, x, y, jnp.int32(2))
  np.testing.assert_allclose(loss.total, -(log_p_x - kl), rtol=1e-4)
  np.testing.assert_allclose(loss.terms["kl"], kl, rtol=1e-4)
  assert kl.max() > 0.1 and not np.allclose(z, mean, atol=0.1)  # there is something to miss
  after = classifier.loss(params, keys, x, y, jnp.int32(3))
  np.testing.assert_allclose(after.total, -after.terms["log_p_y"], rtol=1e-6)


@pytest.mark.slow
def test_the_code_is_noisy_in_training_alone():
  classifier = built("vae_classifier", kl_weight=0.5)
  x, y = images()
  params = classifier.init(jax.random.key(1), x, y)
  terms = [
    classifier.loss(params, example_keys(seed, y, "train"), x, y, jnp.int32(0)) for seed in (0, 1)
  ]
  assert not np.allclose(terms[0].terms["log_p_y"], terms[1].terms["log_p_y"])
  np.testing.assert_allclose(
    terms[0].total, 0.5 * terms[0].terms["kl"] - terms[0].terms["log_p_y"], rtol=1e-6
  )
  one, other = (classifier.logits(params, example_keys(seed, y), x) for seed in (0, 1))
  np.testing.assert_array_equal(one, other)


def trained(classifier, steps, optimizer, x, y):
  state = initial_state(classifier, optimizer, jax.random.key(1), x, y, ema=False)
  step = jax.jit(
    lambda state: train_step(
      state, x, y, jnp.arange(BATCH), classifier=classifier, optimizer=optimizer, seed=0,
      steps_per_epoch=1, ema_decay=None, micro_batch_size=4,
    )[0]
  )  # fmt: skip
  states = [state]
  for _ in range(steps):
    states.append(step(states[-1]))
  return [state.params for state in states]


def same(one, other):
  return all(
    np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  )


@pytest.mark.slow
def test_labels_never_reach_the_pretrained_encoder():
  x, y = images()
  classifier = built("pretrained_vae_classifier", pretrain_steps=3, decoder_size=16)
  history = trained(classifier, 6, optax.adam(1e-2), x, y)
  other = trained(classifier, 6, optax.adam(1e-2), x, (y + 1) % CLASSES)
  assert same(history[-1]["frozen"], other[-1]["frozen"])
  assert not same(history[-1]["head"], other[-1]["head"])
  assert not same(history[1]["frozen"], history[3]["frozen"])  # it is trained at first
  assert same(history[0]["head"], history[3]["head"])  # and the head is not
  assert same(history[3]["encoder"], history[4]["frozen"])
  assert same(history[4]["frozen"], history[6]["frozen"])  # frozen, though Adam has momentum
  assert not same(history[4]["encoder"], history[6]["encoder"])
  assert not same(history[3]["head"], history[6]["head"])
  keys = example_keys(0, y)
  moved = history[6] | {"encoder": jax.tree.map(jnp.zeros_like, history[6]["encoder"])}
  np.testing.assert_array_equal(
    classifier.logits(moved, keys, x), classifier.logits(history[6], keys, x)
  )


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("vae_classifier", {"kl_weight": -0.1}, "kl_weight must be >= 0"),
    ("vae_classifier", {"channels": (0,)}, "channels must be >= 1"),
    ("pretrained_vae_classifier", {"pretrain_steps": 0}, "pretrain_steps must be >= 1"),
    ("pretrained_vae_classifier", {"likelihood": "laplace"}, "unknown likelihood"),
  ],
)
def test_bad_hyperparameters(name, changes, message):
  with pytest.raises(ValueError, match=message):
    built(name, **changes)


def test_a_training_that_never_reaches_the_head_is_refused():
  train_settings.check_pretraining({"pretrain_steps": 9}, 10)
  train_settings.check_pretraining({"name": "cnn"}, 1)
  with pytest.raises(ValueError, match=r"below the 10 steps .* got 10; raise train.num_epochs"):
    train_settings.check_pretraining({"pretrain_steps": 10}, 10)


def test_a_training_that_may_stop_before_the_head_is_trained_is_refused():
  train_settings.check_pretraining({"name": "cnn"}, 10, 3)
  with pytest.raises(ValueError, match=r"early_stop_patience must be None .* is 9, got 3: the acc"):
    train_settings.check_pretraining({"pretrain_steps": 9}, 10, 3)
