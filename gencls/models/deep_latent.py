"""The deep latent-variable models of Li et al.: convolutional nets for the seven factorisations.

Differs from the authors' code: He initialisation (Glorot everywhere, with Adam at 1e-3, stays at
the black image for epochs), and standard deviations have a floor of 1e-3.

References:
  Li, Bradshaw, Sharma 2019, arXiv:1802.06552, appendix B, and their code (DeepBayes).
"""

import functools
import math
import sys
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from gencls.models import checks, latent, likelihoods, sampling
from gencls.models.factorisations import FACTORISATIONS, Y_HIDDEN_LAYERS, Parents
from gencls.nets.crf import CRFDecoder, MeanFieldCRF
from gencls.nets.images import ConvDecoder, ConvFeatures
from gencls.nets.mlp import MLP
from gencls.settings import at_least
from gencls.types import Classifier, Decoder

# Peak bytes of one decoder row, its input gradient and work space included, per byte of its
# activations. Checked with XLA's memory analysis (tests/models/test_latent.py).
PEAK_FACTOR = 12.0
# Bytes that a gradient keeps of a row between its two passes, copies included, per byte of them.
# Comes on top of the rows in work; both factors are generous.
KEPT_FACTOR = 4.0

# Rows at once in prediction where nothing is asked for. On CPU pieces that stay in the cache: 25 to
# 200 decoder rows are equally fast; accelerators want all of them.
FAST_ROWS = {"cpu": 100}

LIKELIHOOD = "squared_error"  # the published one


def deep_latent(
  factorisation: str,
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  class_prior: Sequence[float] | None = None,
  num_samples: int = 10,
  train_samples: int = 1,
  latent_size: int = 64,
  hidden_size: int = 500,
  channels: Sequence[int] = (64, 64, 64),
  likelihood: str = LIKELIHOOD,
  dropout_rate: float = 0.0,
  kl_warmup_steps: int = 0,
  memory_budget_gib: float = 2.0,
  max_rows: int | None = None,
  crf: str | None = None,
  detached_target: bool = False,
) -> Classifier:
  """A deep latent-variable classifier.

  Args:
    factorisation: a key of `FACTORISATIONS`.
    image_shape: (H, W, D).
    num_classes: C.
    class_prior: p(y), C positive numbers that sum to one; uniform where None.
    num_samples: K at test, at least 1.
    train_samples: K in training; above 1 the loss is the importance-weighted bound.
    latent_size: L.
    hidden_size: units of every hidden dense layer.
    channels: of the stride-2 convolutions of the encoders; the decoder mirrors them.
    likelihood: a key of `likelihoods.LIKELIHOODS`.
    dropout_rate: of hidden dense layers, in training only; in [0, 1).
    kl_warmup_steps: training steps over which the KL weight of the objective grows from 0 to 1.
    memory_budget_gib: what the decoder's activations may take at once, in GiB; of an attack that
      several workers share, in each.
    max_rows: rows of (x, y, z) processed at once in prediction, within the budget; None: what is
      fastest on the default backend.
    crf: a mean-field CRF on the decoder's logits, whose kernel leaves this out: "centre" or
      "row_and_column", see `nets.crf`; None: there is none.
    detached_target: a published mistake, to be reproduced: the image that p(x | ·) compares with is
      a constant for the gradient, which attacks then follow through the encoder alone.

  Returns:
    A `Classifier`; its score is "posterior" for the models that drop p(x), else the likelihood's.

  Raises:
    ValueError: if a number is out of its range, a name is unknown, or what only a decoder has is
      asked of a model without one.
  """
  prior = checks.class_prior(class_prior, num_classes)
  at_least(1, num_samples=num_samples, train_samples=train_samples)
  at_least(0, kl_warmup_steps=kl_warmup_steps)
  checks.sizes(latent_size=latent_size, hidden_size=hidden_size, channels=channels)
  checks.dropout_rate(dropout_rate)
  if max_rows is None:
    max_rows = max(num_classes, FAST_ROWS.get(jax.default_backend(), sys.maxsize))
  at_least(num_classes, max_rows=max_rows)  # a sample of each class
  if memory_budget_gib <= 0:
    raise ValueError(f"memory_budget_gib must be > 0, got {memory_budget_gib}")
  parents = FACTORISATIONS[factorisation]
  if not parents["x"]:
    _check_no_decoder(factorisation, likelihood, crf, detached_target)
  decoder: ConvDecoder | CRFDecoder = ConvDecoder(
    image_shape, tuple(channels), hidden_size, dropout_rate
  )
  if crf is not None:
    decoder = CRFDecoder(decoder, MeanFieldCRF(image_shape, left_out=crf))
  networks = _networks(
    factorisation,
    decoder,
    features=lambda: ConvFeatures(tuple(channels), hidden_size, dropout_rate),
    mlp=lambda layers, size: MLP((hidden_size,) * layers, size, dropout_rate),
    latent_size=latent_size,
    num_classes=num_classes,
  )
  hidden = 3 * hidden_size  # of the small networks, where there are any
  budget = memory_budget_gib * 2**30 / 4  # floats, as all that follows
  row = kept = PEAK_FACTOR * hidden
  if parents["x"]:
    row = PEAK_FACTOR * decoder.floats_per_row()
    kept = KEPT_FACTOR * (math.prod(image_shape) + latent_size + (hidden if parents["y"] else 0))
  model = latent.Model(
    parents=parents,
    networks=networks,
    likelihood=likelihoods.build(likelihood),
    image_shape=image_shape,
    num_classes=num_classes,
    latent_size=latent_size,
    class_prior=prior,
    num_samples=num_samples,
    train_samples=train_samples,
    kl_warmup_steps=kl_warmup_steps,
    detached_target=detached_target,
    max_rows=int(min(budget / row, sys.maxsize)),
    kept_rows=int(min(budget / kept, sys.maxsize)),
    fast_rows=max_rows,
  )
  classifier = latent.classifier(model)
  if not parents["x"]:
    return classifier
  return classifier._replace(
    sample=functools.partial(sampling.sample, model),
    reconstruct=functools.partial(sampling.reconstruct, model),
    decoder=Decoder(functools.partial(sampling.decode, model), latent_size, num_classes),
  )


def _check_no_decoder(
  factorisation: str, likelihood: str, crf: str | None, detached_target: bool
) -> None:
  if likelihood != LIKELIHOOD or crf is not None or detached_target:
    raise ValueError(
      f"likelihood, crf and detached_target are of a decoder, and {factorisation!r} has none (its "
      f"p(x) is dropped): leave them at {LIKELIHOOD!r}, None and False, got {likelihood!r}, "
      f"{crf!r} and {detached_target}"
    )


def _networks(
  factorisation: str,
  decoder: nn.Module,
  *,
  features: Callable[[], nn.Module],
  mlp: Callable[[int, int], nn.Module],
  latent_size: int,
  num_classes: int,
) -> latent.Networks:
  parents: Parents = FACTORISATIONS[factorisation]
  heads: dict[str, nn.Module] = {"q": mlp(1, 2 * latent_size)}
  if parents["x"]:
    heads["x"] = decoder
  if parents["y"]:
    heads["y"] = mlp(Y_HIDDEN_LAYERS.get(factorisation, 1), num_classes)
  if parents["z"]:
    heads["z"] = mlp(1, 2 * latent_size)
  seen_by = ["q", *(node for node in ("y", "z") if "x" in parents[node])]
  return latent.Networks(features={node: features() for node in seen_by}, heads=heads)


FACTORIES = {name: functools.partial(deep_latent, name) for name in FACTORISATIONS}
