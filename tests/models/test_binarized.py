"""A threshold in front of a classifier, and factories composed of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import classify, models
from gencls.keys import example_keys
from gencls.models.binarized import binarize
from gencls.models.compositions import compose
from gencls.models.deep_latent import deep_latent
from gencls.models.denoised import denoise
from gencls.types import Classifier, FitData, Fitted, Loss

SHAPE, CLASSES, BATCH = (4, 4, 1), 3, 5
SMALL = {"latent_size": 2, "hidden_size": 8, "channels": (3,), "num_samples": 2}
KEYS = example_keys(0, jnp.arange(BATCH))
X = jax.random.uniform(jax.random.key(0), (BATCH, *SHAPE)).at[0, 0, 0, 0].set(0.5)
HARD = jnp.where(X >= 0.5, 1.0, 0.0)
Y = jnp.arange(BATCH) % CLASSES


def seen(params, keys, x, *rest):
  """What a function of the toy model was given: the image itself."""
  return x.reshape(len(x), -1)


TOY = Classifier(
  init=lambda key, x, y: {"x": x},
  loss=lambda params, keys, x, y, step: Loss(seen(params, keys, x).sum(1), {}),
  logits=seen,
  score="unnormalised",
  sample=lambda params, keys, y: jnp.full((len(y), *SHAPE), 0.3),
  fit=lambda key, data: Fitted({"x": data.x, "validation": data.validation_x}, {}),
  log_weights=lambda params, keys, x: seen(params, keys, x)[..., None],
  reconstruct=lambda params, keys, x, y: x,
)


def test_everything_that_takes_images_gets_binary_ones():
  model = binarize(TOY)
  np.testing.assert_array_equal(model.init(KEYS[0], X, Y)["x"], HARD)
  np.testing.assert_array_equal(model.logits({}, KEYS, X), HARD.reshape(BATCH, -1))
  np.testing.assert_array_equal(
    model.loss({}, KEYS, X, Y, jnp.int32(0)).total, HARD.reshape(BATCH, -1).sum(1)
  )
  assert model.log_weights and model.reconstruct and model.sample and model.fit
  assert model.gradient == "straight_through" and TOY.gradient == "exact"
  np.testing.assert_array_equal(model.log_weights({}, KEYS, X)[..., 0], HARD.reshape(BATCH, -1))
  np.testing.assert_array_equal(model.reconstruct({}, KEYS, X, Y), HARD)
  assert (model.sample({}, KEYS, Y) == jnp.float32(0.3)).all()  # what it makes stays as it is
  many = jnp.tile(X, (301, 1, 1, 1))  # more than one piece
  fitted = model.fit(KEYS[0], FitData(many, jnp.tile(Y, 301), 1 - X, Y)).params
  np.testing.assert_array_equal(fitted["x"], jnp.tile(HARD, (301, 1, 1, 1)))
  np.testing.assert_array_equal(fitted["validation"], jnp.where(1 - X >= 0.5, 1.0, 0.0))


def test_what_the_model_does_not_offer_stays_away():
  bare = TOY._replace(fit=None, log_weights=None, reconstruct=None)
  model = binarize(bare)
  assert (model.fit, model.log_weights, model.reconstruct) == (None, None, None)


def test_the_gradient_is_the_inner_one_at_the_binary_image():
  inner = models.build("cnn", image_shape=SHAPE, num_classes=CLASSES, hidden_size=8, channels=(3,))
  outer = models.build(
    "cnn_binary", image_shape=SHAPE, num_classes=CLASSES, hidden_size=8, channels=(3,)
  )
  params = jax.jit(inner.init)(jax.random.key(1), HARD, Y)
  gradients = [
    jax.jit(jax.grad(lambda x, c=c: c.logits(params, KEYS, x)[:, 0].sum()))(x)
    for c, x in ((inner, HARD), (outer, X))
  ]
  np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-6)
  assert jnp.abs(gradients[0]).max() > 0


def test_a_bernoulli_likelihood_of_binary_images_is_a_probability():
  """Where q(z | x, y) and p(y | z) do not look, p(x, y) summed over all images and classes is 1."""
  size, classes = (2, 2, 1), 2
  every = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype("f4").reshape(16, *size)
  model = models.build("gfz_binary", image_shape=size, num_classes=classes, **SMALL)
  params = jax.jit(model.init)(jax.random.key(0), every, jnp.zeros(16, jnp.int32))
  for head in ("q", "y"):
    params["heads"][head] = jax.tree.map(jnp.zeros_like, params["heads"][head])
  keys = jnp.broadcast_to(KEYS[:1], (16,))  # the same latents for all images
  assert model.score == "estimate"
  marginal = classify.log_marginal(jax.jit(model.logits)(params, keys, every), model.score)
  # Not exactly: q is N(0, 1.001²) by the floor of standard deviations.
  assert abs(float(jax.nn.logsumexp(marginal))) < 0.01
  grey = models.build("gfz", image_shape=size, num_classes=classes, likelihood="bernoulli", **SMALL)
  assert grey.score == "unnormalised"


def test_a_score_is_kept_unless_another_is_named():
  assert binarize(TOY).score == "unnormalised"
  assert binarize(TOY, score="exact").score == "exact"
  assert binarize(TOY._replace(score="posterior")).score == "posterior"


def test_composed_factories_check_the_hyperparameters_of_both():
  def build(**changes):
    return models.build("gfz_binary", image_shape=SHAPE, num_classes=CLASSES, **SMALL, **changes)

  assert build(at=0.3).logits is not build(at=0.4).logits
  assert build(at=0.3).logits is build(at=0.3).logits
  for changes, message in (
    ({"at": 0.0}, r"at must be in \(0, 1\]"),
    ({"at": "half"}, "model.at must be a number"),
    ({"hidden_sise": 3}, "did you mean 'hidden_size'"),
    ({"dropout_rate": 1.5}, "dropout_rate must be in"),
    ({"crf": "center"}, "did you mean 'centre'"),
  ):
    with pytest.raises(ValueError, match=message):
      build(**changes)
  with pytest.raises(ValueError, match="differ, got twice: \\['num_samples'\\]"):
    compose(lambda classifier, num_samples=1: classifier, deep_latent)


@pytest.mark.parametrize(
  ("name", "score", "binary"),
  [
    # A density of grey images is none of thresholded or denoised ones.
    ("gaussian_naive_bayes", "unnormalised", False),
    ("bernoulli_naive_bayes", "exact", True),  # of binary images already
    ("logistic_regression", "posterior", False),
  ],
)
def test_scores_behind_a_threshold_or_a_denoiser_claim_no_more_than_they_are(name, score, binary):
  inner = models.build(name, image_shape=SHAPE, num_classes=CLASSES)
  model = binarize(inner)
  assert (model.score, model.binary, model.gradient) == (score, binary, "straight_through")
  clean = denoise(inner)
  assert clean.score == ("posterior" if score == "posterior" else "unnormalised")
  assert not clean.binary
  assert denoise(inner, method="icm").gradient == "straight_through"
  assert denoise(model).pixel_threshold is None
  assert binarize(clean, 0.3).pixel_threshold == 0.3
  assert denoise(inner, detached=True).gradient == "detached"
  assert binarize(denoise(inner, detached=True)).gradient == "detached"


def test_the_likelihood_of_binary_compositions_is_no_choice():
  for name in ("gfz_binary", "gfz_crf"):
    with pytest.raises(ValueError, match=r"unknown hyperparameter of .* 'likelihood'"):
      models.build(name, image_shape=SHAPE, num_classes=CLASSES, likelihood="squared_error")
    model = models.build(name, image_shape=SHAPE, num_classes=CLASSES, **SMALL)
    assert (model.score, model.binary, model.gradient) == ("estimate", True, "straight_through")
