"""Classifiers with one latent z, from a table of parents and the networks of its nodes.

One recognition model q(z | x, y) serves every factorisation:

  w(z; x, y) = Σ_nodes log p(node | parents) − log q(z | x, y)
  training:    log mean_k exp w(z_k; x, y)      (the ELBO at K = 1, the importance-weighted bound above)
  prediction:  logits_c = log mean_k exp w(z_k; x, y_c),  z_k ~ q(z | x, y_c)

Samples of x given y draw z from p(z | y) where the graph has it, else from p(z), resampled in
proportion to p(y | ·); they are means of p(x | z, y), without the likelihood's pixel noise.

Cost: features of x once per image, heads over (x, y) once per class, and only what depends on z
once per (x, y, z).

References:
  Li, Bradshaw, Sharma 2019, arXiv:1802.06552; Burda et al. 2016, arXiv:1509.00519.
"""

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
from gencls.types import Array, Classifier, Key, Keys, Loss, Params


NUM_PROPOSALS = 64  # draws of z per sample where p(z | y) has to be resampled


class Networks(NamedTuple):
  """The networks of one model; a node without parents, or without x among them, needs none.

  `features[node]` maps x [B, H, W, D] to [B, F], once per image, for each node that has x as a
  parent and for "q". `heads[node]` maps the list of the parents' values to the node's parameters:
  two L for "q" and "z" (mean, raw log scale), C logits for "y", H·W·D outputs for "x".
  """

  features: dict[str, nn.Module]
  heads: dict[str, nn.Module]


class Settings(NamedTuple):
  """The numbers of a model that are not in its networks."""

  image_shape: tuple[int, int, int]
  num_classes: int
  latent_size: int
  class_prior: Sequence[float]  # p(y), used where y has no parents
  num_samples: int  # K at test
  train_samples: int  # K in training
  max_rows: int  # decoder rows processed at once
  max_saved_rows: int  # decoder rows whose activations a gradient may keep


def classifier(
  parents: Parents, networks: Networks, likelihood: Likelihood, settings: Settings
) -> Classifier:
  """The classifier of one factorisation; see the module's docstring."""
  log_prior = jnp.log(jnp.asarray(settings.class_prior, jnp.float32))
  generative = bool(parents["x"])

  def net(kind: str, node: str, params: Params, *args: Any, keys: Keys | None) -> Array:
    module = getattr(networks, kind)[node]
    keys = None if keys is None else fold(keys, kind, node)
    return module.apply({"params": params[kind][node]}, *args, keys)

  def gaussian(node: str, params: Params, values: list[Array], keys: Keys | None):
    mean, raw = jnp.split(net("heads", node, params, values, keys=keys), 2, axis=-1)
    return mean, floored_log_scale(raw)

  def encode(params: Params, x: Array, keys: Keys | None) -> dict[str, Array]:
    """Features of x for every node that sees it, {node: [B, 1, 1, F]}."""
    features = {node: net("features", node, params, x, keys=keys) for node in networks.features}
    return {node: h[:, None, None, :] for node, h in features.items()}

  def log_joint(params: Params, per_image: dict, z: Array) -> dict[str, Array]:
    """log p(node | parents) by node, {node: [B, M, K]}."""
    y, prior, drop = per_image["y"], per_image["z_prior"], per_image["dropout"]
    keys = None if drop is None else jax.random.wrap_key_data(drop, impl="threefry2x32")

    def values(node: str) -> list[Array]:
      known = {"x": per_image["features"].get(node), "y": y, "z": z}
      return [known[parent] for parent in parents[node]]

    logp = {"z": densities.normal(z, *prior) if prior else densities.standard_normal(z)}
    if parents["y"]:
      logp["y"] = densities.categorical(y, net("heads", "y", params, values("y"), keys=keys))
    else:
      logp["y"] = jnp.sum(y * log_prior[None, None, None], axis=-1)
    if generative:  # p_D(x) of a discriminative model is dropped: it is the same for every class
      output = net("heads", "x", params, values("x"), keys=keys)
      logp["x"] = likelihood.log_prob(params["likelihood"], per_image["x"], output)
    return {node: jnp.broadcast_to(value, z.shape[:3]) for node, value in logp.items()}

  def log_weights(
    params: Params, keys: Keys, x: Array, y: Array, num_samples: int, training: bool
  ) -> dict[str, Array]:
    """log p(node | parents) by node and log q, [B, M, K] each, for one-hot y [B, M, C]."""
    drop = fold(keys, "dropout") if training else None
    features = encode(params, x, drop)
    y = y[:, :, None, :]
    mean, log_scale = gaussian("q", params, [features.pop("q"), y], drop)
    shape = (y.shape[1], num_samples, settings.latent_size)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(fold(keys, "q"))
    z = mean + jnp.exp(log_scale) * noise
    # log q(z) in terms of its noise: the same value and gradient, without dividing by the scale.
    log_q = densities.standard_normal(noise) - jnp.sum(log_scale, axis=-1)

    prior = ()
    if parents["z"]:
      known = {"x": features.pop("z", None), "y": y}
      prior = gaussian("z", params, [known[parent] for parent in parents["z"]], drop)
    flat = x.reshape(x.shape[0], 1, 1, -1)
    per_image = {"x": flat, "y": y, "z_prior": prior, "features": features}
    per_image["dropout"] = jax.random.key_data(drop) if training else None
    rows = dict(max_rows=settings.max_rows, remat=math.prod(z.shape[:3]) > settings.max_saved_rows)
    logp = map_rows(lambda some, z: log_joint(params, some, z), per_image, z, **rows)
    return logp | {"q": log_q}

  def log_mean_weight(logp: dict[str, Array]) -> Array:
    """log mean_k p(x, y, z_k) / q(z_k | x, y), [B, M]."""
    log_w = sum(value for node, value in logp.items() if node != "q") - logp["q"]
    return jax.nn.logsumexp(log_w, axis=-1) - math.log(log_w.shape[-1])

  def init(key: Key, x: Array, y: Array) -> Params:
    keys = {node: jax.random.fold_in(key, i) for i, node in enumerate(("q", "x", "y", "z"))}
    batch = x.shape[0]
    known = {
      "y": jnp.zeros((batch, 1, 1, settings.num_classes)),
      "z": jnp.zeros((batch, 1, 1, settings.latent_size)),
    }
    params: dict[str, Any] = {"features": {}, "heads": {}, "likelihood": likelihood.init()}
    for node, module in networks.features.items():
      h, variables = module.init_with_output(jax.random.fold_in(keys[node], 0), x)
      params["features"][node] = variables.get("params", {})
      known[f"{node} features"] = h[:, None, None, :]
    for node, module in networks.heads.items():
      node_parents = ("x", "y") if node == "q" else parents[node]
      values = [known[f"{node} features" if parent == "x" else parent] for parent in node_parents]
      variables = module.init(jax.random.fold_in(keys[node], 1), values)
      params["heads"][node] = variables.get("params", {})
    return params

  def loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    del step
    one_hot = jax.nn.one_hot(y, settings.num_classes)[:, None, :]
    logp = log_weights(params, keys, x, one_hot, settings.train_samples, training=True)
    bound = log_mean_weight(logp)[:, 0]
    means = {node: jnp.mean(value, axis=(1, 2)) for node, value in logp.items()}
    name = "elbo" if settings.train_samples == 1 else "importance_weighted_bound"
    terms = {name: bound, "log_p_y": means["y"], "kl": means["q"] - means["z"]}
    if generative:
      terms |= {"log_p_x": means["x"]} | likelihood.terms(means["x"], math.prod(x.shape[1:]))
    return Loss(-bound, terms)

  def logits(params: Params, keys: Keys, x: Array) -> Array:
    classes = jnp.eye(settings.num_classes)[None]
    classes = jnp.broadcast_to(classes, (x.shape[0], *classes.shape[1:]))
    return log_mean_weight(
      log_weights(params, keys, x, classes, settings.num_samples, training=False)
    )

  def sample(params: Params, keys: Keys, y: Array) -> Array:
    one_hot = jax.nn.one_hot(y, settings.num_classes)[:, None, None, :]
    proposals = 1 if parents["y"] == () else NUM_PROPOSALS
    shape = (1, proposals, settings.latent_size)
    z = jax.vmap(lambda key: jax.random.normal(key, shape))(fold(keys, "z"))
    if parents["z"]:
      mean, log_scale = gaussian("z", params, [one_hot], None)
      z = mean + jnp.exp(log_scale) * z

    def draw_x(z: Array) -> Array:
      values = {"y": one_hot, "z": z}
      inputs = [values[parent] for parent in parents["x"]]
      return likelihood.mean(net("heads", "x", params, inputs, keys=None))

    if parents["y"]:
      values = {"z": z}
      if "x" in parents["y"]:
        x = draw_x(z).reshape(-1, *settings.image_shape)
        h = net("features", "y", params, x, keys=None)
        values["x"] = h.reshape(len(y), 1, proposals, -1)
      inputs = [values[parent] for parent in parents["y"]]
      logp = densities.categorical(one_hot, net("heads", "y", params, inputs, keys=None))
      best = jax.vmap(jax.random.categorical)(fold(keys, "resample"), logp[:, 0])
      z = jnp.take_along_axis(z, best[:, None, None, None], axis=2)
    return draw_x(z).reshape(-1, *settings.image_shape)

  return Classifier(
    init=init,
    loss=loss,
    logits=logits,
    score=likelihood.score if generative else "posterior",
    sample=sample if generative else None,
  )
