"""One table over all models: contracts, transforms, memory and floating-point operations."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import classify, models
from gencls.few_classes import takes_classes
from gencls.keys import example_keys
from gencls.models.factorisations import FACTORISATIONS
from gencls.models.latent import log_weights
from gencls.models.likelihoods import LIKELIHOODS
from gencls.nets.images import ConvDecoder, ConvFeatures
from gencls.nets.mlp import MLP, ConcatDense, dropout
from gencls.settings import annotations

SHAPE, CLASSES, BATCH = (8, 8, 1), 3, 6
SMALL = {
  "latent_size": 3,
  "hidden_size": 16,
  "channels": (4, 4),
  "num_samples": 5,
  "max_rows": 10**6,
}
HYPERPARAMETERS = {
  **dict.fromkeys(FACTORISATIONS, SMALL),
  "cvae": {"latent_size": 3, "hidden_sizes": (16,), "num_samples": 5},
  "cnn": {"hidden_size": 16, "channels": (4, 4)},
  "vae_classifier": {"latent_size": 3, "channels": (4, 4)},
  "pretrained_vae_classifier": {"latent_size": 3, "channels": (4, 4), "decoder_size": 16},
  "cnn_binary": {"hidden_size": 16, "channels": (4, 4)},
  "cnn_denoised": {"hidden_size": 16, "channels": (4, 4)},
  "gfz_binary": SMALL,
  "gfz_crf": SMALL,
  "ising": {"num_sweeps": 3},
  "gaussian_naive_bayes": {},
  "bernoulli_naive_bayes": {},
  "gaussian_mixture": {"num_components": 2, "covariance": "diagonal"},
  "logistic_regression": {},
  "mlp": {"hidden_sizes": (16,)},
}


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
}


def slow(*values):
  """A parameter that waits for `make test-all`."""
  return pytest.param(*values, marks=pytest.mark.slow)


ALL = sorted(models.REGISTRY)
# One of each kind on every run, their siblings with the slow tests: decoder, no decoder, neither.
CLASSICAL = (
  *("gaussian_naive_bayes", "bernoulli_naive_bayes", "gaussian_mixture"),
  *("logistic_regression", "mlp"),
)
EVERY_RUN = ("gfz", "dfx", "cvae", "cnn", "ising", *CLASSICAL)
FEW = [name if name in EVERY_RUN else slow(name) for name in ALL]


def build(name, **changes):
  hyperparameters = HYPERPARAMETERS[name] | changes
  return models.build(name, image_shape=SHAPE, num_classes=CLASSES, **hyperparameters)


@functools.cache
def problem(name, **changes):
  classifier = build(name, **changes)
  x = jax.random.uniform(jax.random.key(0), (BATCH, *SHAPE))
  y = jnp.arange(BATCH) % CLASSES
  leaves, tree = jax.tree.flatten(jax.jit(classifier.init)(jax.random.key(1), x, y))
  # Biases away from zero, as after training: no unit sits exactly on the kink of its ReLU.
  noise = [0.03 * np.random.default_rng(i).normal(size=leaf.shape) for i, leaf in enumerate(leaves)]
  params = jax.tree.unflatten(
    tree, [a + jnp.float32(b) for a, b in zip(leaves, noise, strict=True)]
  )
  if classifier.prepare:
    params = classifier.prepare(params, jax.random.key(2))
  return classifier, params, example_keys(0, jnp.arange(BATCH)), x, y


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
  ("bernoulli_naive_bayes", "ising", "cnn_binary", "gfz_binary", "gfz_crf"), 0.5
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


@pytest.mark.parametrize(
  # two images at a time; a slice of one image's samples; one sample per class
  ("name", "rows"),
  [slow("gfz", 42), ("gfz", 10), slow("dfx", 3)],
)
def test_chunks_change_nothing(name, rows):
  classifier, params, keys, x, _ = problem(name, num_samples=7)
  budget = rows * 12 * 4 * (_floats(name) + 0.5) / 2**30
  chunked = build(name, num_samples=7, memory_budget_gib=budget)
  both = [
    jax.jit(jax.value_and_grad(lambda x, c=c: c.logits(params, keys, x)[:, 0].sum()))(x)
    for c in (classifier, chunked)
  ]
  np.testing.assert_allclose(both[1][0], both[0][0], rtol=2e-5)
  np.testing.assert_allclose(both[1][1], both[0][1], rtol=1e-3, atol=1e-4)


def _floats(name):
  if FACTORISATIONS[name]["x"]:
    return ConvDecoder(SHAPE, (4, 4), 16).floats_per_row()
  return 3 * 16


def test_a_budget_below_one_row_per_class_is_refused():
  classifier, params, keys, x, _ = problem("gfz")
  tiny = build("gfz", memory_budget_gib=1e-9)
  with pytest.raises(ValueError, match="memory_budget_gib"):
    tiny.logits(params, keys, x)


@pytest.mark.parametrize("name", ["gfz", "dfx"])
def test_logits_are_the_log_mean_weight(name):
  classifier, params, keys, x, _ = problem(name)
  model = classifier.log_weights.args[0]
  y = jnp.broadcast_to(jnp.eye(CLASSES)[None], (BATCH, CLASSES, CLASSES))
  parts = log_weights(model, params, keys, x, y, num_samples=5)
  log_w = np.asarray(parts["z"] + parts["y"] + parts.get("x", 0.0) - parts["q"], np.float64)
  expected = np.log(np.mean(np.exp(log_w), axis=-1))
  np.testing.assert_allclose(jax.jit(classifier.logits)(params, keys, x), expected, rtol=1e-4)


def test_the_bound_tightens_with_k_and_is_named():
  classifier, params, _, x, y = problem("gfz")
  bounds = []
  for k in (1, 16):
    loss = jax.jit(build("gfz", train_samples=k).loss)
    keys = example_keys(0, jnp.arange(512))
    out = loss(params, keys, jnp.tile(x[:1], (512, 1, 1, 1)), jnp.tile(y[:1], 512), jnp.int32(0))
    assert ("elbo" in out.terms) == (k == 1)
    assert ("importance_weighted_bound" in out.terms) == (k > 1)
    bounds.append(np.asarray(-out.total))
  error = math.hypot(*(b.std() / math.sqrt(512) for b in bounds))
  assert bounds[1].mean() - bounds[0].mean() > 4 * error


def test_a_detached_target_hides_the_likelihoods_gradient_and_changes_nothing_else():
  classifier, params, keys, x, _ = problem("gfz")
  masked = build("gfz", detached_target=True)
  assert (classifier.gradient, masked.gradient) == ("exact", "detached_target")
  found = [
    jax.jit(jax.value_and_grad(lambda x, c=c: c.logits(params, keys, x)[:, 0].sum()))(x)
    for c in (classifier, masked)
  ]
  np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6)
  # What is missing is Σ_k w_k ∂ log p(x | z_k)/∂x = −2 (x − mean image), the images in [0, 1].
  missing = found[0][1] - found[1][1]
  mean = x + missing / 2
  assert mean.min() > -1e-4 and mean.max() < 1 + 1e-4 and jnp.abs(missing).max() > 0.1


@pytest.mark.parametrize("name", [n if n in ("gbz", "dfx") else slow(n) for n in FACTORISATIONS])
def test_terms_add_up_to_the_bound(name):
  classifier, params, keys, x, y = problem(name)
  terms = jax.jit(classifier.loss)(params, keys, x, y, jnp.int32(0)).terms
  total = terms["log_p_y"] - terms["kl"] + terms.get("log_p_x", 0.0)
  np.testing.assert_allclose(total, terms["elbo"], rtol=1e-4)


@pytest.mark.slow
def test_kl_warmup_weighs_the_objective_and_not_the_bound():
  _, params, keys, x, y = problem("dbx")
  loss = build("dbx", kl_warmup_steps=10).loss
  for step, beta in ((0, 0.0), (5, 0.5), (10, 1.0), (99, 1.0)):
    out = loss(params, keys, x, y, jnp.int32(step))
    terms = out.terms
    np.testing.assert_allclose(out.total, -terms["log_p_y"] + beta * terms["kl"], rtol=1e-4)
    np.testing.assert_allclose(terms["elbo"], terms["log_p_y"] - terms["kl"], rtol=1e-4)


def test_purposes_and_draws_differ_and_repeat():
  classifier, params, keys, x, _ = problem("gfz")
  other = example_keys(0, jnp.arange(BATCH), "attack")
  logits = jax.jit(classifier.logits)
  first = logits(params, keys, x)
  np.testing.assert_array_equal(first, logits(params, keys, x))
  assert (first != logits(params, other, x)).all()


def test_dropout_has_a_mask_per_example():
  keys = example_keys(0, jnp.arange(4))
  out = dropout(keys, jnp.ones((4, 200)), 0.25)
  kept = np.asarray(out > 0)
  assert not any((kept[i] == kept[j]).all() for i in range(4) for j in range(i))
  np.testing.assert_allclose(out[out > 0], 4 / 3, rtol=1e-6)
  assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / kept.size)
  with_dropout, params, keys, x, y = problem("gfz", dropout_rate=0.5)
  plain = build("gfz")
  np.testing.assert_array_equal(with_dropout.logits(params, keys, x), plain.logits(params, keys, x))
  step = jnp.int32(0)
  assert (
    with_dropout.loss(params, keys, x, y, step).total != plain.loss(params, keys, x, y, step).total
  ).all()


def test_class_prior_enters_where_y_has_no_parents():
  _, params, keys, x, _ = problem("gfy")
  prior = (0.7, 0.2, 0.1)
  uniform = build("gfy").logits(params, keys, x)
  weighted = models.build(
    "gfy", image_shape=SHAPE, num_classes=CLASSES, class_prior=prior, **SMALL
  ).logits(params, keys, x)
  expected = np.broadcast_to(np.log(prior) - np.log(1 / 3), uniform.shape)
  np.testing.assert_allclose(weighted - uniform, expected, atol=1e-4)


def test_concat_dense_is_a_dense_layer_on_the_concatenation():
  a = jax.random.normal(jax.random.key(0), (2, 1, 4, 3))
  b = jax.random.normal(jax.random.key(1), (2, 5, 1, 7))
  params = ConcatDense(6).init(jax.random.key(2), [a, b])
  shape = (2, 5, 4)
  whole = jnp.concatenate(
    [jnp.broadcast_to(a, (*shape, 3)), jnp.broadcast_to(b, (*shape, 7))], axis=-1
  )
  dense = nn.Dense(6).apply(params, whole)
  np.testing.assert_allclose(ConcatDense(6).apply(params, [a, b]), dense, rtol=1e-5, atol=1e-5)


def test_cvae_rules_against_numpy():
  for rule in ("nearest", "sum_of_squares", "log_mean_exp"):
    classifier, params, keys, x, _ = problem("cvae", rule=rule)
    mean = np.asarray(LIKELIHOODS["squared_error"].mean(params["templates"]), np.float64)
    images = np.asarray(x, np.float64).reshape(BATCH, 1, 1, -1)
    squared = ((images - mean[None]) ** 2).sum(-1)
    expected = {
      "nearest": -np.sqrt(squared.min(-1)),
      "sum_of_squares": -squared.sum(-1),
      "log_mean_exp": np.log(np.exp(-squared).mean(-1))
      - 32 * math.log(math.pi)
      + math.log(1 / CLASSES),
    }[rule]
    np.testing.assert_allclose(classifier.logits(params, keys, x), expected, rtol=1e-4)
    assert classifier.score == ("estimate" if rule == "log_mean_exp" else "unnormalised")


def test_cvae_decodes_its_templates_once():
  classifier = build("cvae")
  x, y = jnp.zeros((2, *SHAPE)), jnp.zeros(2, jnp.int32)
  params = classifier.init(jax.random.key(1), x, y)
  a, b = (classifier.prepare(params, jax.random.key(i)) for i in (2, 3))
  assert a["templates"].shape == (CLASSES, 5, math.prod(SHAPE))
  assert (a["templates"] != b["templates"]).any()
  without_decoder = {k: v for k, v in a.items() if k not in ("encoder", "decoder")}
  classifier.logits(without_decoder, example_keys(0, jnp.arange(2)), x)


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_likelihoods_train_and_say_what_they_are(likelihood):
  classifier, params, keys, x, y = problem("gfz", likelihood=likelihood)
  total = classifier.loss(params, keys, x, y, jnp.int32(0)).total
  assert jnp.isfinite(total).all()
  assert classifier.score == ("unnormalised" if likelihood == "bernoulli" else "estimate")


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
    models.build("gfz", image_shape=SHAPE, num_classes=3, class_prior=(0.5, 0.5))


def test_bad_values_are_refused_by_every_model():
  for name in ALL:
    if "dropout_rate" in annotations(models.REGISTRY[name]):
      with pytest.raises(ValueError, match="dropout_rate must be in"):
        build(name, dropout_rate=1.5)
    with pytest.raises(ValueError, match="class_prior must hold 3 positive"):
      build(name, class_prior=(0.5, 0.5, 0.0))


def test_more_classes_than_fast_rows():
  models.build("gfz", image_shape=SHAPE, num_classes=300)


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


def _flops(f, *args):
  return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", [slow("gfz"), "dfx"])
def test_nothing_is_computed_twice(name):
  """Logits and their gradient cost at most 1.1 times their pieces, compiled alone."""
  batch, k, hidden, latents = 4, 6, 64, 16
  shape, channels = (16, 16, 1), (16, 16)
  classifier = models.build(
    name,
    image_shape=shape,
    num_classes=CLASSES,
    latent_size=latents,
    hidden_size=hidden,
    channels=channels,
    num_samples=k,
    max_rows=10**6,  # one piece: XLA counts a loop's body once
  )
  x, y = jnp.zeros((batch, *shape)), jnp.zeros(batch, jnp.int32)
  keys = example_keys(0, jnp.arange(batch))
  params = classifier.init(jax.random.key(0), x, y)
  rows = (batch, CLASSES, k)
  h, one_hot = jnp.ones((batch, 1, 1, hidden)), jnp.ones((batch, CLASSES, 1, CLASSES))
  z = jnp.ones((*rows, latents))
  noise = _flops(
    lambda keys: jax.vmap(lambda key: jax.random.normal(key, (CLASSES, k, latents)))(keys), keys
  )
  features = ConvFeatures(channels, hidden)
  pieces = [
    (features, x, 3 if name == "dfx" else 1),
    (MLP((hidden,), 2 * latents), [h, one_hot], 1),
  ]
  if name == "gfz":
    pieces += [
      (ConvDecoder(shape, channels, hidden), [z, one_hot], 1),
      (MLP((hidden,), CLASSES), [z], 1),
    ]
  else:
    pieces += [(MLP((hidden,), CLASSES), [h, z], 1), (MLP((hidden,), 2 * latents), [h], 1)]
  forward = backward = noise
  for module, inputs, times in pieces:
    piece_params = module.init(jax.random.key(0), inputs)
    forward += times * _flops(module.apply, piece_params, inputs)
    total = lambda p, i, module=module: module.apply(p, i).sum()  # noqa: E731
    backward += times * _flops(jax.value_and_grad(total, argnums=1), piece_params, inputs)
  # Densities: at most 12 operations for each pixel of a decoded image and each latent, and as many
  # again for the gradient.
  densities = 12 * math.prod(rows) * ((math.prod(shape) if name == "gfz" else 0) + 3 * latents)
  logits = _flops(classifier.logits, params, keys, x)
  gradient = _flops(jax.value_and_grad(lambda x: classifier.logits(params, keys, x).sum()), x)
  assert logits <= 1.10 * (forward + densities)
  assert gradient <= 1.10 * (backward + 2 * densities)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch"), [("gfz", 500), ("dfx", 500), ("gfz", 57), ("gbz", 57)])
def test_peak_memory_stays_under_the_budget(name, batch):
  """C = 10, K = 100 at the full size of MNIST, compiled and not run.

  57 images are the most of which a gradient keeps every row's instead of computing them again.
  """
  classifier = models.build(
    name, image_shape=(28, 28, 1), num_classes=10, num_samples=100, max_rows=10**9
  )
  x = jax.ShapeDtypeStruct((batch, 28, 28, 1), jnp.float32)
  keys = jax.eval_shape(lambda: example_keys(0, jnp.arange(batch)))
  params = jax.eval_shape(classifier.init, jax.random.key(0), x, jnp.zeros(batch, jnp.int32))
  compiled = jax.jit(classifier.logits).lower(params, keys, x).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 2 * 2**30
  gradient = jax.jit(jax.grad(lambda x, p, k: classifier.logits(p, k, x).sum()))
  temporary = gradient.lower(x, params, keys).compile().memory_analysis().temp_size_in_bytes
  assert temporary < 2 * 2**30
