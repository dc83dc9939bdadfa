"""Conditional VAE: class templates decoded from prior draws, compared with the image.

Trained by the ELBO of p(z) p(x | z, y). At test K latents are drawn from the prior, the same for
all classes, and decoded once (`prepare`). Three rules turn the templates g(z_k, y) into scores:

  nearest           logit_y = −min_k ‖x − g(z_k, y)‖₂            (published, the better one)
  sum_of_squares    logit_y = −Σ_k ‖x − g(z_k, y)‖²               (published, the worse one)
  log_mean_exp      logit_y = log p(y) + log mean_k p(x | z_k, y)  (an estimate of log p(x, y))

References:
  Sohn et al. 2015. The rules: "Exploring Generative Classifiers for Adversarial Robustness on
  MNIST".
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gencls import densities
from gencls.keys import fold
from gencls.models import checks, likelihoods
from gencls.models.likelihoods import Likelihood, floored_log_scale
from gencls.models.products import squared_distances
from gencls.names import unknown_name
from gencls.nets.apply import apply
from gencls.nets.mlp import MLP
from gencls.settings import at_least
from gencls.types import Array, Classifier, Decoder, Key, Keys, Loss, Params


def _squared_distances(x: Array, templates: Array) -> Array:
  flat = templates.reshape(-1, templates.shape[-1])
  distances = squared_distances(x, jnp.sum(x**2, axis=1), flat)
  return distances.reshape(-1, *templates.shape[:2])


def _nearest(x: Array, templates: Array) -> Array:
  squared = jnp.min(_squared_distances(x, templates), axis=-1)
  return -jnp.sqrt(squared + 1e-12)  # 1e-12: a finite gradient where the image is a template


def _sum_of_squares(x: Array, templates: Array) -> Array:
  return -jnp.sum(_squared_distances(x, templates), axis=-1)


RULES: dict[str, Callable[[Array, Array], Array] | None] = {
  "nearest": _nearest,
  "sum_of_squares": _sum_of_squares,
  "log_mean_exp": None,  # needs the likelihood and the class prior, see `cvae`
}


def cvae(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  num_samples: int = 100,
  rule: str = "log_mean_exp",
  latent_size: int = 8,
  hidden_sizes: Sequence[int] = (512, 512),
  likelihood: str = "squared_error",
  dropout_rate: float = 0.0,
) -> Classifier:
  """A conditional VAE classifier.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: p(y); uniform where None. Only the rule "log_mean_exp" uses it.
    num_samples: K, prior draws per class; K >= 1.
    rule: how templates become scores, a key of `RULES`.
    latent_size: L.
    hidden_sizes: units of the encoder's layers; the decoder mirrors them.
    likelihood: a key of `likelihoods.LIKELIHOODS`.
    dropout_rate: of hidden layers, in training only.

  Returns:
    A `Classifier`; "estimate" for the rule "log_mean_exp" (with a likelihood that has all its
    constants), else "unnormalised".

  Raises:
    ValueError: if `num_samples` < 1 or a name is unknown.
  """
  at_least(1, num_samples=num_samples)
  checks.sizes(latent_size=latent_size, hidden_sizes=hidden_sizes)
  checks.dropout_rate(dropout_rate)
  if rule not in RULES:
    raise ValueError(unknown_name("rule", rule, RULES))
  density: Likelihood = likelihoods.build(likelihood)
  prior = checks.class_prior(class_prior, num_classes)
  encoder = MLP(tuple(hidden_sizes), 2 * latent_size, dropout_rate)
  decoder = MLP(tuple(hidden_sizes)[::-1], math.prod(image_shape), dropout_rate)

  def decode(params: Params, z: Array, y: Array, keys: Keys | None = None) -> Array:
    return apply(decoder, params["decoder"], [z, y], keys)

  def encode(params: Params, x: Array, y: Array, keys: Keys | None = None) -> tuple[Array, Array]:
    mean, raw = jnp.split(apply(encoder, params["encoder"], [x, y], keys), 2, axis=-1)
    return mean, floored_log_scale(raw)

  def init(key: Key, x: Array, y: Array) -> Params:
    flat, one_hot = x.reshape(len(x), -1), jax.nn.one_hot(y, num_classes)
    keys = jax.random.split(key)
    z = jnp.zeros((len(x), latent_size))
    return {
      "encoder": encoder.init(keys[0], [flat, one_hot])["params"],
      "decoder": decoder.init(keys[1], [z, one_hot])["params"],
      "likelihood": density.init(),
    }

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del step
    flat, one_hot = x.reshape(len(x), -1), jax.nn.one_hot(y, num_classes)
    mean, log_scale = encode(params, flat, one_hot, fold(keys, "encoder dropout"))
    noise = jax.vmap(lambda key: jax.random.normal(key, (latent_size,)))(fold(keys, "q"))
    z = mean + jnp.exp(log_scale) * noise
    output = decode(params, z, one_hot, fold(keys, "decoder dropout"))
    log_p_x = density.log_prob(params["likelihood"], flat, output)
    kl = densities.kl_to_standard_normal(mean, log_scale)
    log_p_y = jnp.log(jnp.asarray(prior, jnp.float32))[y]
    elbo = log_p_x + log_p_y - kl
    terms = {"elbo": elbo, "log_p_x": log_p_x, "log_p_y": log_p_y, "kl": kl}
    return Loss(-elbo, terms | density.terms(log_p_x, flat.shape[-1]))

  def prepare(params: Params, key: Key) -> Params:
    z = jax.random.normal(key, (1, num_samples, latent_size))
    z = jnp.broadcast_to(z, (num_classes, num_samples, latent_size))
    classes = jnp.eye(num_classes)[:, None, :]
    return params | {"templates": decode(params, z, classes)}

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    score = RULES[rule]  # no keys: the randomness is in `prepare`
    if score is not None:
      return score(x.reshape(len(x), -1), density.mean(params["templates"]))
    return jax.nn.logsumexp(log_weights(params, keys, x), axis=-1) - math.log(num_samples)

  def log_weights(params: Params, keys: Keys, x: Array) -> Array:
    del keys
    templates = params["templates"]
    outputs = templates.reshape(-1, templates.shape[-1])
    log_p = density.log_prob_of_each(params["likelihood"], x.reshape(len(x), -1), outputs)
    log_p = log_p.reshape(-1, *templates.shape[:2])
    return log_p + jnp.log(jnp.asarray(prior, jnp.float32)).reshape(1, -1, 1)

  def sample(params: Params, keys: Keys, y: Array) -> Array:
    z = jax.vmap(lambda key: jax.random.normal(key, (latent_size,)))(fold(keys, "z"))
    return mean_image(params, keys, z, y)

  def mean_image(params: Params, keys: Keys, z: Array, y: Array) -> Array:
    del keys  # the decoder has no randomness
    x = density.mean(decode(params, z, jax.nn.one_hot(y, num_classes)))
    return x.reshape(-1, *image_shape)

  def reconstruct(params: Params, keys: Keys, x: Array, y: Array) -> Array:
    mean, _ = encode(params, x.reshape(len(x), -1), jax.nn.one_hot(y, num_classes))
    return mean_image(params, keys, mean, y)

  return Classifier(
    init=init,
    loss=loss,
    logits=logits,
    score=density.score if rule == "log_mean_exp" else "unnormalised",
    prepare=prepare,
    sample=sample,
    log_weights=log_weights if rule == "log_mean_exp" else None,
    reconstruct=reconstruct,
    decoder=Decoder(mean_image, latent_size, num_classes),
  )
