"""Classifiers by name: one family per file, each a factory of a `Classifier`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from gencls.models import compositions, deep_latent
from gencls.models.cnn import cnn
from gencls.models.cvae import cvae
from gencls.models.gaussian_mixture import gaussian_mixture
from gencls.models.inputs import checked
from gencls.models.ising import ising
from gencls.models.logistic_regression import logistic_regression
from gencls.models.mlp import mlp
from gencls.models.naive_bayes import bernoulli_naive_bayes, gaussian_naive_bayes
from gencls.models.vae_classifier import pretrained_vae_classifier, vae_classifier
from gencls.names import unknown_name
from gencls.settings import annotations, check_finite, check_kinds
from gencls.types import Classifier

# In the zoo of docs/published/nus.json "gfz" is called CNN-VAE, "ising" MRF and "mlp" vanilla
# network.
REGISTRY: dict[str, Callable[..., Classifier]] = {
  **deep_latent.FACTORIES,
  "cvae": cvae,
  "cnn": cnn,
  "vae_classifier": vae_classifier,
  "pretrained_vae_classifier": pretrained_vae_classifier,
  **compositions.FACTORIES,
  "ising": ising,
  "gaussian_naive_bayes": gaussian_naive_bayes,
  "bernoulli_naive_bayes": bernoulli_naive_bayes,
  "gaussian_mixture": gaussian_mixture,
  "logistic_regression": logistic_regression,
  "mlp": mlp,
}


def build(
  name: str,
  *,
  image_shape: Sequence[int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  **hyperparameters: Any,
) -> Classifier:
  """The classifier of that name.

  Args:
    name: a key of `REGISTRY`.
    image_shape: (H, W, D) of the images.
    num_classes: C >= 2.
    class_prior: p(y), from the training labels; uniform where None.
    **hyperparameters: of the model's factory, see its docstring.

  Returns:
    A `Classifier`.

  Raises:
    ValueError: if a name is unknown (the nearest valid ones are listed) or a value is out of range.
  """
  if name not in REGISTRY:
    raise ValueError(unknown_name("model", name, REGISTRY))
  if len(image_shape) != 3:
    raise ValueError(f"image_shape must be (H, W, D), got {tuple(image_shape)}")
  if num_classes < 2:
    raise ValueError(f"num_classes must be >= 2, got {num_classes}")
  kinds = annotations(REGISTRY[name])
  for hyperparameter in hyperparameters:
    if hyperparameter not in kinds:
      raise ValueError(unknown_name(f"hyperparameter of {name!r}", hyperparameter, kinds))
  check_kinds(hyperparameters, kinds, "model.")
  check_finite(hyperparameters, "model.")
  arguments = hyperparameters | {
    "image_shape": image_shape,
    "num_classes": num_classes,
    "class_prior": None if class_prior is None else [float(share) for share in class_prior],
  }
  hashable = {k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
              for k, v in arguments.items()}  # fmt: skip
  return _build(name, **hashable)


@functools.cache
def _build(name: str, **arguments: Any) -> Classifier:
  # The same hyperparameters give the same functions: what is compiled for one set of parameters
  # serves every other one.
  return checked(REGISTRY[name](**arguments), arguments["image_shape"], arguments["num_classes"])
