"""Classifiers on the latent of a variational encoder, trained for the labels or for the images.

  vae_classifier               −log p(y | z), z ~ q(z | x); with a KL weight β the deep variational
                               information bottleneck
  pretrained_vae_classifier    first a VAE, −ELBO of p(z) p(x | z); then −log p(y | z) with the
                               encoder frozen as it was, so that the labels never reach it

At test z is the mean of q(z | x): no randomness. The published classifier has no KL term and,
unlike its text, a convolutional encoder.

References:
  "Exploring Generative Classifiers for Adversarial Robustness on MNIST"; Alemi et al. 2017,
  arXiv:1612.00410.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from gencls import densities
from gencls.keys import fold
from gencls.models import checks, likelihoods
from gencls.models.likelihoods import floored_log_scale
from gencls.nets.apply import apply
from gencls.nets.conv import Conv
from gencls.nets.images import ConvDecoder
from gencls.nets.mlp import MLP, ConcatDense, he_init
from gencls.settings import at_least
from gencls.types import Array, Classifier, Key, Keys, Loss, Params


class _Encoder(nn.Module):
  """4×4 convolutions of stride 2 with ReLU, then mean and raw log scale of q(z | x)."""

  channels: Sequence[int]
  latent_size: int

  @nn.compact
  def __call__(self, x: Array, keys: Keys | None = None) -> Array:
    """[B, H, W, D] -> [B, 2·L]."""
    del keys
    for width in self.channels:
      x = nn.relu(Conv(width, kernel_size=(4, 4), strides=2, kernel_init=he_init)(x))
    init = nn.initializers.lecun_normal()
    return ConcatDense(2 * self.latent_size, kernel_init=init)([x.reshape(x.shape[0], -1)])


def _posterior(encoder: _Encoder, params: Params, x: Array) -> tuple[Array, Array]:
  """Mean and log standard deviation of q(z | x), [B, L] each."""
  mean, raw = jnp.split(apply(encoder, params, x), 2, axis=-1)
  return mean, floored_log_scale(raw)


def _draw(keys: Keys, mean: Array, log_scale: Array) -> Array:
  noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(fold(keys, "q"))
  return mean + jnp.exp(log_scale) * noise


def _checked(num_classes: int, prior: Sequence[float] | None, **sizes: int | Sequence[int]) -> None:
  checks.class_prior(prior, num_classes)
  checks.sizes(**sizes)


def vae_classifier(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  latent_size: int = 32,
  hidden_size: int = 20,
  channels: Sequence[int] = (64, 128),
  kl_weight: float = 0.0,
) -> Classifier:
  """p(y | z) on a noisy code z ~ q(z | x) in training, on its mean at test.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: checked and not used, the posterior learns it; every model is built alike.
    latent_size: L.
    hidden_size: units of the head's layer.
    channels: of the stride-2 convolutions.
    kl_weight: β of KL(q(z | x) ‖ N(0, I)) in the loss, >= 0; 0 is the published one.

  Returns:
    A `Classifier` whose logits are "posterior" scores.

  Raises:
    ValueError: if a number is out of its range.
  """
  del image_shape
  _checked(
    num_classes, class_prior, latent_size=latent_size, hidden_size=hidden_size, channels=channels
  )
  at_least(0, kl_weight=kl_weight)
  encoder = _Encoder(tuple(channels), latent_size)
  head = MLP((hidden_size,), num_classes)

  def init(key: Key, x: Array, y: Array) -> Params:
    del y
    keys = jax.random.split(key)
    z = jnp.zeros((len(x), latent_size))
    return {
      "encoder": encoder.init(keys[0], x)["params"],
      "head": head.init(keys[1], [z])["params"],
    }

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del step
    mean, log_scale = _posterior(encoder, params["encoder"], x)
    z = _draw(keys, mean, log_scale)
    log_p_y = densities.categorical(
      jax.nn.one_hot(y, num_classes), apply(head, params["head"], [z])
    )
    kl = densities.kl_to_standard_normal(mean, log_scale)
    return Loss(kl_weight * kl - log_p_y, {"log_p_y": log_p_y, "kl": kl})

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    del keys
    mean, _ = _posterior(encoder, params["encoder"], x)
    return apply(head, params["head"], [mean])

  return Classifier(init=init, loss=loss, logits=logits, score="posterior")


def pretrained_vae_classifier(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  pretrain_steps: int = 11000,
  latent_size: int = 32,
  hidden_size: int = 20,
  channels: Sequence[int] = (64, 128),
  decoder_size: int = 500,
  likelihood: str = "gaussian",
) -> Classifier:
  """p(y | z) on the frozen encoder of a VAE; see the module's docstring.

  The parameters hold the encoder twice: as it is trained, and "frozen" as the head sees it, its
  copy up to `pretrain_steps`. The gradient does not reach the copy, whatever the optimizer does.
  The loss terms of the phase that is not on are 0, and accuracy is chance in the first.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: checked and not used, the posterior learns it; every model is built alike.
    pretrain_steps: training steps of the VAE, >= 1; the head is trained in all later ones, of which
      there has to be one (launch/train.py looks).
    latent_size: L.
    hidden_size: units of the head's layer.
    channels: of the stride-2 convolutions; the decoder mirrors them.
    decoder_size: units of the decoder's first layer.
    likelihood: of the VAE, a key of `likelihoods.LIKELIHOODS`.

  Returns:
    A `Classifier` whose logits are "posterior" scores.

  Raises:
    ValueError: if a number is out of its range or a name is unknown.
  """
  _checked(
    num_classes,
    class_prior,
    latent_size=latent_size,
    hidden_size=hidden_size,
    channels=channels,
    decoder_size=decoder_size,
  )
  at_least(1, pretrain_steps=pretrain_steps)
  density = likelihoods.build(likelihood)
  encoder = _Encoder(tuple(channels), latent_size)
  decoder = ConvDecoder(image_shape, tuple(channels), decoder_size)
  head = MLP((hidden_size,), num_classes)
  num_pixels = math.prod(image_shape)

  def init(key: Key, x: Array, y: Array) -> Params:
    del y
    keys = jax.random.split(key, 3)
    z = jnp.zeros((len(x), latent_size))
    trained = encoder.init(keys[0], x)["params"]
    return {
      "encoder": trained,
      "frozen": jax.tree.map(jnp.copy, trained),
      "decoder": decoder.init(keys[1], [z])["params"],
      "head": head.init(keys[2], [z])["params"],
      "likelihood": density.init(),
    }

  def reconstruction(params: Params, keys: Keys, x: Array, y: Array) -> dict[str, Array]:
    del y
    mean, log_scale = _posterior(encoder, params["encoder"], x)
    output = apply(decoder, params["decoder"], [_draw(keys, mean, log_scale)])
    log_p_x = density.log_prob(params["likelihood"], x.reshape(len(x), -1), output)
    kl = densities.kl_to_standard_normal(mean, log_scale)
    return {"elbo": log_p_x - kl, "log_p_x": log_p_x, "kl": kl, "log_p_y": jnp.zeros(len(x))}

  def classification(params: Params, keys: Keys, x: Array, y: Array) -> dict[str, Array]:
    z = _draw(keys, *_posterior(encoder, jax.lax.stop_gradient(params["frozen"]), x))
    log_p_y = densities.categorical(
      jax.nn.one_hot(y, num_classes), apply(head, params["head"], [z])
    )
    zeros = jnp.zeros(len(x))
    return {"elbo": zeros, "log_p_x": zeros, "kl": zeros, "log_p_y": log_p_y}

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    pretraining = step < pretrain_steps
    frozen = jax.tree.map(  # the last time when the VAE has made its last step
      lambda new, old: jnp.where(step <= pretrain_steps, new, old),
      params["encoder"],
      params["frozen"],
    )
    given = (params | {"frozen": frozen}, keys, x, y)
    terms = jax.lax.cond(pretraining, reconstruction, classification, *given)
    shown = terms | {
      name: jnp.where(pretraining, value, 0.0)
      for name, value in density.terms(terms["log_p_x"], num_pixels).items()
    }
    return Loss(-terms["elbo"] - terms["log_p_y"], shown, {"frozen": frozen})

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    del keys
    mean, _ = _posterior(encoder, params["frozen"], x)
    return apply(head, params["head"], [mean])

  return Classifier(init=init, loss=loss, logits=logits, score="posterior")
