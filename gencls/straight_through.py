"""The straight-through estimator: thresholded inputs that gradient attacks can see through.

A threshold has the gradient zero almost everywhere, so that an attack by gradients finds nothing on
a model that binarises its input, and robustness is only seeming. The straight-through estimator
keeps the forward pass and takes the identity as its derivative, a backward pass differentiable
approximation (BPDA). A result obtained through it should name it.

References:
  Bengio et al. 2013, arXiv:1308.3432; Athalye et al. 2018, arXiv:1802.00420 (BPDA).
"""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.few_classes import takes_classes
from gencls.types import Array, Keys, LogitsFn

DEFAULT_THRESHOLD = 0.5  # the middle of [0, 1]; a pixel equal to it is on


def threshold(x: Array, at: float | Array = DEFAULT_THRESHOLD) -> Array:
  """1 where x >= at, else 0; the derivative in x is the identity.

  Args:
    x: floating point, any shape. A NaN stays NaN.
    at: the threshold, one number; equality goes to 1.

  Returns:
    Zeros and ones of the shape and dtype of x.

  Raises:
    ValueError: if x is not floating point, or `at` is not one number.
  """
  if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
    raise ValueError(
      f"threshold needs floating-point x, got {jnp.result_type(x)} (divide 8-bit images by 255)"
    )
  if jnp.ndim(at):
    raise ValueError(f"at must be one number, got shape {jnp.shape(at)}")
  x = jnp.asarray(x)
  return _threshold(x, jnp.asarray(at, x.dtype))


@jax.custom_jvp
def _threshold(x: Array, at: Array) -> Array:
  hard = jnp.where(x >= at, 1.0, 0.0).astype(x.dtype)
  return jnp.where(jnp.isnan(x), x, hard)


@_threshold.defjvp
def _identity(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
  return _threshold(*primals), tangents[0]


def replace(x: Array, value: Array) -> Array:
  """`value`, bit for bit, with the identity as its derivative in x, and none of its own.

  For operations on x without a useful derivative, of which `threshold` is one.

  Args:
    x: what the gradient goes to, floating point.
    value: of the shape of x, computed from it.

  Returns:
    `value` in the dtype of x.
  """
  return _replace(x, value.astype(x.dtype))


@jax.custom_jvp
def _replace(x: Array, value: Array) -> Array:
  del x
  return value


@_replace.defjvp
def _replace_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]):
  return _replace(*primals), tangents[0]


def check_threshold(at: float) -> None:
  """Raises ValueError for a threshold outside (0, 1]."""
  if not 0 < at <= 1:
    raise ValueError(f"at must be in (0, 1], or every pixel is the same, got {at}")


def binarize(logits_fn: LogitsFn, at: float = DEFAULT_THRESHOLD) -> Partial:
  """A model that sees only which pixels reach the threshold, with straight-through gradients.

  Args:
    logits_fn: (keys [B], x) -> [B, C]; a `jax.tree_util.Partial` of its parameters, or a plain
      function.
    at: the threshold, in (0, 1]; a pixel equal to it becomes 1.

  Returns:
    (keys [B], x) -> [B, C], a `Partial` with the model's parameters and `at` as leaves.

  Raises:
    ValueError: if `at` is out of its range.
  """
  check_threshold(at)
  inner = logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)
  return Partial(_of_some if takes_classes(inner) else _of_all, inner, jnp.float32(at))


def _of_all(logits_fn: LogitsFn, at: Array, keys: Keys, x: Array) -> Array:
  return logits_fn(keys, threshold(x, at))


def _of_some(
  logits_fn: LogitsFn, at: Array, keys: Keys, x: Array, classes: Array | None = None
) -> Array:
  some = {} if classes is None else {"classes": classes}
  return logits_fn(keys, threshold(x, at), **some)
