"""A mixture of normals for every class, fitted by EM: p(x | y) = Σ_k π_yk N(x; μ_yk, Σ_yk).

References:
  Dempster, Laird and Rubin 1977; Ghahramani and Hinton 1996 (the factor analyser).
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencls.keys import fold
from gencls.models import checks, covariance_names, fitting, mixture_em
from gencls.models.covariances import Covariance
from gencls.models.joint import joint
from gencls.settings import at_least
from gencls.types import Array, Classifier, FitData, Fitted, Key, Keys, Params

_LOG = logging.getLogger(__name__)

# log π of a component that is not there: finite, so that its gradient is zero and not NaN.
ABSENT = -1e30
MAX_FLOATS = 2**28  # of all parameters, one GiB
# Where none is given.
REG_COVAR = {"spherical": 1e-6, "diagonal": 1e-3, "factor_analyser": 1e-3, "full": 1e-3}


class _Setting(NamedTuple):
  """One point of the grid."""

  covariance: str
  num_components: int
  reg_covar: float


class _Em(NamedTuple):
  """How each mixture is fitted."""

  tol: float
  max_iterations: int
  kmeans_iterations: int


def gaussian_mixture(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  num_components: int | Sequence[int] = 60,
  covariance: str | Sequence[str] = "spherical",
  latent_size: int = 8,
  reg_covar: float | Sequence[float | None] | None = None,
  tol: float = 1e-3,
  max_iterations: int = 100,
  kmeans_iterations: int = 10,
) -> Classifier:
  """A mixture of normals per class.

  Several numbers of components, covariances or floors under them are a grid, of which the fit takes
  the point of best validation accuracy.

  Args:
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: p(y); uniform where None.
    num_components: of each class; every class needs as many examples.
    covariance: "spherical" (σ² I), "diagonal", "factor_analyser" (Λ Λᵀ + diagonal) or "full", for
      images of few pixels.
    latent_size: L, factors of the factor analyser.
    reg_covar: added to the diagonal of every covariance, so that a constant pixel has a density;
      > 0. None: 1e-6 for "spherical", whose one variance is an average over pixels, and 1e-3 for
      the others: the float32 error of their densities is in proportion to the largest precision,
      several nats at 1e-6. Accuracy may want still more: let validation decide between several,
      None among them. Of the fit: steps of gradient descent know no floor.
    tol: EM ends with an iteration that gains less, in nats per example.
    max_iterations: of EM, at most; where a class needs more, the log and the metrics say so.
    kmeans_iterations: of Lloyd's algorithm after the k-means++ start.

  Returns:
    A `Classifier` of "exact" scores.

  Raises:
    ValueError: if a number is out of range, a name is unknown, or "full" is too large.
  """
  grid = _grid(covariance, num_components, reg_covar)
  at_least(1, latent_size=latent_size, max_iterations=max_iterations)
  at_least(0, tol=tol, kmeans_iterations=kmeans_iterations)
  prior = checks.class_prior(class_prior, num_classes)
  most = max(setting.num_components for setting in grid)
  widest = covariance_names.most_general([setting.covariance for setting in grid])
  shape = covariance_names.build(widest, latent_size)
  _check_size(num_classes * most, int(np.prod(image_shape)), widest)

  def init(key: Key, x: Array, y: Array) -> Params:
    del y  # a small batch may lack a class
    flat, keys = x.reshape(len(x), -1), jax.random.split(key)
    chosen = jax.random.randint(keys[0], (num_classes * most,), 0, len(x))
    scale = jnp.sqrt(jnp.mean(jnp.var(flat, axis=0)) + grid[0].reg_covar)
    params = shape.start(keys[1], flat[chosen], scale)
    params |= {"log_weights": jnp.full(num_classes * most, -jnp.log(float(most)))}
    return jax.tree.map(lambda leaf: leaf.reshape(num_classes, most, *leaf.shape[1:]), params)

  def log_likelihood(params: Params, x: Array) -> Array:
    return _log_likelihood(shape, params, x.reshape(len(x), -1))

  def sample(params: Params, keys: Keys, y: Array) -> Array:
    draw = lambda key, y: _draw(shape, jax.tree.map(lambda leaf: leaf[y], params), key)  # noqa: E731
    x = jax.vmap(draw)(fold(keys, "x"), y)
    return jnp.clip(x, 0.0, 1.0).reshape(-1, *image_shape)

  classifier = joint(init, log_likelihood, sample, prior)
  em = _Em(tol, max_iterations, kmeans_iterations)

  def fit(key: Key, data: FitData) -> Fitted:
    counts = fitting.class_counts(data.y, num_classes)
    if counts.min() < most:
      raise ValueError(
        f"num_components must be at most the examples of every class, got {most} for "
        f"{counts.min()} examples of class {counts.argmin()}: fit fewer components"
      )

    def fitted(setting: _Setting) -> Callable[[], Fitted]:
      one = covariance_names.build(setting.covariance, latent_size)

      def run() -> Fitted:
        mixtures = [
          _fit_class(jax.random.fold_in(key, c), x, weights, one, setting, em)
          for c, (x, weights) in enumerate(_classes(data, counts))
        ]
        padded = [
          _padded(covariance_names.widened(params, setting.covariance, widest, latent_size), most)
          for params, *_ in mixtures
        ]
        return Fitted(
          jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded),
          _metrics(setting, mixtures, counts, em),
        )

      return run

    settings = {_in_words(setting): setting for setting in grid}
    candidates = {words: fitted(setting) for words, setting in settings.items()}

    def axes(chosen: str) -> dict[str, list[float]]:
      alike = [each for each in grid if each.covariance == settings[chosen].covariance]
      return {
        name: [getattr(each, name) for each in alike] for name in ("num_components", "reg_covar")
      }

    return fitting.most_accurate(candidates, classifier.logits, data, axes=axes)

  return classifier._replace(fit=fit)


def _grid(
  covariance: str | Sequence[str],
  num_components: int | Sequence[int],
  reg_covar: float | Sequence[float | None] | None,
) -> list[_Setting]:
  names = (covariance,) if isinstance(covariance, str) else tuple(covariance)
  numbers = fitting.candidates(num_components)
  floors = tuple(reg_covar) if isinstance(reg_covar, Sequence) else (reg_covar,)
  given = [floor for floor in floors if floor is not None]
  if not names or not numbers or min(numbers) < 1:
    raise ValueError(
      f"num_components must be >= 1 and covariance one of {covariance_names.NAMES} or several, got "
      f"{num_components} and {covariance}"
    )
  if not floors or not all(floor > 0 for floor in given):
    raise ValueError(f"reg_covar must be > 0, or constant pixels have no density, got {reg_covar}")
  for name in names:
    covariance_names.build(name, 1)
  return [
    _Setting(name, number, REG_COVAR[name] if floor is None else floor)
    for name, number, floor in itertools.product(names, numbers, floors)
  ]


def _in_words(setting: _Setting) -> str:
  covariance, number, floor = setting
  return f"covariance={covariance} num_components={number} reg_covar={floor:g}"


def _check_size(components: int, pixels: int, covariance: str) -> None:
  if covariance == "full" and components * pixels**2 > MAX_FLOATS:
    raise ValueError(
      f'covariance "full" of {components} components and {pixels} pixels needs '
      f"{components * pixels**2 / 2**28:.1f} GiB, at most 1 is allowed: use fewer components, or "
      '"factor_analyser"'
    )


def _log_likelihood(covariance: Covariance, params: Params, x: Array) -> Array:
  """log p(x | y = c) of flat images, [B, C]."""

  mean = params["mean"]
  centre = jax.lax.stop_gradient(jnp.mean(mean, axis=(0, 1)))  # any will do, see `covariances`
  centred = params | {"mean": mean - centre[None, None]}
  log_weights = jax.nn.log_softmax(centred.pop("log_weights"), axis=1)
  flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), centred)
  log_p = covariance.log_density(flat, covariance.features(x - centre[None]), len(mean))
  log_p = log_p.reshape(len(x), *log_weights.shape)
  return jax.nn.logsumexp(log_p + log_weights[None], axis=2)


def _draw(covariance: Covariance, params: Params, key: Key) -> Array:
  """One flat image of the mixture of one class."""
  keys = jax.random.split(key)
  component = jax.random.categorical(keys[0], params["log_weights"])
  chosen = jax.tree.map(lambda leaf: leaf[component], params)
  return chosen["mean"] + covariance.noise(keys[1], chosen)


def _classes(data: FitData, counts: np.ndarray) -> Iterator[tuple[Array, Array]]:
  """(x [N, D], weights [N]) of class after class, all filled up to one size, to compile once."""
  x, y = np.asarray(data.x).reshape(len(data.x), -1), np.asarray(data.y)
  block = fitting.even_block(counts.max())
  size = -(-counts.max() // block) * block
  for c, count in enumerate(counts):
    weights = np.arange(size) < count
    yield jnp.pad(x[y == c], ((0, size - count), (0, 0))), jnp.asarray(weights, jnp.float32)


def _fit_class(
  key: Key, x: Array, weights: Array, covariance: Covariance, setting: _Setting, em: _Em
) -> mixture_em.Mixture:
  """The mixture of one class."""
  centre = mixture_em.weighted_mean(x, weights)
  x = x - centre[None]
  block = fitting.even_block(len(x))
  data = mixture_em.in_blocks(x, weights, covariance=covariance, block=block)
  params = mixture_em.start(
    key,
    x,
    weights,
    data,
    setting.reg_covar,
    covariance=covariance,
    num_components=setting.num_components,
    kmeans_iterations=em.kmeans_iterations,
  )
  mixture = mixture_em.maximize_likelihood(
    params,
    data,
    setting.reg_covar,
    covariance=covariance,
    tol=em.tol,
    max_iterations=em.max_iterations,
  )
  mean = mixture.params["mean"] + centre[None]
  return mixture._replace(params=mixture.params | {"mean": mean})


def _padded(params: Params, most: int) -> Params:
  """With components of weight zero, copies of the first, up to `most`."""
  missing = most - len(params["log_weights"])
  longer = jax.tree.map(
    lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, axis=0)]), params
  )
  log_weights = jnp.where(jnp.arange(most) < most - missing, longer["log_weights"], ABSENT)
  return longer | {"log_weights": log_weights}


def _metrics(
  setting: _Setting, mixtures: Sequence[mixture_em.Mixture], counts: np.ndarray, em: _Em
) -> dict[str, float]:
  unfinished = [c for c, mixture in enumerate(mixtures) if not mixture.converged]
  if unfinished:
    _LOG.warning(
      "EM of %s ended at max_iterations=%d for the classes %s, still gaining more than tol=%g: "
      "allow more iterations, or a larger tol",
      *(_in_words(setting), em.max_iterations, unfinished, em.tol),
    )
  log_lik = np.average([mixture.log_lik for mixture in mixtures], weights=counts)
  return {
    f"covariance_{setting.covariance}": 1.0,
    "num_components": float(setting.num_components),
    "reg_covar": float(setting.reg_covar),
    "log_lik_mean": float(log_lik),  # log p(x | y) of the training images
    "iterations": float(max(mixture.iterations for mixture in mixtures)),
    "converged": float(not unfinished),
  }
