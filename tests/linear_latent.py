"""Linear-Gaussian latent-variable models, whose posterior q can be set to the exact one."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gencls import densities
from gencls.models import latent
from gencls.models.factorisations import FACTORISATIONS
from gencls.models.likelihoods import SCALE_FLOOR, Likelihood
from gencls.nets.mlp import ConcatDense

PIXELS, LATENTS, CLASSES = 6, 2, 3

LINEAR = Likelihood(
  init=dict,
  log_prob=lambda params, x, output: densities.squared_error(x, output),
  log_prob_of_each=lambda params, x, outputs: densities.squared_error(x[:, None], outputs[None]),
  mean=lambda output: output,
  score="estimate",
)


class Flatten(nn.Module):
  @nn.compact
  def __call__(self, x, keys=None):
    return x.reshape(x.shape[0], -1)


class Linear(nn.Module):
  features: int

  @nn.compact
  def __call__(self, inputs, keys=None):
    return ConcatDense(self.features)(inputs)


def linear_model(name, num_samples, latent_size=LATENTS):
  parents = FACTORISATIONS[name]
  heads = {"q": Linear(2 * latent_size), "x": Linear(PIXELS)}
  if parents["z"]:
    heads["z"] = Linear(2 * latent_size)
  if parents["y"]:
    heads["y"] = Linear(CLASSES)
  return latent.Model(
    parents=parents,
    networks=latent.Networks(features={"q": Flatten()}, heads=heads),
    likelihood=LINEAR,
    image_shape=(PIXELS, 1, 1),
    num_classes=CLASSES,
    latent_size=latent_size,
    class_prior=(0.2, 0.3, 0.5),
    num_samples=num_samples,
    train_samples=1,
    kl_warmup_steps=0,
    max_rows=10**6,
    fast_rows=10**6,
    kept_rows=10**6,
  )


def raw_log_scale(scale):
  return np.log(scale - SCALE_FLOOR)


def exact_problem(with_label, seed=0):
  """z | y ~ N(m_y, diag(s_y²)), x | z, y ~ N(W z + V y + b, ½I), W'W diagonal."""
  rng = np.random.default_rng(seed)
  columns = np.linalg.qr(rng.normal(size=(PIXELS, LATENTS)))[0]
  w = columns * rng.uniform(0.5, 2.0, LATENTS)
  v = rng.normal(size=(PIXELS, CLASSES)) * with_label
  b = rng.normal(size=PIXELS)
  m = rng.normal(size=(CLASSES, LATENTS))
  # One scale for all classes: the posterior mean is then linear in [x, one-hot y], as q is.
  s = np.repeat(rng.uniform(0.5, 1.5, size=(1, LATENTS)), CLASSES, axis=0)
  x = rng.uniform(size=(4, PIXELS))
  return w, v, b, m, s, x


def dense(kernel, bias):
  return {
    "ConcatDense_0": {
      "kernel": jnp.asarray(kernel, jnp.float32),
      "bias": jnp.asarray(bias, jnp.float32),
    }
  }


def exact_params(name, problem):
  w, v, b, m, s, _ = problem
  precision = 1 / s**2 + 2 * np.sum(w**2, axis=0)[None]  # W'W / ½ is diagonal
  # posterior mean = (m_y / s² + 2 W'(x − V y − b)) / precision
  gain = 2 * w.T / precision[0][:, None]
  offset = m / s**2 / precision - (gain @ (v + b[:, None])).T
  q_kernel = np.concatenate(
    [
      np.concatenate([gain.T, np.zeros((PIXELS, LATENTS))], axis=1),
      np.concatenate([offset, raw_log_scale(precision**-0.5)], axis=1),
    ]
  )
  x_kernel = np.concatenate([w.T, v.T]) if name == "gfy" else w.T
  z_kernel = np.concatenate([m, raw_log_scale(s)], axis=1)
  return {
    "features": {"q": {}},
    "likelihood": {},
    "heads": {
      "q": dense(q_kernel, np.zeros(2 * LATENTS)),
      "x": dense(x_kernel, b),
      "z": dense(z_kernel, np.zeros(2 * LATENTS)),
    },
  }
