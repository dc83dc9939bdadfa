"""Images of a latent-variable model, given their class: drawn, decoded or reconstructed.

Where an image is drawn, z comes from p(z | y) where the graph has it; else from p(z), resampled in
proportion to p(y | ·) (sampling-importance-resampling, Rubin 1987). Images are the means of
p(x | z, y): the pixel noise of the likelihood is left out, as in the papers' figures.
"""

import jax
import jax.numpy as jnp

from gencls import densities
from gencls.keys import fold
from gencls.models.latent import Model, apply, normal_head
from gencls.types import Array, Keys, Params

NUM_PROPOSALS = 64  # draws of z per image where p(z | y) has to be resampled


def sample(model: Model, params: Params, keys: Keys, y: Array) -> Array:
  """Draws x ~ p(x | y).

  Args:
    model: a generative latent-variable model.
    params: pytree from `Classifier.init`.
    keys: [B] typed keys.
    y: [B] int32 labels.

  Returns:
    [B, H, W, D] float32.
  """
  one_hot = jax.nn.one_hot(y, model.num_classes)[:, None, None, :]
  proposals = NUM_PROPOSALS if model.parents["y"] else 1
  shape = (1, proposals, model.latent_size)
  z = jax.vmap(lambda key: jax.random.normal(key, shape))(fold(keys, "z"))
  if model.parents["z"]:
    mean, log_scale = normal_head(model, "z", params, [one_hot])
    z = mean + jnp.exp(log_scale) * z

  def mean_image(z: Array) -> Array:
    return _mean_image(model, params, z, one_hot)

  if model.parents["y"]:
    values = {"z": z}
    if "x" in model.parents["y"]:
      x = mean_image(z).reshape(-1, *model.image_shape)
      values["x"] = apply(model, "features", "y", params, x).reshape(len(y), 1, proposals, -1)
    inputs = [values[parent] for parent in model.parents["y"]]
    log_p_y = densities.categorical(one_hot, apply(model, "heads", "y", params, inputs))[:, 0]
    chosen = jax.vmap(jax.random.categorical)(fold(keys, "resample"), log_p_y)
    z = jnp.take_along_axis(z, chosen[:, None, None, None], axis=2)
  return mean_image(z).reshape(-1, *model.image_shape)


def decode(model: Model, params: Params, keys: Keys, z: Array, y: Array) -> Array:
  """The mean of p(x | z, y), differentiable in z.

  Args:
    model: a generative latent-variable model.
    params: pytree from `Classifier.init`.
    keys: [B] typed keys, not used: the decoder has no randomness.
    z: [B, L].
    y: [B] int32 labels.

  Returns:
    [B, H, W, D] float32.
  """
  del keys
  one_hot = jax.nn.one_hot(y, model.num_classes)[:, None, None, :]
  x = _mean_image(model, params, z[:, None, None, :], one_hot)
  return x.reshape(-1, *model.image_shape)


def reconstruct(model: Model, params: Params, keys: Keys, x: Array, y: Array) -> Array:
  """The image decoded from the mean of q(z | x, y): what class y makes of x.

  Args:
    model: a generative latent-variable model.
    params: pytree from `Classifier.init`.
    keys: [B] typed keys, not used: the mean has no randomness.
    x: [B, H, W, D] float32 in [0, 1].
    y: [B] int32 labels, not necessarily those of x.

  Returns:
    [B, H, W, D] float32.
  """
  features = apply(model, "features", "q", params, x)
  one_hot = jax.nn.one_hot(y, model.num_classes)
  mean, _ = normal_head(model, "q", params, [features, one_hot])
  return decode(model, params, keys, mean, y)


def _mean_image(model: Model, params: Params, z: Array, one_hot: Array) -> Array:
  values = {"y": one_hot, "z": z}
  inputs = [values[parent] for parent in model.parents["x"]]
  return model.likelihood.mean(apply(model, "heads", "x", params, inputs))
