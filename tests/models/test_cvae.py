"""The conditional VAE's decision rules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from zoo import BATCH, CLASSES, SHAPE, build, problem

from gencls.keys import example_keys
from gencls.models.likelihoods import LIKELIHOODS


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
