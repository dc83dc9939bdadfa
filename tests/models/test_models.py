"""One table over all models: contracts, transforms and bad values."""

import fit_problems
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import (
  ALL,
  BATCH,
  CLASSES,
  CLASSICAL,
  EVERY_RUN,
  FEW,
  HYPERPARAMETERS,
  SHAPE,
  build,
  problem,
  slow,
)

from gencls import classify, models
from gencls.few_classes import takes_classes
from gencls.keys import example_keys
from gencls.models.factorisations import FACTORISATIONS
from gencls.settings import annotations

OPTIONAL = ("prepare", "sample", "fit", "log_weights", "reconstruct", "decoder")
WITH_IMAGES = ("sample", "log_weights", "reconstruct", "decoder")
# What a model offers beside init, loss and logits; nothing where it is not here.
OFFERED = {
  **{name: WITH_IMAGES for name, parents in FACTORISATIONS.items() if parents["x"]},
  **{name: ("log_weights",) for name, parents in FACTORISATIONS.items() if not parents["x"]},
  "cvae": ("prepare", *WITH_IMAGES),
  **dict.fromkeys(("gfz_binary", "gfz_crf"), WITH_IMAGES),
  "ising": ("sample", "fit"),
  "gaussian_naive_bayes": ("sample", "fit"),
  "bernoulli_naive_bayes": ("sample", "fit"),
  "gaussian_mixture": ("sample", "fit"),
  "logistic_regression": ("fit",),
  "logistic_regression_binary": ("fit",),
}


def test_the_table_covers_the_registry():
  assert set(HYPERPARAMETERS) == set(models.REGISTRY)


@pytest.mark.parametrize("name", FEW)
def test_contract(name):
  classifier, params, keys, x, y = problem(name)
  loss = jax.eval_shape(classifier.loss, params, keys, x, y, jnp.int32(0))
  assert loss.total.shape == (BATCH,)
  assert all(term.shape == (BATCH,) for term in loss.terms.values())
  logits = jax.eval_shape(classifier.logits, params, keys, x)
  assert logits.shape == (BATCH, CLASSES) and logits.dtype == jnp.float32
  if classifier.sample is not None:
    image = jax.jit(classifier.sample)(params, keys, y)
    assert image.shape == x.shape and (image >= 0).all() and (image <= 1).all()
  offered = {field for field in OPTIONAL if getattr(classifier, field) is not None}
  assert offered == set(OFFERED.get(name, ()))
  if classifier.decoder is not None:
    decoder = classifier.decoder
    assert (decoder.latent_size, decoder.num_classes) == (3, CLASSES)
    for image in (
      jax.eval_shape(classifier.reconstruct, params, keys, x, y),
      jax.eval_shape(decoder.decode, params, keys, jnp.zeros((BATCH, 3)), y),
    ):
      assert image.shape == x.shape and image.dtype == jnp.float32
  if classifier.log_weights is not None:
    weights = jax.eval_shape(classifier.log_weights, params, keys, x)
    assert weights.shape == (BATCH, CLASSES, 5) and weights.dtype == jnp.float32


@pytest.mark.parametrize("name", FEW)
def test_some_classes_have_the_logits_that_they_have_among_all(name):
  classifier, params, keys, x, _ = problem(name)
  takes = name in FACTORISATIONS or name in ("gfz_binary", "gfz_crf")
  assert takes_classes(classifier.logits) == takes
  if takes:
    classes = jnp.stack([jnp.arange(BATCH) % CLASSES, (2 - jnp.arange(BATCH)) % CLASSES], axis=1)
    few = jax.jit(classifier.logits)(params, keys, x, classes)
    expected = jnp.take_along_axis(jax.jit(classifier.logits)(params, keys, x), classes, axis=1)
    np.testing.assert_allclose(few, expected, rtol=2e-5)


THRESHOLDS = dict.fromkeys(
  (
    "bernoulli_naive_bayes",
    "ising",
    "cnn_binary",
    "logistic_regression_binary",
    "gfz_binary",
    "gfz_crf",
  ),
  0.5,
)
CHANGED = [
  ("gaussian_naive_bayes", {"binarized": True}, 0.5),
  ("ising", {"at": 0.3}, 0.3),
  ("ising", {"at": 0.3, "training": "linear_batch_normalised"}, 0.3),
  ("cnn_binary", {"at": 0.7}, 0.7),
  *(("cnn_denoised", {"method": each}, None) for each in ("icm", "gibbs", "one_shot")),
]


@pytest.mark.parametrize(
  ("name", "changes", "threshold"),
  [
    *((n, {}, THRESHOLDS.get(n)) for n in EVERY_RUN),
    *(slow(n, {}, THRESHOLDS.get(n)) for n in ALL if n not in EVERY_RUN),
    *CHANGED,
  ],
)
def test_a_model_says_whether_and_where_it_thresholds(name, changes, threshold):
  classifier, params, keys, x, _ = problem(name, **changes)
  assert classifier.pixel_threshold == threshold
  logits = jax.jit(classifier.logits)
  found = []
  for at in (0.3, 0.5, 0.7):
    grey = x.at[:, 0, 0].set(at)  # equality is on
    black_and_white = logits(params, keys, jnp.where(grey >= jnp.float32(at), 1.0, 0.0))
    found.append(bool((black_and_white == logits(params, keys, grey)).all()))
  assert found == [at == threshold for at in (0.3, 0.5, 0.7)]


@pytest.mark.parametrize("name", [n if n in ("gfz", "cnn", *CLASSICAL) else slow(n) for n in ALL])
def test_batches_do_not_matter(name):
  classifier, params, keys, x, _ = problem(name)
  logits = jax.jit(classifier.logits)
  whole = logits(params, keys, x)
  order = jnp.asarray([3, 1, 5, 0, 2, 4])
  np.testing.assert_array_equal(logits(params, keys[order], x[order]), whole[order])
  parts = jnp.concatenate([logits(params, keys[:3], x[:3]), logits(params, keys[3:], x[3:])])
  np.testing.assert_allclose(parts, whole, rtol=2e-5, atol=2e-5)
  if name in EVERY_RUN:  # the others are made of the same parts
    eager = classifier.logits(params, keys, x)
    np.testing.assert_allclose(eager, whole, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", FEW)
def test_gradients_are_finite_at_extreme_inputs(name):
  classifier, params, keys, x, y = problem(name)
  slope = jax.jit(jax.grad(lambda x: classifier.logits(params, keys, x).sum()))
  for extreme in (jnp.zeros_like(x), jnp.ones_like(x), jnp.round(x)):
    gradient = slope(extreme)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).reshape(BATCH, -1).max(axis=1).min() > 0
  loss = jax.jit(jax.grad(lambda p: classifier.loss(p, keys, x, y, jnp.int32(0)).total.mean()))
  grads = loss(params)
  for leaf in jax.tree.leaves(grads):
    assert jnp.isfinite(leaf).all()


def test_purposes_and_draws_differ_and_repeat():
  classifier, params, keys, x, _ = problem("gfz")
  other = example_keys(0, jnp.arange(BATCH), "attack")
  logits = jax.jit(classifier.logits)
  first = logits(params, keys, x)
  np.testing.assert_array_equal(first, logits(params, keys, x))
  assert (first != logits(params, other, x)).all()


def test_marginals_refuse_scores_that_are_not_densities():
  with pytest.raises(ValueError, match="posterior"):
    classify.log_marginal(jnp.zeros((2, 3)), "posterior")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_samples": 0}, "num_samples must be >= 1, got 0"),
    ({"train_samples": 0}, "train_samples must be >= 1, got 0"),
    ({"dropout_rate": 1.0}, "dropout_rate must be in"),
    ({"memory_budget_gib": 0.0}, "memory_budget_gib must be > 0"),
    ({"likelihood": "squared_eror"}, "did you mean 'squared_error'"),
    ({"max_rows": 2}, "max_rows must be >= 3, got 2"),
    ({"latent_sise": 3}, "did you mean 'latent_size'"),
  ],
)
def test_bad_hyperparameters(changes, message):
  with pytest.raises(ValueError, match=message):
    build("gfz", **changes)


def test_bad_builds():
  with pytest.raises(ValueError, match="did you mean"):
    models.build("gfzz", image_shape=SHAPE, num_classes=3)
  with pytest.raises(ValueError, match=r"\(H, W, D\)"):
    models.build("gfz", image_shape=(8, 8), num_classes=3)
  with pytest.raises(ValueError, match="num_classes must be >= 2"):
    models.build("gfz", image_shape=SHAPE, num_classes=1)
  with pytest.raises(ValueError, match="class_prior must hold 3"):
    models.build("gfz", image_shape=SHAPE, num_classes=3, class_prior=np.array([0.5, 0.5]))


def test_bad_values_are_refused_by_every_model():
  for name in ALL:
    if "dropout_rate" in annotations(models.REGISTRY[name]):
      with pytest.raises(ValueError, match="dropout_rate must be in"):
        build(name, dropout_rate=1.5)
    with pytest.raises(ValueError, match="class_prior must hold 3 positive"):
      build(name, class_prior=(0.5, 0.5, 0.0))


FITTED = sorted(name for name, offered in OFFERED.items() if "fit" in offered)
BAD_DATA = (
  ("a NaN", "x", lambda x: x.at[3, 0, 0, 0].set(jnp.nan), "x must be finite .* first in 3"),
  ("8 bits", "x", lambda x: np.uint8(255 * np.asarray(x)), "x must .*divide 8-bit images"),
  ("grey levels", "x", lambda x: 255 * x, r"x must be finite and in \[0, 1\]"),
  ("a shape", "x", lambda x: x.reshape(-1, 16, 4, 1), r"x must be \[B, 8, 8, 1\]"),
  ("a NaN", "validation_x", lambda x: x * jnp.nan, "validation_x must be finite"),
  ("labels of others", "y", lambda y: jnp.tile(y, 2), r"y must be \[60\] integers"),
  ("one-hot labels", "y", lambda y: jax.nn.one_hot(y, CLASSES), r"y must be \[60\] integers"),
  ("a shape", "validation_x", lambda x: x[:, 1:], r"validation_x must be \[B, 8, 8, 1\]"),
  ("no class", "validation_y", lambda y: y * 0 - 1, "validation_y must be between 0 and 2, got -1"),
  ("no class", "y", lambda y: y.at[0].set(CLASSES), "y must be between 0 and 2"),
  ("a class without examples", "y", lambda y: y % 2, r"got none of \[2\] among"),
)


@pytest.mark.parametrize("case", BAD_DATA, ids=lambda case: f"{case[0]} in {case[1]}")
@pytest.mark.parametrize("name", FITTED)
def test_no_fit_takes_bad_data(name, case):
  _, field, break_it, message = case
  data = fit_problems.images(SHAPE, CLASSES, 60)
  broken = data._replace(**{field: break_it(getattr(data, field))})
  with pytest.raises(ValueError, match=message):
    build(name).fit(jax.random.key(0), broken)


@pytest.mark.parametrize("name", FITTED)
def test_one_candidate_needs_no_validation(name):
  data = fit_problems.images(SHAPE, CLASSES, 60)
  empty = data._replace(validation_x=np.zeros((0, *SHAPE)), validation_y=jnp.zeros(0, jnp.int32))
  one = {name: {"l2": 1.0} for name in FITTED}
  one |= {"gaussian_naive_bayes": {"variance_floor": 0.1}, "gaussian_mixture": {}}
  one["bernoulli_naive_bayes"] = {}
  one["ising"] |= {"max_iterations": 2}
  fitted = build(name, **one[name]).fit(jax.random.key(0), empty)
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted.params))


def test_equal_hyperparameters_give_the_same_functions():
  assert build("gfz").logits is build("gfz", channels=[4, 4]).logits
  assert build("gfz").logits is not build("gfz", num_samples=6).logits


def test_second_call_does_not_trace_again():
  classifier, params, keys, x, _ = problem("gfz")
  traces = []

  @jax.jit
  def logits(params, keys, x):
    traces.append(1)
    return classifier.logits(params, keys, x)

  for scale in (1.0, 0.5):
    logits(jax.tree.map(lambda leaf: leaf * scale, params), keys, x * scale)  # noqa: B023
  assert len(traces) == 1
