"""The annulus counter-example: a nearly perfect density model with undetectable attacks.

With U(a, b) uniform on {v in R^d: a <= ‖v‖ < b}, the data p and the model q are, both classes being
equally likely,

  p(v | 0) = λ₁ U(0, 1) + (1 − λ₁) U(1, 1 + Δ)      q(v | 0) = U(0, 1 + Δ)
  p(v | 1) = λ₂ U(0, 1) + (1 − λ₂) U(2, 3)          q(v | 1) = p(v | 1)

In many dimensions both KL(q ‖ p) and KL(p ‖ q) are small. Yet q takes the unit ball for class 1, so
that half of the data, those in 1 <= ‖v‖ < 1 + Δ, can be moved into it by at most Δ; there q(v) is
higher than where they were, so that no density of q tells.

Images hold v as (v + 3) / 6: floats in [0, 1], because 256 levels are coarser than the annulus is
thin. `gencls.models.annulus` has the densities as classifiers.

References:
  Fetaya et al. 2020, arXiv:1906.01171, section 2 and appendix D.
"""

import math
from typing import NamedTuple

import numpy as np

from gencls.data.dataset import Dataset

RADIUS = 3.0  # of everything: coordinates lie in [−3, 3]
# Radii stay this share away from a ring's ends, so that rounding to float32 does not leave it.
_INSET = 1e-5


class Spec(NamedTuple):
  """Which counter-example; the default is one whose divergences are below 0.05, at δ = 1/11."""

  dims: int = 128  # d
  delta: float = 0.1  # Δ in (0, 1]
  lambda1: float = 4e-3
  lambda2: float = 4e-4


class Ring(NamedTuple):
  """A part of a class: uniform on inner <= ‖v‖ < outer."""

  weight: float
  inner: float
  outer: float


Density = tuple[tuple[Ring, ...], tuple[Ring, ...]]  # of v given class 0 and class 1


def check(spec: Spec) -> None:
  """Raises ValueError for numbers that make no counter-example."""
  if spec.dims < 1 or not 0 < spec.delta <= 1:
    raise ValueError(f"dims must be >= 1 and delta in (0, 1], got {spec.dims} and {spec.delta}")
  if not (0 < spec.lambda1 < 1 and 0 < spec.lambda2 < 1):
    raise ValueError(f"λ1 and λ2 must be in (0, 1), got {spec.lambda1} and {spec.lambda2}")


def data_density(spec: Spec) -> Density:
  """p, what the data are drawn from."""
  own = Ring(spec.lambda1, 0.0, 1.0), Ring(1 - spec.lambda1, 1.0, 1 + spec.delta)
  return own, model_density(spec)[1]


def model_density(spec: Spec) -> Density:
  """q, the model."""
  check(spec)
  other = Ring(spec.lambda2, 0.0, 1.0), Ring(1 - spec.lambda2, 2.0, RADIUS)
  return (Ring(1.0, 0.0, 1 + spec.delta),), other


def sample(density: Density, dims: int, seed: int, num: int) -> Dataset:
  """Draws from a density; classes by fair coins.

  Args:
    density: `data_density` or `model_density`.
    dims: d.
    seed: of all draws.
    num: how many.

  Returns:
    A `Dataset` of float32 images [num, d, 1, 1].
  """
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 2, num).astype(np.int32)
  weights = [np.array([ring.weight for ring in rings]) for rings in density]
  cuts = [np.cumsum(each)[:-1] for each in weights]
  coin = rng.random(num)
  part = np.where(labels == 0, np.searchsorted(cuts[0], coin), np.searchsorted(cuts[1], coin))
  ends = np.zeros((2, max(map(len, density)), 2))
  for y, rings in enumerate(density):
    ends[y, : len(rings)] = [ring[1:] for ring in rings]
  inner, outer = ends[labels, part].T
  # Uniform in volume, relative to the outer radius: R^d itself overflows.
  inside = (inner / outer) ** dims
  radius = outer * (inside + rng.random(num) * (1 - inside)) ** (1 / dims)
  radius = np.clip(radius, inner * (1 + _INSET), outer * (1 - _INSET))
  direction = rng.standard_normal((num, dims))
  points = radius[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
  return Dataset(
    name="annulus",
    split="test",
    source=f"drawn with seed {seed}",
    images=to_images(points),
    labels=labels,
    indices=np.arange(num, dtype=np.int32),
    num_classes=2,
    num_levels=256,
  )


def to_images(points: np.ndarray) -> np.ndarray:
  """[N, d] points as [N, d, 1, 1] float32 images in [0, 1]."""
  scaled = (np.asarray(points, np.float64) + RADIUS) / (2 * RADIUS)
  return scaled.astype(np.float32)[..., None, None]


def to_points(images: np.ndarray) -> np.ndarray:
  """[N, d, 1, 1] images as [N, d] float64 points."""
  flat = np.reshape(np.asarray(images, np.float64), (len(images), -1))
  return 2 * RADIUS * flat - RADIUS


def pulled_inside(images: np.ndarray) -> np.ndarray:
  """The attack: every point drawn straight into the unit ball, just below its surface."""
  points = to_points(images)
  norms = np.linalg.norm(points, axis=1, keepdims=True)
  return to_images(points * np.minimum(1.0, (1 - _INSET) / norms))


def divergences(spec: Spec) -> tuple[float, float]:
  """(KL(q ‖ p), KL(p ‖ q)) of the joint densities in nats, in closed form.

  With r = (1 + Δ)^−d, the share of q(v | 0) in the unit ball. The paper bounds them, and leaves out
  the half that is p(y = 0).
  """
  check(spec)
  inside, lam = (1 + spec.delta) ** -spec.dims, spec.lambda1
  q_p = _kl(inside, lam)
  return 0.5 * q_p, 0.5 * _kl(lam, inside)


def _kl(a: float, b: float) -> float:
  """The divergence of two coins."""
  return a * math.log(a / b) + (1 - a) * (math.log1p(-a) - math.log1p(-b))
