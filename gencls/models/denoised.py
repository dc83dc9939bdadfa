"""An Ising denoiser in front of any classifier.

  E(ŝ | s) = −h Σ_i ŝ_i s_i − β Σ_<ij> ŝ_i ŝ_j,   s = 2 (x − centre) and ŝ = ±1, 4 neighbours

The classifier sees (m + 1) / 2 for some m of p(ŝ | s) ∝ exp(−E), after sweeps of the chequerboard.
`METHODS`, and how the gradient passes:

  mean_field  m_i = tanh(h s_i + β Σ_j m_j); exact: the gradient of what is computed. Where tanh
              saturates it vanishes: at β = 1 a quarter of MNIST's pixels have less than 1e-4, at
              the published 3 nearly all. Attack the model with a smaller β, or without gradients
  icm         ŝ_i = the sign of h s_i + β Σ_j ŝ_j, from the sign of s; straight through
  gibbs       the mean of E[ŝ_i | neighbours] over sweeps of Gibbs sampling; straight through
  one_shot    +1 where h s_i + β Σ_j s_j >= 0, −1 at the border: the published rule, which its 25
              sweeps repeat because they never write what they read; straight through its threshold

Straight through means that the derivative of the denoiser is taken to be the identity; through its
threshold, that of the field over h + 4 β, which knows that the neighbours decide: along it the
attacks of docs/results/nus_honest.md leave nearly nothing of the published rule at l2 2.
`BACKWARDS` has both.

References:
  Besag 1986 (iterated conditional modes); Geman, Geman 1984. The published rule: "Exploring
  Generative Classifiers for Adversarial Robustness on MNIST".
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gencls.keys import fold
from gencls.models.lattice import (
  Couplings,
  check_one_channel,
  gibbs_update,
  neighbour_field,
  sweep,
  uniform,
)
from gencls.models.preprocessed import preprocess
from gencls.names import unknown_name
from gencls.settings import at_least
from gencls.straight_through import replace
from gencls.types import Array, Classifier, Keys


class Ising(NamedTuple):
  """An energy and how long to sweep."""

  s: Array  # [B, H, W]
  h: float
  couplings: Couplings
  num_sweeps: int
  burn_in: int

  def external(self) -> Array:
    """The field of the observed image."""
    return self.h * self.s


Method = Callable[[Keys, Ising], Array]  # (keys [B], model) -> m [B, H, W]


def mean_field(keys: Keys, model: Ising) -> Array:
  """E[ŝ_i] under the best factorised distribution that sweeps from tanh(h s) lead to."""
  del keys

  def body(i: int, m: Array) -> Array:
    del i
    return sweep(model.couplings, external, m, lambda colour, field, m: jnp.tanh(field))

  external = model.external()
  return jax.lax.fori_loop(0, model.num_sweeps, body, jnp.tanh(external))


def icm(keys: Keys, model: Ising) -> Array:
  """A local minimum of the energy; a pixel whose field is zero stays as it is."""
  del keys

  def update(colour: int, field: Array, s: Array) -> Array:
    del colour
    return jnp.where(field == 0, s, jnp.sign(field))

  def body(i: int, s: Array) -> Array:
    del i
    return sweep(model.couplings, model.external(), s, update)

  return jax.lax.fori_loop(0, model.num_sweeps, body, _signs(model.s))


def gibbs(keys: Keys, model: Ising) -> Array:
  """E[ŝ_i] by Gibbs sampling: E[ŝ_i | neighbours] varies less than ŝ_i, with the same mean."""

  def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
    s, total = carry
    s = sweep(model.couplings, external, s, gibbs_update(fold(keys, "denoise", i)))
    mean = jnp.tanh(external + neighbour_field(model.couplings, s))
    return s, total + jnp.where(i >= model.burn_in, mean, 0.0)

  external = model.external()
  start = (_signs(model.s), jnp.zeros_like(external))
  _, total = jax.lax.fori_loop(0, model.burn_in + model.num_sweeps, body, start)
  return total / model.num_sweeps


def one_shot(keys: Keys, model: Ising) -> Array:
  """The published threshold: neighbours as they are observed, none for pixels at the border."""
  del keys
  field = model.external() + neighbour_field(model.couplings, model.s)
  weights = model.h + neighbour_field(model.couplings, jnp.ones_like(model.s))
  inside = jnp.zeros(field.shape[1:], bool).at[1:-1, 1:-1].set(True)[None]
  return jnp.where(inside, replace(field / weights, jnp.where(field >= 0, 1.0, -1.0)), -1.0)


def _signs(s: Array) -> Array:
  return jnp.where(s >= 0, 1.0, -1.0)


# The derivative of the others is that of what they return.
STRAIGHT_THROUGH = ("icm", "gibbs")
BACKWARDS = ("field", "straight_through")  # of one_shot
METHODS: dict[str, Method] = {
  "mean_field": mean_field,
  "icm": icm,
  "gibbs": gibbs,
  "one_shot": one_shot,
}


def denoise(
  classifier: Classifier,
  method: str = "mean_field",
  h: float = 0.2,
  beta: float = 0.2,
  num_sweeps: int = 10,
  burn_in: int = 5,
  centre: float = 0.5,
  backward: str | None = None,
  detached: bool = False,
) -> Classifier:
  """The classifier of denoised images.

  Args:
    classifier: the inner model, of images [B, H, W, 1].
    method: a key of `METHODS`.
    h: weight of the observed image, > 0.
    beta: weight of the neighbours, >= 0. Published: 3, at which the neighbours always outvote the
      pixel.
    num_sweeps: of the chequerboard; those that Gibbs sampling averages.
    burn_in: sweeps of Gibbs sampling before them.
    centre: the grey level that is neither bright nor dark. The published notebook denoises
      standardised images, which makes it the mean of MNIST, 0.1307.
    backward: of "one_shot", one of `BACKWARDS`: "field" (None), or the identity.
    detached: without any gradient through the denoiser, as published: attacks by gradients then see
      nothing, and the robustness is only seeming.

  Returns:
    A `Classifier` with the parameters of the inner one.

  Raises:
    ValueError: if a name is unknown or a number is out of its range; when it is called, if images
      have several channels.
  """
  if method not in METHODS:
    raise ValueError(unknown_name("method", method, METHODS))
  at_least(1, num_sweeps=num_sweeps)
  at_least(0, beta=beta, burn_in=burn_in)
  if h <= 0:
    raise ValueError(f"h must be > 0, or the image has no influence, got {h}")
  if backward is not None and method != "one_shot":
    raise ValueError(
      f"backward={backward!r} is a choice of method='one_shot' alone, got {method!r}: leave it None"
    )
  if backward not in (None, *BACKWARDS):
    raise ValueError(unknown_name("backward", backward, BACKWARDS))
  if not 0 < centre < 1:
    raise ValueError(f"centre must be in (0, 1), got {centre}")
  run = functools.partial(
    denoised,
    method=method, h=h, beta=beta, num_sweeps=num_sweeps, burn_in=burn_in, centre=centre,
    identity=method in STRAIGHT_THROUGH or backward == "straight_through",
  )  # fmt: skip
  if detached:
    return preprocess(classifier, lambda keys, x: jax.lax.stop_gradient(run(keys, x)), "detached")
  return preprocess(classifier, run, "exact" if method == "mean_field" else "straight_through")


def denoised(
  keys: Keys,
  x: Array,
  *,
  method: str,
  h: float,
  beta: float,
  num_sweeps: int,
  burn_in: int,
  centre: float,
  identity: bool | None = None,
) -> Array:
  """The denoised image, in [0, 1]; see `denoise`.

  Args:
    keys: [B]; only Gibbs sampling uses them, None will do for the others.
    x: [B, H, W, 1] float32 in [0, 1].
    method: a key of `METHODS`.
    h: weight of the observed image.
    beta: weight of the neighbours.
    num_sweeps: of the chequerboard.
    burn_in: of Gibbs sampling.
    centre: the grey level that is neither bright nor dark.
    identity: whether that is its derivative; None: of `STRAIGHT_THROUGH`.

  Returns:
    [B, H, W, 1] float32.

  Raises:
    ValueError: if images have several channels.
  """
  check_one_channel(jnp.shape(x), "the denoiser")
  s = 2 * (x[..., 0] - centre)
  m = METHODS[method](keys, Ising(s, h, uniform(beta, rank=3), num_sweeps, burn_in))
  clean = (m[..., None] + 1) / 2
  identity = method in STRAIGHT_THROUGH if identity is None else identity
  return replace(x, clean) if identity else clean
