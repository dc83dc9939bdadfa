"""What attacks use of a generative model: its importance samples, reconstructions and decoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys, predictions
from jax.tree_util import Partial
from linear_latent import CLASSES, LATENTS, PIXELS, exact_params, exact_problem
from linear_latent import linear_model as latent_model

from gencls import attacks, models
from gencls.attacks import objective as objectives
from gencls.attacks.losses import LOSSES, misclassified
from gencls.attacks.reconstruction_starts import wrong_reconstructions
from gencls.keys import fold
from gencls.models import latent, sampling
from gencls.types import Goal

NUM = 4
GOAL = Goal(jnp.asarray([0, 1, 2, 0], jnp.int32), jnp.asarray([-1, -1, 0, 2], jnp.int32))
FIRST = jnp.zeros(NUM, jnp.int32)
PROBLEM = exact_problem(with_label=True)
X = jnp.asarray(PROBLEM[-1], jnp.float32).reshape(NUM, PIXELS, 1, 1)


SHRUNK = 0.5  # of the gain of q's mean: its samples then pull x apart


@functools.cache
def gfy(num_samples):
  """A linear-Gaussian GFY whose q is not the posterior, so that its weights differ by sample."""
  params = exact_params("gfy", PROBLEM)
  kernel = params["heads"]["q"]["ConcatDense_0"]["kernel"]
  params["heads"]["q"]["ConcatDense_0"]["kernel"] = kernel.at[:PIXELS, :LATENTS].mul(SHRUNK)
  return latent.classifier(latent_model("gfy", num_samples)), params


def weights_fn(num_samples):
  classifier, params = gfy(num_samples)
  return Partial(classifier.log_weights, params)


query = jax.jit(objectives.query)


@functools.partial(jax.jit, static_argnames="num_samples")
def written_weights(x, num_samples):
  """log p(x, y_c, z_k) − log q(z_k | x, y_c), written from the densities, [B, C, K]."""
  w, v, b, m, s, _ = (jnp.asarray(a, jnp.float32) for a in PROBLEM)
  precision = 1 / s**2 + 2 * jnp.sum(w**2, axis=0)[None]
  scale = precision**-0.5
  x = x.reshape(NUM, 1, PIXELS)
  template = v.T + b[None]  # [C, P]
  mean = (m / s**2 - 2 * template @ w)[None] + 2 * SHRUNK * x @ w
  mean = (mean / precision[None])[:, :, None]  # [B, C, 1, L]
  shape = (CLASSES, num_samples, LATENTS)
  noise = jax.vmap(lambda key: jax.random.normal(key, shape))(fold(keys(NUM), "q"))
  z = mean + scale[None, :, None] * noise

  def log_normal(mean, scale):
    gap = (z - mean) / scale
    return jnp.sum(-0.5 * gap**2 - jnp.log(scale) - 0.5 * jnp.log(2 * jnp.pi), axis=-1)

  gap = (x - template[None])[:, :, None] - z @ w.T
  log_x = -jnp.sum(gap**2, axis=-1) - 0.5 * PIXELS * jnp.log(jnp.pi)
  log_y = jnp.log(jnp.asarray([0.2, 0.3, 0.5])).reshape(1, CLASSES, 1)
  log_z = log_normal(m[None, :, None], s[None, :, None])
  return log_x + log_y + log_z - log_normal(mean, scale[None, :, None])


def test_weights_are_those_of_the_densities_and_merge_to_the_logits():
  classifier, params = gfy(3)
  weights = jax.jit(classifier.log_weights)(params, keys(NUM), X)
  np.testing.assert_allclose(weights, written_weights(X, 3), rtol=1e-5, atol=1e-5)
  assert np.ptp(weights, axis=2).min() > 0.01  # the samples do differ
  merged = jax.nn.logsumexp(weights, axis=2) - np.log(3.0)
  np.testing.assert_allclose(jax.jit(classifier.logits)(params, keys(NUM), X), merged, rtol=1e-6)


def test_per_sample_gradient_is_that_of_the_written_formula():
  loss = "cross_entropy"
  at = query(objectives.build(weights_fn(3), loss=loss), keys(NUM), FIRST, X, GOAL)

  def per_sample(x):
    weights = written_weights(x, 3)
    return sum(LOSSES[loss](weights[:, :, k], GOAL) for k in range(3)) / 3

  def merged(x):
    return LOSSES[loss](jax.nn.logsumexp(written_weights(x, 3), axis=2), GOAL)

  def gradient(f):
    return jax.jit(jax.grad(lambda x: jnp.sum(f(x))))(X)

  np.testing.assert_allclose(at.loss, per_sample(X), rtol=1e-4)
  np.testing.assert_allclose(at.gradient, gradient(per_sample), rtol=1e-4, atol=1e-5)
  # The test can tell the two losses apart.
  assert np.max(np.abs(gradient(merged) - at.gradient)) > 0.01


def test_success_and_class_scores_are_those_of_the_merged_logits():
  objective = objectives.build(weights_fn(3))
  scores, success = jax.jit(objectives.class_scores)(objective, keys(NUM), FIRST, X, GOAL)
  merged = jax.nn.logsumexp(written_weights(X, 3), axis=2) - np.log(3.0)
  np.testing.assert_allclose(scores, merged, rtol=1e-5)
  np.testing.assert_array_equal(success, misclassified(merged, GOAL))


def test_with_one_sample_it_is_the_plain_objective():
  classifier, params = gfy(1)
  both = [Partial(classifier.logits, params), weights_fn(1)]
  plain, mine = (query(objectives.build(f), keys(NUM), FIRST, X, GOAL) for f in both)
  for a, b in zip(plain, mine, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  draws = {"randomness": "fresh", "eot_samples": 3}
  plain, mine = (jax.jit(objectives.build(f, **draws))(keys(NUM), FIRST, X, GOAL) for f in both)
  np.testing.assert_allclose(plain[0], mine[0], rtol=1e-5)
  np.testing.assert_array_equal(plain[1], mine[1])


def test_attacks_run_on_weights_and_see_the_number_of_classes():
  attack = attacks.build("fgsm", weights_fn(3), eps=0.2)
  adv = attacks.run(attack, keys(NUM), X, GOAL.label)
  assert np.all(np.abs(adv.x - X) <= 0.2 + 1e-6) and not np.array_equal(adv.x, X)
  with pytest.raises(ValueError, match="y must be < 3"):
    attacks.run(attack, keys(NUM), X, GOAL.label + 1)


def test_reconstructions_are_the_decoded_posterior_mean():
  model, params = latent_model("gfy", 1), exact_params("gfy", PROBLEM)
  w, v, b, m, s, x = PROBLEM
  y = np.asarray([2, 0, 1, 1])
  gap = x - v[:, y].T - b
  mean = np.stack(
    [
      np.linalg.solve(np.diag(s[c] ** -2) + 2 * w.T @ w, m[c] / s[c] ** 2 + 2 * w.T @ g)
      for c, g in zip(y, gap, strict=True)
    ]
  )
  expected = mean @ w.T + v[:, y].T + b
  found = sampling.reconstruct(model, params, keys(NUM), X, jnp.asarray(y))
  np.testing.assert_allclose(found.reshape(NUM, -1), expected, rtol=1e-4, atol=1e-5)


def test_the_cvae_reconstructs_through_its_encoder():
  cvae = models.build(
    "cvae", image_shape=(2, 3, 1), num_classes=3, latent_size=2, hidden_sizes=(5,)
  )
  x, y = images(NUM), jnp.asarray([0, 1, 2, 0])
  params = jax.jit(cvae.init)(jax.random.key(0), x, y)

  def dense(net, layer, inputs):
    parts = params[net][f"ConcatDense_{layer}"]
    return inputs @ np.asarray(parts["kernel"]) + np.asarray(parts["bias"])

  one_hot = np.eye(3)[np.asarray(y)]
  hidden = np.maximum(dense("encoder", 0, np.hstack([np.asarray(x).reshape(NUM, -1), one_hot])), 0)
  mean = dense("encoder", 1, hidden)[:, :2]
  output = dense("decoder", 1, np.maximum(dense("decoder", 0, np.hstack([mean, one_hot])), 0))
  expected = (1 / (1 + np.exp(-output))).reshape(x.shape)
  found = jax.jit(cvae.reconstruct)(params, keys(NUM), x, y)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_starts_are_the_reconstructions_of_the_strongest_wrong_class():
  logits = jnp.asarray([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 5.0, 4.0], [0.0, 1.0, 2.0]])

  def reconstruct(keys, x, y):
    levels = jnp.where(y == 1, 3.0, 0.25 * y)  # class 1 leaves the box
    return jnp.where(x == 1, jnp.nan, jnp.reshape(levels, (-1, 1, 1, 1)) * jnp.ones_like(x))

  x = images(NUM).at[3].set(1.0)
  y, target = jnp.asarray([0, 2, 1, 0]), jnp.asarray([-1, 1, -1, -1])
  starts = wrong_reconstructions(lambda keys, x: logits, reconstruct, keys(NUM), x, y)
  np.testing.assert_array_equal(starts[:, 0, 0, 0], [0.5, 0.0, 0.5, 1.0])  # 2, 0, 2, and x
  aimed = wrong_reconstructions(lambda keys, x: logits, reconstruct, keys(NUM), x, y, target)
  np.testing.assert_array_equal(aimed[:, 0, 0, 0], [0.5, 1.0, 0.5, 1.0])


# A linear decoder of three classes in 12 pixels, half way to the means of a classifier of its own.
SIZE = 12
RNG = np.random.default_rng(8)
BASIS = np.linalg.qr(RNG.normal(size=(SIZE, 3)))[0]
MEANS = 0.5 + 0.15 * RNG.normal(size=(3, SIZE))
OFFSETS = 0.5 + 0.5 * (MEANS - 0.5) + 0.05 * RNG.normal(size=(3, SIZE))


def linear_decode(basis, offsets, keys, z, y):
  del keys
  return (0.1 * z @ basis.T + offsets[y]).reshape(len(z), 3, 4, 1)


DECODE = Partial(linear_decode, jnp.asarray(BASIS, jnp.float32), jnp.asarray(OFFSETS, jnp.float32))
READOUT = np.asarray(2 * MEANS.T), np.asarray(-np.sum(MEANS**2, axis=1))


def nearest_mean(weights, bias, keys, x):
  del keys
  return x.reshape(len(x), -1) @ weights + bias[None]


CLASSIFIER = Partial(nearest_mean, *(jnp.asarray(a, jnp.float32) for a in READOUT))


def constrained_distance(x, label):
  """How far the nearest decodable wrong image is, and whether it is on the decision boundary."""
  found = [(np.inf, False)]
  weights, bias = READOUT
  for c in [c for c in range(3) if c != label]:
    p = OFFSETS[c] + BASIS @ (BASIS.T @ (x - OFFSETS[c]))
    if np.argmax(p @ weights + bias) != label:
      found.append((np.linalg.norm(p - x), False))
      continue
    for rival in [r for r in range(3) if r != label]:
      normal = weights[:, rival] - weights[:, label]
      along = BASIS @ (BASIS.T @ normal)  # seen from within the subspace
      gap = p @ normal + bias[rival] - bias[label]
      q = p - along * gap / (along @ normal)
      if np.argmax((q + 1e-6 * along) @ weights + bias) != label:
        found.append((np.linalg.norm(q - x), True))
  return min(found)


@functools.cache
def descent_problem():
  rng = np.random.default_rng(8)
  label = np.arange(8) % 3
  x = np.clip(MEANS[label] + 0.03 * rng.normal(size=(8, SIZE)), 0.05, 0.95)
  x = jnp.asarray(x, jnp.float32).reshape(8, 3, 4, 1)
  assert np.array_equal(predictions(CLASSIFIER, x), label)
  return x, label


SIZES = {"latent_size": 3, "num_classes": 3}
OPTIONS = {"num_steps": 200, "num_restarts": 2, "binary_search_steps": 0}


def descend(x, y, *, logits_fn=CLASSIFIER, decode_fn=DECODE, target=None, start=None, **options):
  options = {"decode_fn": decode_fn, **SIZES, **OPTIONS, **options}
  attack = attacks.build("latent_descent", logits_fn, **options)
  return attacks.run(attack, keys(len(x)), x, y, compact=False, target=target, start=start)


def distances(x_adv, x):
  return np.linalg.norm(np.asarray(x_adv - x, np.float64).reshape(len(x), -1), axis=1)


def test_latent_descent_finds_the_nearest_wrong_image_of_the_decoder():
  x, y = descent_problem()
  adv = descend(x, y)
  assert np.all(predictions(CLASSIFIER, adv.x) != y) and adv.info.success.all()
  flat = np.asarray(x, np.float64).reshape(len(x), -1)
  nearest, active = np.transpose(
    [constrained_distance(row, label) for row, label in zip(flat, y, strict=True)]
  )
  assert 0 < np.sum(active) < len(x)  # some of the nearest images are on the decision boundary
  assert np.all(distances(adv.x, x) >= nearest * (1 - 1e-4))
  assert np.all(distances(adv.x, x) <= nearest * 1.01)
  steps = 2 + 2 * 200 - 1  # no start is evaluated
  np.testing.assert_array_equal(adv.info.forward, steps)
  np.testing.assert_array_equal(adv.info.backward, steps)


def test_the_line_search_ends_on_the_decision_boundary():
  x, y = descent_problem()
  decoded, adv = descend(x, y), descend(x, y, binary_search_steps=20)
  assert np.all(predictions(CLASSIFIER, adv.x) != y)
  assert np.all(distances(adv.x, x) <= distances(decoded.x, x) + 1e-6)
  assert np.sum(distances(adv.x, x) < 0.92 * distances(decoded.x, x)) == 3  # the others were there
  goal = Goal(jnp.asarray(y, jnp.int32), jnp.full(len(y), -1))
  gap = LOSSES["margin"](CLASSIFIER(keys(len(x)), adv.x), goal)
  assert np.all(np.abs(gap) < 1e-4)


def test_the_infinity_norm_is_minimised_where_asked_for():
  x, y = descent_problem()

  def size(norm):
    adv = descend(x, y, norm=norm)
    assert adv.info.success.all()
    return np.abs(np.asarray(adv.x - x)).reshape(len(x), -1).max(axis=1)

  assert np.all(size("linf") <= size("l2") + 1e-3)
  assert np.mean(size("linf")) < 0.97 * np.mean(size("l2"))


def test_targets_starts_and_images_that_are_wrong_already():
  x, y = descent_problem()
  target = np.where(np.arange(len(y)) % 2, (y + 1) % 3, -1)
  adv = descend(x, y, target=target)
  found = predictions(CLASSIFIER, adv.x)
  np.testing.assert_array_equal(np.where(target < 0, found != y, found == target), True)
  assert np.all(np.asarray(adv.info.num_steps)[target >= 0] == 1 + 200)  # one restart

  start = descend(x, y, binary_search_steps=20).x
  started = descend(x, y, start=start, num_steps=1)  # one step finds nothing as near
  np.testing.assert_array_equal(started.x, start)

  wrong = descend(x, (y + 1) % 3)
  np.testing.assert_array_equal(wrong.x, x)
  np.testing.assert_array_equal(wrong.info.num_steps, 1)
  assert wrong.info.success.all()


def test_without_a_success_the_image_comes_back():
  x, y = descent_problem()
  never = Partial(nearest_mean, jnp.zeros((SIZE, 3)), jnp.asarray([9.0, 0.0, 0.0]))
  lost = descend(x, np.zeros(len(x), int), logits_fn=never, num_steps=3, binary_search_steps=5)
  np.testing.assert_array_equal(lost.x, x)
  assert not lost.info.success.any()
  np.testing.assert_array_equal(lost.info.num_steps, 1 + 2 * 3)  # no line to search
  # A decoder that gives NaN is counted and moves nothing.
  no_number = Partial(linear_decode, DECODE.args[0] * jnp.nan, DECODE.args[1])
  broken = descend(x, y, decode_fn=no_number, num_steps=3)
  np.testing.assert_array_equal(broken.x, x)
  np.testing.assert_array_equal(broken.info.nonfinite, 2 * 3)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_restarts": 3}, "at most num_classes - 1 = 2, got 3"),
    ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
    ({"num_draws": 0}, "num_draws must be >= 1"),
    ({"num_classes": 1}, "num_classes must be >= 2"),
    ({"binary_search_steps": -1}, "binary_search_steps must be >= 0"),
    ({"step_size": 0.0}, "step_size must be a finite number > 0"),
    ({"norm": "l3"}, "unknown norm"),
  ],
)
def test_wrong_settings_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build("latent_descent", CLASSIFIER, **{"decode_fn": DECODE, **SIZES, **options})
