"""Linear-Gaussian models with exact posteriors: the importance weights must not depend on z."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from linear_latent import (
  CLASSES,
  PIXELS,
  dense,
  exact_params,
  exact_problem,
  linear_model,
  raw_log_scale,
)

from gencls.keys import example_keys
from gencls.models import latent


def evidence(problem, prior):
  w, v, b, m, s, x = problem
  out = np.empty((len(x), CLASSES))
  for c in range(CLASSES):
    covariance = w @ np.diag(s[c] ** 2) @ w.T + 0.5 * np.eye(PIXELS)
    density = scipy.stats.multivariate_normal(w @ m[c] + v[:, c] + b, covariance)
    out[:, c] = density.logpdf(x) + np.log(prior[c])
  return out


@pytest.mark.parametrize("name", ["gfy", "gby"])
@pytest.mark.parametrize("num_samples", [1, 7, 64])
def test_exact_posterior_gives_the_evidence_for_every_k(name, num_samples):
  problem = exact_problem(with_label=name == "gfy")
  model = linear_model(name, num_samples)
  x = jnp.asarray(problem[-1], jnp.float32).reshape(-1, PIXELS, 1, 1)
  params = exact_params(name, problem)
  logits = latent.classifier(model).logits(params, example_keys(0, jnp.arange(4)), x)
  np.testing.assert_allclose(logits, evidence(problem, model.class_prior), rtol=1e-4)


def test_a_perturbed_posterior_is_noticed():
  problem = exact_problem(with_label=True)
  params = exact_params("gfy", problem)
  params["heads"]["q"]["ConcatDense_0"]["bias"] += 0.3
  model = linear_model("gfy", 7)
  x = jnp.asarray(problem[-1], jnp.float32).reshape(-1, PIXELS, 1, 1)
  logits = latent.classifier(model).logits(params, example_keys(0, jnp.arange(4)), x)
  error = np.abs(logits / evidence(problem, model.class_prior) - 1)
  assert error.max() > 1e-2


def test_gfz_against_quadrature_in_one_latent_dimension():
  rng = np.random.default_rng(3)
  w, v, b = (
    rng.normal(size=(PIXELS, 1)),
    rng.normal(size=(PIXELS, CLASSES)),
    rng.normal(size=PIXELS),
  )
  u, a = 0.5 * rng.normal(size=(1, CLASSES)), rng.normal(size=CLASSES)
  x = rng.uniform(size=(3, PIXELS))

  def joint(z, image, c):
    log_x = -np.sum((image - w[:, 0] * z - v[:, c] - b) ** 2) - PIXELS / 2 * np.log(np.pi)
    log_y = (u[0] * z + a)[c] - scipy.special.logsumexp(u[0] * z + a)
    return np.exp(log_x + log_y + scipy.stats.norm.logpdf(z))

  expected = np.log(
    [
      [scipy.integrate.quad(joint, -12, 12, (row, c), epsabs=0, limit=200)[0] for c in range(3)]
      for row in x
    ]
  )
  # q is the exact posterior of the linear-Gaussian part, without p(y | z): weights vary mildly.
  precision = 1 + 2 * np.sum(w**2)
  gain = 2 * w.T / precision
  q_kernel = np.zeros((PIXELS + CLASSES, 2))
  q_kernel[:PIXELS, :1] = gain.T
  q_kernel[PIXELS:, :1] = -(gain @ v).T
  q_bias = np.array([-(gain @ b)[0], raw_log_scale(precision**-0.5)])
  params = {
    "features": {"q": {}},
    "likelihood": {},
    "heads": {
      "q": dense(q_kernel, q_bias),
      "x": dense(np.concatenate([w.T, v.T]), b),
      "y": dense(u, a),
    },
  }
  model = linear_model("gfz", num_samples=200_000, latent_size=1)
  images = jnp.asarray(x, jnp.float32).reshape(-1, PIXELS, 1, 1)
  logits = jax.jit(latent.classifier(model).logits)(params, example_keys(1, jnp.arange(3)), images)
  # The weights p(y | z) vary by a tenth under q: the log of their mean has a standard error below
  # 3e-4 nats, of about 10.
  np.testing.assert_allclose(logits, expected, rtol=1e-4)
