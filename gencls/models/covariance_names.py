"""The shapes of a covariance by name, and how one is written as a more general one."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from gencls.models.covariances import DIAGONAL, FULL, SPHERICAL, Covariance, precision_cholesky
from gencls.models.factor_analysis import factor_analyser
from gencls.names import unknown_name
from gencls.types import Array, Params

# Each is a special case of the next: what a choice between some of them has its parameters in.
NAMES = ("spherical", "diagonal", "factor_analyser", "full")


def build(name: str, latent_size: int) -> Covariance:
  """The covariance of that name.

  Raises:
    ValueError: if the name is unknown.
  """
  if name not in NAMES:
    raise ValueError(unknown_name("covariance", name, NAMES))
  shapes = {"spherical": SPHERICAL, "diagonal": DIAGONAL, "full": FULL}
  return shapes[name] if name in shapes else factor_analyser(latent_size)


def most_general(names: Sequence[str]) -> str:
  """The one that all of them are special cases of."""
  return max(names, key=NAMES.index)


def widened(params: Params, name: str, target: str, latent_size: int) -> Params:
  """The same components with the parameters of a more general covariance.

  Args:
    params: of M components of the covariance `name`.
    name: one of `NAMES`.
    target: the same, or a later one.
    latent_size: of the factor analyser, where there is one.
  """
  for step in NAMES[NAMES.index(name) : NAMES.index(target)]:
    params = _STEPS[step](params, latent_size)
  return params


def _to_diagonal(params: Params, latent_size: int) -> Params:
  del latent_size
  log_scale = jnp.broadcast_to(params["log_scale"][:, None], params["mean"].shape)
  return params | {"log_scale": log_scale}


def _to_factors(params: Params, latent_size: int) -> Params:
  return params | {"loadings": jnp.zeros((*params["mean"].shape, latent_size))}


def _to_full(params: Params, latent_size: int) -> Params:
  del latent_size
  loadings: Array = params["loadings"]
  own = jnp.exp(2 * params["log_scale"])
  shared = loadings @ jnp.swapaxes(loadings, 1, 2)
  covariance = shared + own[:, :, None] * jnp.eye(own.shape[1])[None]
  kept = {name: params[name] for name in ("log_weights", "mean")}
  return kept | {"precision_cholesky": precision_cholesky(covariance)}


_STEPS: dict[str, Callable[[Params, int], Params]] = {
  "spherical": _to_diagonal,
  "diagonal": _to_factors,
  "factor_analyser": _to_full,
}
