"""Models that are another model behind a threshold or a denoiser."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from gencls.models.binarized import binarize
from gencls.models.cnn import cnn
from gencls.models.deep_latent import deep_latent
from gencls.models.denoised import denoise
from gencls.models.lattice import check_one_channel
from gencls.models.logistic_regression import logistic_regression
from gencls.nets.crf import LEFT_OUT
from gencls.straight_through import DEFAULT_THRESHOLD
from gencls.types import Classifier

Factory = Callable[..., Classifier]


def compose(outer: Factory, inner: Factory, **fixed: Any) -> Factory:
  """The factory of outer(inner(**of the inner one), **of the outer one).

  Args:
    outer: maps a classifier, its first parameter, and hyperparameters to a classifier.
    inner: a model's factory.
    **fixed: hyperparameters of the inner one that the composition decides.

  Returns:
    A factory whose signature has the other hyperparameters of both.

  Raises:
    ValueError: if both have a hyperparameter of the same name.
  """
  signature = inspect.signature(inner).parameters
  of_inner = {name: each for name, each in signature.items() if name not in fixed}
  of_outer = dict(list(inspect.signature(outer).parameters.items())[1:])
  both = sorted(of_inner.keys() & of_outer.keys())
  if both:
    raise ValueError(f"hyperparameters of composed factories must differ, got twice: {both}")

  def build(**hyperparameters: Any) -> Classifier:
    own = {name: hyperparameters.pop(name) for name in of_outer if name in hyperparameters}
    return outer(inner(**hyperparameters, **fixed), **own)

  parameters = [
    p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*of_inner.values(), *of_outer.values())
  ]
  build.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
    parameters, return_annotation=Classifier
  )
  return build


def _binary(classifier: Classifier, at: float = DEFAULT_THRESHOLD) -> Classifier:
  return binarize(classifier, at)


def _binary_linear(classifier: Classifier, at: float = DEFAULT_THRESHOLD) -> Classifier:
  # Of scores linear in the pixels the straight-through gradient is what a flip changes.
  return binarize(classifier, at)._replace(gradient="flip")


def _binary_estimate(classifier: Classifier, at: float = DEFAULT_THRESHOLD) -> Classifier:
  # A Bernoulli likelihood, an energy of grey images, is a probability of binary ones.
  return binarize(classifier, at, score="estimate")


def _of_grey_images(factory: Factory) -> Factory:
  """The same, refusing colours before anything is built: the denoiser has one spin per pixel."""

  @functools.wraps(factory)
  def build(*, image_shape: Sequence[int], **hyperparameters: Any) -> Classifier:
    check_one_channel(image_shape, "the denoiser")
    return factory(image_shape=image_shape, **hyperparameters)

  return build


def _with_crf(factory: Factory) -> Factory:
  """The same, refusing to be built without its layer: that is another model of the registry."""

  @functools.wraps(factory)
  def build(*, crf: str | None = "centre", **hyperparameters: Any) -> Classifier:
    if crf is None:
      raise ValueError(
        f"crf must be one of {', '.join(LEFT_OUT)}, got None: without it the model is gfz_binary"
      )
    return factory(crf=crf, **hyperparameters)

  return build


FACTORIES: dict[str, Factory] = {
  "cnn_binary": compose(_binary, cnn),
  "logistic_regression_binary": compose(_binary_linear, logistic_regression),
  "cnn_denoised": compose(denoise, _of_grey_images(cnn)),
  "gfz_binary": compose(
    _binary_estimate, functools.partial(deep_latent, "gfz"), likelihood="bernoulli"
  ),
  "gfz_crf": compose(
    _binary_estimate,
    _with_crf(functools.partial(deep_latent, "gfz", crf="centre")),
    likelihood="bernoulli",
  ),
}
