"""The conditional VAE: its bound and its decision rules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from zoo import BATCH, CLASSES, SHAPE, build, problem

from gencls.keys import example_keys, fold
from gencls.models.likelihoods import LIKELIHOODS, SCALE_FLOOR


def network(params, h):
  """Dense layers with ReLU between them, in float64."""
  for i in range(len(params)):
    layer = params[f"ConcatDense_{i}"]
    h = np.maximum(h, 0) if i else h
    h = h @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
  return h


def test_the_loss_is_the_negative_elbo_by_scipy():
  """−[log p(x | z, y) + log p(y) − KL(q(z | x, y) ‖ N(0, I))] at the z that is drawn."""
  prior = (0.5, 0.3, 0.2)
  classifier, params, keys, x, y = problem("cvae", class_prior=prior)
  flat, one_hot = np.float64(x).reshape(BATCH, -1), np.eye(CLASSES)[y]
  mean, raw = np.split(network(params["encoder"], np.hstack([flat, one_hot])), 2, axis=1)
  scale = np.exp(raw) + SCALE_FLOOR
  noise = [jax.random.normal(key, mean.shape[1:]) for key in fold(keys, "q")]
  z = mean + scale * np.float64(noise)
  image = 1 / (1 + np.exp(-network(params["decoder"], np.hstack([z, one_hot]))))
  log_p_x = stats.norm.logpdf(flat, image, np.sqrt(0.5)).sum(axis=1)
  kl = 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale)).sum(axis=1)
  loss = classifier.loss(params, keys, x, y, jnp.int32(0))
  np.testing.assert_allclose(loss.total, -(log_p_x + np.log(prior)[y] - kl), rtol=1e-5)
  np.testing.assert_allclose(loss.terms["kl"], kl, rtol=1e-4)
  assert kl.min() > 1e-3 and np.std(scale) > 0  # there is something to be wrong about


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


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_image_under_every_template_is_the_density_of_each_pair(name):
  """The matrix product of each likelihood, and its gradient, beside the difference itself."""
  likelihood, keys = LIKELIHOODS[name], jax.random.split(jax.random.key(0), 3)
  outputs = 4.0 * jax.random.normal(keys[1], (37, 784))
  x = jax.random.uniform(keys[0], (7, 784)).round(1)
  x = x.at[0].set(likelihood.mean(outputs[3]) + 0.01)  # close to a template
  params, nats = likelihood.init(), 2e-3
  if name == "gaussian":  # a sharp one, which multiplies what the product loses
    params, nats = {"raw_log_scale": jnp.log(0.03)}, 0.3
  weights = jax.random.normal(keys[2], (7, 37))

  def direct(x):
    return likelihood.log_prob(params, x[:, None], outputs[None])

  def at_once(x):
    return likelihood.log_prob_of_each(params, x, outputs)

  np.testing.assert_allclose(at_once(x), direct(x), atol=nats, rtol=1e-6)
  found, expected = (
    jax.grad(lambda x, score=score: jnp.sum(weights * score(x)))(x) for score in (at_once, direct)
  )
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * scale)


def test_a_sharp_density_of_templates_alike_is_not_lost_to_what_they_share():
  """At a scale of 0.01, what float32 loses of sums near 400 is nats; of differences, nothing."""
  likelihood, keys = LIKELIHOODS["gaussian"], jax.random.split(jax.random.key(0), 2)
  shared = 4.0 * jax.random.normal(keys[0], (1, 784))
  outputs = shared + 0.1 * jax.random.normal(keys[1], (37, 784))
  x, params = likelihood.mean(outputs[:5]) + 0.003, {"raw_log_scale": jnp.log(0.01)}
  found = likelihood.log_prob_of_each(params, x, outputs)
  expected = likelihood.log_prob(params, x[:, None], outputs[None])
  np.testing.assert_allclose(found, expected, atol=0.02, rtol=0)


def test_the_gradient_of_the_log_mean_exp_holds_no_array_of_all_templates_by_all_images():
  classifier, params, keys, x, _ = problem("cvae", rule="log_mean_exp")
  gradient = jax.grad(lambda x: jnp.sum(classifier.logits(params, keys, x)))
  sizes = [
    math.prod(out.aval.shape)
    for equation in jax.make_jaxpr(gradient)(x).eqns
    for out in equation.outvars
  ]
  pairs = BATCH * math.prod(params["templates"].shape[:2])
  assert max(sizes) < pairs * x[0].size


def test_cvae_decodes_its_templates_once():
  classifier = build("cvae")
  x, y = jnp.zeros((2, *SHAPE)), jnp.zeros(2, jnp.int32)
  params = classifier.init(jax.random.key(1), x, y)
  a, b = (classifier.prepare(params, jax.random.key(i)) for i in (2, 3))
  assert a["templates"].shape == (CLASSES, 5, math.prod(SHAPE))
  assert (a["templates"] != b["templates"]).any()
  without_decoder = {k: v for k, v in a.items() if k not in ("encoder", "decoder")}
  classifier.logits(without_decoder, example_keys(0, jnp.arange(2)), x)
