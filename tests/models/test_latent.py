"""What the deep latent-variable models compute, and what it costs."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import BATCH, CLASSES, SHAPE, SMALL, build, problem, slow

from gencls import models
from gencls.keys import example_keys
from gencls.models.factorisations import FACTORISATIONS
from gencls.models.latent import log_weights
from gencls.models.likelihoods import LIKELIHOODS
from gencls.nets.images import ConvDecoder, ConvFeatures
from gencls.nets.mlp import MLP, ConcatDense, dropout


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


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_likelihoods_train_and_say_what_they_are(likelihood):
  classifier, params, keys, x, y = problem("gfz", likelihood=likelihood)
  total = classifier.loss(params, keys, x, y, jnp.int32(0)).total
  assert jnp.isfinite(total).all()
  assert classifier.score == ("unnormalised" if likelihood == "bernoulli" else "estimate")


def test_more_classes_than_fast_rows():
  models.build("gfz", image_shape=SHAPE, num_classes=300)


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
