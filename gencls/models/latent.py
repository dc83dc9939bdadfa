"""Classifiers with one latent z, from a table of parents and the networks of its nodes.

One recognition model q(z | x, y) serves every factorisation:

  w(z; x, y) = Σ_nodes log p(node | parents) − log q(z | x, y)
  training:    log mean_k exp w(z_k; x, y)   (K = 1: the ELBO; K > 1: importance-weighted)
  prediction:  logits_c = log mean_k exp w(z_k; x, y_c),  z_k ~ q(z | x, y_c)

Cost: features of x once per image, heads over (x, y) once per class, and only what depends on z
once per (x, y, z).

References:
  Li, Bradshaw, Sharma 2019, arXiv:1802.06552; Burda et al. 2016, arXiv:1509.00519.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gencls import densities
from gencls.keys import fold
from gencls.models.chunks import map_rows
from gencls.models.factorisations import Parents
from gencls.models.likelihoods import Likelihood, floored_log_scale
from gencls.models.row_gradients import row_gradients
from gencls.types import Array, Classifier, Key, Keys, Loss, Params


class Networks(NamedTuple):
  """The networks of one model; a node without parents needs none.

  `features[node]` maps x [B, H, W, D] to [B, F], once per image, for "q" and for each node that has
  x as a parent. `heads[node]` maps the list of the parents' values to the node's parameters: 2·L
  for "q" and "z" (mean, raw log scale), C logits for "y", H·W·D outputs for "x".
  """

  features: dict[str, nn.Module]
  heads: dict[str, nn.Module]


class Model(NamedTuple):
  """A latent-variable model: graph, networks, density of x, and its numbers."""

  parents: Parents
  networks: Networks
  likelihood: Likelihood
  image_shape: tuple[int, int, int]
  num_classes: int
  latent_size: int
  class_prior: Sequence[float]  # p(y), used where y has no parents
  num_samples: int  # K at test
  train_samples: int  # K in training
  kl_warmup_steps: int  # over which the objective's KL weight grows from 0 to 1
  max_rows: int  # rows of z whose activations fit the memory budget
  fast_rows: int  # the same, by speed: used in prediction
  kept_rows: int  # rows of which a gradient in x may be kept, not computed again
  detached_target: bool = False  # whether no gradient reaches the x of p(x | ·), as published


def classifier(model: Model) -> Classifier:
  """The classifier of one model; see the module's docstring."""
  return Classifier(
    init=functools.partial(_init, model),
    loss=functools.partial(_loss, model),
    logits=functools.partial(_logits, model),
    score=model.likelihood.score if model.parents["x"] else "posterior",
    log_weights=functools.partial(class_weights, model),
    gradient="detached_target" if model.detached_target else "exact",
  )


def apply(
  model: Model, kind: str, node: str, params: Params, inputs: Any, keys: Keys | None = None
) -> Array:
  """Runs the features or the head of one node; `keys` [B] switch dropout on."""
  module = getattr(model.networks, kind)[node]
  keys = None if keys is None else fold(keys, kind, node)
  return module.apply({"params": params[kind][node]}, inputs, keys)


def normal_head(
  model: Model, node: str, params: Params, inputs: list[Array], keys: Keys | None = None
) -> tuple[Array, Array]:
  """Mean and log standard deviation of q(z | x, y) or p(z | parents), [..., L] each."""
  mean, raw = jnp.split(apply(model, "heads", node, params, inputs, keys), 2, axis=-1)
  return mean, floored_log_scale(raw)


def log_joint(model: Model, params: Params, per_image: dict, z: Array) -> dict[str, Array]:
  """log p(node | parents) of every node that is not dropped.

  Args:
    model: the model.
    params: pytree from `Classifier.init`.
    per_image: what does not depend on z, see `log_weights`; leaves [b, ...].
    z: [b, M, k, L].

  Returns:
    {node: [b, M, k]}, nats.
  """
  y, prior, dropout = per_image["y"], per_image["z_prior"], per_image["dropout"]
  keys = None if dropout is None else jax.random.wrap_key_data(dropout, impl="threefry2x32")

  def inputs(node: str, y: Array, z: Array) -> list[Array]:
    values = {"x": per_image["features"].get(node), "y": y, "z": z}
    return [values[parent] for parent in model.parents[node]]

  logp = {"z": densities.normal(z, *prior) if prior else densities.standard_normal(z)}
  if model.parents["y"]:
    logp["y"] = densities.categorical(
      y, apply(model, "heads", "y", params, inputs("y", y, z), keys)
    )
  else:
    log_prior = jnp.log(jnp.asarray(model.class_prior, jnp.float32))
    logp["y"] = jnp.sum(y * log_prior[None, None, None], axis=-1)
  if model.parents["x"]:  # p_D(x) of a discriminative model is dropped: the same for every class

    def log_p_x(rest: tuple[Params, Array], x: Array, z: Array) -> Array:
      params, y = rest
      output = apply(model, "heads", "x", params, inputs("x", y, z), keys)
      return model.likelihood.log_prob(params["likelihood"], x, output)

    # Dropout means training, whose gradient is in the parameters.
    f = row_gradients(log_p_x) if keys is None else log_p_x
    logp["x"] = f((params, y), per_image["x"], z)
  return {node: jnp.broadcast_to(value, z.shape[:3]) for node, value in logp.items()}


def log_weights(
  model: Model,
  params: Params,
  keys: Keys,
  x: Array,
  y: Array,
  *,
  num_samples: int,
  training: bool = False,
  classes: Array | None = None,
) -> dict[str, Array]:
  """The parts of the importance weights w(z_k; x, y_m), z_k ~ q(z | x, y_m).

  Args:
    model: the model.
    params: pytree from `Classifier.init`.
    keys: [B] typed keys.
    x: [B, H, W, D] float32 in [0, 1].
    y: [B, M, C] one-hot labels.
    num_samples: K, static.
    training: switches dropout on.
    classes: [B, M] int32, those of `y` among all C: their noise is then that which they have where
      all are drawn at once.

  Returns:
    log p(node | parents) by node, and log q(z | x, y) under "q": {name: [B, M, K]}, nats.
  """
  dropout = fold(keys, "dropout") if training else None
  features = {
    node: apply(model, "features", node, params, x, dropout)[:, None, None, :]
    for node in model.networks.features
  }
  y = y[:, :, None, :]
  mean, log_scale = normal_head(model, "q", params, [features.pop("q"), y], dropout)
  shape = (
    y.shape[1] if classes is None else model.num_classes,
    num_samples,
    model.latent_size,
  )
  noise = jax.vmap(lambda key: jax.random.normal(key, shape))(fold(keys, "q"))
  if classes is not None:
    noise = jnp.take_along_axis(noise, classes[:, :, None, None], axis=1)
  z = mean + jnp.exp(log_scale) * noise
  # log q(z) in terms of its noise: the same value and gradient, without dividing by the scale.
  log_q = densities.standard_normal(noise) - jnp.sum(log_scale, axis=-1)

  prior = ()
  if model.parents["z"]:
    values = {"x": features.pop("z", None), "y": y}
    inputs = [values[parent] for parent in model.parents["z"]]
    prior = normal_head(model, "z", params, inputs, dropout)
  per_image = {
    "x": (jax.lax.stop_gradient(x) if model.detached_target else x).reshape(len(x), 1, 1, -1),
    "y": y,
    "features": features,
    "z_prior": prior,
    "dropout": None if dropout is None else jax.random.key_data(dropout),
  }
  logp = map_rows(
    functools.partial(log_joint, model, params),
    per_image,
    z,
    max_rows=model.max_rows if training else min(model.max_rows, model.fast_rows),
    remat=math.prod(z.shape[:3]) > (model.max_rows if training else model.kept_rows),
  )
  return logp | {"q": log_q}


def merge(logp: dict[str, Array], beta: Array | float = 1.0) -> Array:
  """The importance weights from their parts, [B, M, K] nats.

  `beta` weighs log p(z | ·) − log q(z | x, y); the importance weight has 1.
  """
  log_w = beta * (logp["z"] - logp["q"])
  return log_w + sum(value for node, value in logp.items() if node not in ("z", "q"))


def log_mean(log_w: Array) -> Array:
  """log mean_k exp(log_w), [B, M, K] -> [B, M] nats."""
  return jax.nn.logsumexp(log_w, axis=-1) - math.log(log_w.shape[-1])


def _init(model: Model, key: Key, x: Array, y: Array) -> Params:
  del y
  values = {
    "y": jnp.zeros((x.shape[0], 1, 1, model.num_classes)),
    "z": jnp.zeros((x.shape[0], 1, 1, model.latent_size)),
  }
  features, params = {}, {"features": {}, "heads": {}, "likelihood": model.likelihood.init()}
  for i, (node, module) in enumerate(model.networks.features.items()):
    h, variables = module.init_with_output(jax.random.fold_in(key, i), x)
    features[node], params["features"][node] = h[:, None, None, :], variables.get("params", {})
  for i, (node, module) in enumerate(model.networks.heads.items(), start=len(features)):
    parents = ("x", "y") if node == "q" else model.parents[node]
    inputs = [features[node] if parent == "x" else values[parent] for parent in parents]
    variables = module.init(jax.random.fold_in(key, i), inputs)
    params["heads"][node] = variables.get("params", {})
  return params


def _loss(model: Model, params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
  one_hot = jax.nn.one_hot(y, model.num_classes)[:, None, :]
  logp = log_weights(
    model, params, keys, x, one_hot, num_samples=model.train_samples, training=True
  )
  bound = log_mean(merge(logp))[:, 0]
  means = {node: jnp.mean(value, axis=(1, 2)) for node, value in logp.items()}
  name = "elbo" if model.train_samples == 1 else "importance_weighted_bound"
  terms = {name: bound, "log_p_y": means["y"], "kl": means["q"] - means["z"]}
  if model.parents["x"]:
    num_pixels = math.prod(model.image_shape)
    terms |= {"log_p_x": means["x"]} | model.likelihood.terms(means["x"], num_pixels)
  if model.kl_warmup_steps == 0:
    return Loss(-bound, terms)
  # Without it DBX never uses z: log p(y | z) gains at most what KL(q ‖ p(z | x)) costs
  # until p(z | x) has learnt the class (Sønderby et al. 2016).
  beta = jnp.minimum(step / model.kl_warmup_steps, 1.0)
  return Loss(-log_mean(merge(logp, beta))[:, 0], terms)


def class_weights(
  model: Model, params: Params, keys: Keys, x: Array, classes: Array | None = None
) -> Array:
  """The importance weights log w(z_k; x, y_c) of every class and sample, before they are merged.

  Args:
    model: the model.
    params: pytree from `Classifier.init`.
    keys: [B] typed keys.
    x: [B, H, W, D] float32 in [0, 1].
    classes: [B, M] int32, of these classes alone; None: of all C.

  Returns:
    [B, C or M, K] nats; `Classifier.logits` is their log-mean-exp over K.
  """
  if classes is None:
    y = jnp.broadcast_to(jnp.eye(model.num_classes)[None], (len(x), *(model.num_classes,) * 2))
  else:
    y = jax.nn.one_hot(classes, model.num_classes)
  parts = log_weights(model, params, keys, x, y, num_samples=model.num_samples, classes=classes)
  return merge(parts)


def _logits(
  model: Model, params: Params, keys: Keys, x: Array, classes: Array | None = None
) -> Array:
  return log_mean(class_weights(model, params, keys, x, classes))
