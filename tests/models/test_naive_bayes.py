"""Naive Bayes against scikit-learn and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.naive_bayes
from fit_problems import as_data, images, same_structure

from gencls import models, runs
from gencls.keys import example_keys
from gencls.models import class_moments as moments
from gencls.models import fitting

SHAPE, CLASSES = (4, 4, 1), 3
PRIOR = (0.5, 0.3, 0.2)


def fitted(name, data, **hyperparameters):
  classifier = models.build(
    name, image_shape=SHAPE, num_classes=CLASSES, class_prior=PRIOR, **hyperparameters
  )
  return classifier, classifier.fit(jax.random.key(0), data)


def peer(model, data):
  return model.fit(np.asarray(data.x, np.float64).reshape(len(data.x), -1), np.asarray(data.y))


def test_gaussian_has_the_densities_of_scikit_learn():
  data = images(SHAPE, CLASSES, 300)
  flat = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
  reference = peer(sklearn.naive_bayes.GaussianNB(priors=PRIOR, var_smoothing=0.03), data)
  floor = float(0.03 * flat.var(axis=0).max())
  classifier, fit = fitted("gaussian_naive_bayes", data, variance_floor=floor)
  expected = reference.predict_joint_log_proba(flat)
  np.testing.assert_allclose(classifier.logits(fit.params, None, data.x), expected, rtol=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_bernoulli_has_the_densities_of_scikit_learn(alpha):
  data = images(SHAPE, CLASSES, 300)
  reference = sklearn.naive_bayes.BernoulliNB(alpha=alpha, binarize=0.5 - 1e-9, fit_prior=False)
  flat = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
  expected = peer(reference, data).predict_joint_log_proba(flat) + np.log(CLASSES) + np.log(PRIOR)
  classifier, fit = fitted("bernoulli_naive_bayes", data, pseudo_count=alpha)
  np.testing.assert_allclose(classifier.logits(fit.params, None, data.x), expected, rtol=1e-4)


def test_moments_keep_small_variances_over_many_blocks():
  """In float32, sums of squares of these would lose the variance altogether."""
  rng = np.random.default_rng(0)
  y = rng.integers(0, 2, 2 * fitting.BLOCK + 100)
  x = (0.9 - 0.2 * y[:, None] + 1e-4 * rng.normal(size=(len(y), 16))).astype(np.float32)
  got = moments.class_moments(x.reshape(-1, *SHAPE), y, 2, lambda x: x)
  for c in (0, 1):
    part = x[y == c].astype(np.float64)
    assert got.num_examples[c, 0] == len(part)
    np.testing.assert_allclose(got.mean[c], part.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(got.variance()[c], part.var(axis=0), rtol=1e-3)


def test_a_fit_reads_every_training_image_once_however_many_floors_it_tries(monkeypatch):
  data, read = images(SHAPE, CLASSES, fitting.BLOCK + 7), []
  whole = moments.of_block

  def counted(x, weights):
    jax.debug.callback(lambda weights: read.append(int(weights.sum())), weights)
    return whole(x, weights)

  monkeypatch.setattr(moments, "of_block", counted)
  fitted("gaussian_naive_bayes", data, variance_floor=(1e-3, 1e-2, 1e-1))
  jax.effects_barrier()
  assert sum(read) == len(data.x) and len(read) == 2


def test_the_floor_is_chosen_on_validation():
  """Pixels without information, whose tiny variance decides where the floor is small."""
  rng = np.random.default_rng(0)
  y = np.arange(300) % CLASSES
  x = rng.uniform(0.4, 0.6, (300, 16)) + 0.2 * (np.arange(16)[None] // 5 == y[:, None])
  train_x, noise = x.copy(), rng.uniform(-1e-3, 1e-3, 300)
  train_x[:, 15], x[:, 15] = 0.5 + 0.1 * y + noise, 0.5 + 0.1 * rng.permutation(y) + noise
  data = as_data(train_x, y, x, y, SHAPE)
  floors = (1e-8, 1e-2)
  classifier, fit = fitted("gaussian_naive_bayes", data, variance_floor=floors)
  assert same_structure(classifier, fit, data)
  assert fit.metrics["variance_floor"] == 1e-2
  for floor in floors:
    alone, one = fitted("gaussian_naive_bayes", data, variance_floor=floor)
    right = np.argmax(alone.logits(one.params, None, data.validation_x), axis=1) == y
    name = f"validation_accuracy/variance_floor={floor:g}"
    assert fit.metrics[name] == pytest.approx(right.mean())
  np.testing.assert_array_equal(fit.params["log_scale"], one.params["log_scale"])
  assert (
    fit.metrics["validation_accuracy"] == fit.metrics["validation_accuracy/variance_floor=0.01"]
  )


def test_the_published_flaw_takes_the_variance_for_the_scale():
  data = images(SHAPE, CLASSES, 90)
  settings = {"binarized": True, "variance_floor": 1e-9}
  _, right = fitted("gaussian_naive_bayes", data, **settings)
  _, flawed = fitted("gaussian_naive_bayes", data, **settings, variance_as_scale=True)
  np.testing.assert_allclose(flawed.params["log_scale"], 2 * right.params["log_scale"], rtol=1e-5)
  binary = np.asarray(data.x >= 0.5, np.float64).reshape(len(data.x), -1)[np.asarray(data.y) == 1]
  variance = binary.var(axis=0) + 1e-9
  np.testing.assert_allclose(jnp.exp(flawed.params["log_scale"])[1], variance, rtol=1e-4)


@pytest.mark.parametrize("name", ["gaussian_naive_bayes", "bernoulli_naive_bayes"])
def test_constant_pixels_have_a_density(name):
  data = images(SHAPE, CLASSES, 90)
  data = data._replace(x=data.x.at[:, :2].set(0.0).at[:, 2].set(1.0))
  classifier, fit = fitted(name, data)
  other = jnp.concatenate([data.x, 1 - data.x])
  slope = jax.grad(lambda x: classifier.logits(fit.params, None, x).sum())(other)
  assert (
    jnp.isfinite(classifier.logits(fit.params, None, other)).all() and jnp.isfinite(slope).all()
  )


@pytest.mark.parametrize(
  ("name", "settings"),
  [("bernoulli_naive_bayes", {}), ("gaussian_naive_bayes", {"binarized": True})],
)
def test_thresholded_models_see_binary_images_and_have_gradients(name, settings):
  data = images(SHAPE, CLASSES, 90)
  classifier, fit = fitted(name, data, **settings)
  logits = classifier.logits(fit.params, None, data.x)
  binary = (data.x >= 0.5).astype(jnp.float32)
  np.testing.assert_array_equal(logits, classifier.logits(fit.params, None, binary))
  slope = jax.grad(lambda x: classifier.logits(fit.params, None, x)[:, 0].sum())
  np.testing.assert_array_equal(slope(data.x), slope(binary))
  assert jnp.abs(slope(data.x)).max() > 0


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    ("bernoulli_naive_bayes", {}),
    ("gaussian_naive_bayes", {"binarized": True, "variance_floor": 1e-2}),
    (
      "gaussian_naive_bayes",
      {"binarized": True, "variance_as_scale": True, "variance_floor": 1e-3},
    ),
  ],
)
def test_the_gradient_of_thresholded_models_is_what_a_flip_does(name, settings):
  """Every single flip of every image, evaluated."""
  classifier, fit = fitted(name, images(SHAPE, CLASSES, 90), **settings)
  x = (images(SHAPE, CLASSES, 20, seed=1).x >= 0.5).astype(jnp.float32)
  every = jnp.abs(x[:, None] - jnp.eye(16).reshape(1, 16, *SHAPE)).reshape(-1, *SHAPE)
  after = classifier.logits(fit.params, None, every).reshape(20, 16, CLASSES)
  change = after - classifier.logits(fit.params, None, x)[:, None]
  slope = jax.vmap(jax.jacobian(lambda x: classifier.logits(fit.params, None, x[None])[0]))(x)
  foreseen = jnp.swapaxes(slope.reshape(20, CLASSES, 16), 1, 2) * (1 - 2 * x).reshape(20, 16, 1)
  np.testing.assert_allclose(foreseen, change, rtol=1e-3, atol=1e-3 * np.abs(change).max())


def test_the_published_gradient_is_of_the_same_scores():
  data = images(SHAPE, CLASSES, 90)
  settings = {"binarized": True, "variance_floor": 1e-2}
  classifier, fit = fitted("gaussian_naive_bayes", data, **settings)
  published, _ = fitted("gaussian_naive_bayes", data, **settings, backward="straight_through")
  logits = [model.logits(fit.params, None, data.x) for model in (classifier, published)]
  np.testing.assert_array_equal(*logits)  # bit for bit
  mean, scale = fit.params["mean"], jnp.exp(fit.params["log_scale"])
  bits = (data.x[:1] >= 0.5).reshape(-1)
  slope = jax.grad(lambda x: published.logits(fit.params, None, x)[0, 1])(data.x[:1])
  np.testing.assert_allclose(slope.reshape(-1), ((mean[1] - bits) / scale[1] ** 2), rtol=1e-5)
  assert (classifier.gradient, published.gradient) == ("flip", "straight_through")
  with pytest.raises(ValueError, match="did you mean 'flip'"):
    models.build("gaussian_naive_bayes", image_shape=SHAPE, num_classes=CLASSES, backward="flop")
  with pytest.raises(ValueError, match="binarized is False"):
    models.build("gaussian_naive_bayes", image_shape=SHAPE, num_classes=CLASSES, backward="flip")


def test_the_published_gradient_has_the_sign_of_a_flip_unless_the_variance_is_the_scale():
  """Of the margin between two classes, at every pixel, whichever way it can be flipped."""
  data = images(SHAPE, CLASSES, 90)

  def agreement(**settings):
    settings = {"binarized": True, "variance_floor": 1e-9} | settings
    flip, fit = fitted("gaussian_naive_bayes", data, **settings)
    published, _ = fitted("gaussian_naive_bayes", data, **settings, backward="straight_through")

    def slope(model):
      margin = lambda x: jnp.subtract(*model.logits(fit.params, None, x)[:, :2].T).sum()  # noqa: E731
      return jax.grad(margin)(data.x)

    return float(jnp.mean(jnp.sign(slope(flip)) == jnp.sign(slope(published))))

  assert agreement() > 0.99
  assert agreement(variance_as_scale=True) < 0.75


def test_a_run_of_before_keeps_the_gradient_that_it_had():
  """Its config has no `backward`: what was found through it stays apart from what flips find."""
  record = {"data": {"image_shape": SHAPE, "num_classes": CLASSES}, "class_prior": PRIOR}

  def gradient(**model):
    config = {"model": {"name": "gaussian_naive_bayes", **model}}
    return runs.build_model({**record, "config": config}).gradient

  assert gradient(binarized=True) == "straight_through"
  assert {gradient(binarized=True, backward=given) for given in ("flip", None)} == {"flip"}
  assert gradient() == "exact"


def test_a_bernoulli_density_sums_to_one():
  data = images((2, 2, 1), CLASSES, 90)
  classifier = models.build("bernoulli_naive_bayes", image_shape=(2, 2, 1), num_classes=CLASSES)
  fit = classifier.fit(jax.random.key(0), data)
  every = np.array(np.meshgrid(*[(0.0, 1.0)] * 4)).reshape(4, -1).T.reshape(-1, 2, 2, 1)
  logits = classifier.logits(fit.params, None, jnp.asarray(every, jnp.float32))
  np.testing.assert_allclose(np.exp(logits).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["gaussian_naive_bayes", "bernoulli_naive_bayes"])
def test_samples_have_the_moments_of_their_class(name):
  data = images(SHAPE, CLASSES, 300)
  if name == "gaussian_naive_bayes":
    data = data._replace(x=0.4 + 0.2 * data.x)  # nothing to clip
  classifier, fit = fitted(name, data)
  n = 4000
  draws = classifier.sample(fit.params, example_keys(0, jnp.arange(n)), jnp.ones(n, jnp.int32))
  shown = data.x[data.y == 1]
  expected = (shown >= 0.5).mean(axis=0) if name == "bernoulli_naive_bayes" else shown.mean(axis=0)
  own = jax.tree.map(lambda leaf: np.asarray(leaf[1], np.float64).reshape(SHAPE), fit.params)
  if name == "gaussian_naive_bayes":
    scale = np.exp(own["log_scale"])
  else:
    theta = scipy.special.expit(own["logits"])
    scale = np.sqrt(theta * (1 - theta))
  error = 5 * scale / np.sqrt(n)
  if name == "bernoulli_naive_bayes":
    error = error + 0.02  # the prior count's pull
  assert (np.abs(draws.mean(axis=0) - expected) < error).all()
  np.testing.assert_allclose(np.asarray(draws).std(axis=0), scale, rtol=0.08, atol=0.01)


def test_bad_values():
  data = images(SHAPE, CLASSES, 90)
  for name, option in (("gaussian", "variance_floor"), ("bernoulli", "pseudo_count")):
    for value in (0.0, (1.0, -1.0), ()):
      with pytest.raises(ValueError, match=f"{option} must be > 0"):
        fitted(f"{name}_naive_bayes", data, **{option: value})
    with pytest.raises(ValueError, match=r"every class needs examples.*none of \[2\]"):
      fitted(f"{name}_naive_bayes", data._replace(y=data.y % 2))
    with pytest.raises(ValueError, match="y must be between 0 and 2, got 0 to 3"):
      fitted(f"{name}_naive_bayes", data._replace(y=data.y.at[0].set(3)))
  empty = data._replace(validation_x=data.x[:0], validation_y=data.y[:0])
  with pytest.raises(ValueError, match="needs validation images"):
    fitted("gaussian_naive_bayes", empty)
  fitted("gaussian_naive_bayes", empty, variance_floor=0.1)
