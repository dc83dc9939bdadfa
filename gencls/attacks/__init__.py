"""Attacks by name. A new one is one new file and one line in `REGISTRY`."""

import inspect
from collections.abc import Callable
from typing import Any

from gencls.attacks import (
  apgd,
  auto_attack,
  blur,
  boundary,
  boundary_planes,
  carlini_wagner,
  contrast,
  ddn,
  deepfool,
  fab,
  fgsm,
  fmn,
  hop_skip_jump,
  latent_descent,
  mim,
  noise,
  pgd,
  pixel_flips,
  pointwise,
  salt_and_pepper,
  separable,
  spsa,
  square,
)
from gencls.attacks import objective as objectives
from gencls.attacks.cascade import Cascade, sequence
from gencls.attacks.run import AttackResult, Tally, run
from gencls.names import unknown_name
from gencls.settings import check_32_bits, check_finite, check_kinds
from gencls.types import Accept, Attack, LogitsFn

__all__ = [
  "ENSEMBLES",
  "REGISTRY",
  "AttackResult",
  "Cascade",
  "Tally",
  "build",
  "run",
  "sequence",
  "takes",
  "takes_eps",
]

# name -> factory(objective, **hyperparameters)
REGISTRY: dict[str, Callable[..., Attack]] = {
  "apgd": apgd.apgd,
  "binary_search_contrast": contrast.binary_search_contrast,
  "boundary": boundary.boundary,
  "carlini_wagner": carlini_wagner.carlini_wagner,
  "ddn": ddn.ddn,
  "deepfool": deepfool.deepfool,
  "fab": fab.fab,
  "fgm": fgsm.fgm,
  "fgsm": fgsm.fgsm,
  "fmn": fmn.fmn,
  "gaussian_blur": blur.gaussian_blur,
  "gaussian_noise": noise.gaussian_noise,
  "hop_skip_jump": hop_skip_jump.hop_skip_jump,
  "latent_descent": latent_descent.latent_descent,
  "linear_search_contrast": contrast.linear_search_contrast,
  "mim": mim.mim,
  "pgd": pgd.pgd,
  "pixel_flips": pixel_flips.pixel_flips,
  "pointwise": pointwise.pointwise,
  "salt_and_pepper": salt_and_pepper.salt_and_pepper,
  "separable": separable.separable,
  "spsa": spsa.spsa,
  "square": square.square,
  "uniform_noise": noise.uniform_noise,
}

# name -> factory(logits_fn, build=…, registry=…, loss=…, randomness=…, eot_samples=…, accept=…,
# accept_weight=…, **hyperparameters): sequences of attacks, each with an objective of its own
ENSEMBLES: dict[str, Callable[..., Cascade]] = {"auto_attack": auto_attack.auto_attack}


def takes(name: str, hyperparameter: str) -> bool:
  """Whether an attack's factory has a hyperparameter.

  Raises:
    ValueError: if there is no such attack.
  """
  return hyperparameter in inspect.signature(_factory(name)).parameters


def takes_eps(name: str) -> bool:
  """Whether an attack has a fixed budget; if not, it looks for the smallest perturbation.

  Raises:
    ValueError: if there is no such attack.
  """
  eps = inspect.signature(_factory(name)).parameters.get("eps")
  # Some minimum-norm attacks take one as a hint.
  return eps is not None and eps.default is inspect.Parameter.empty


def _factory(name: str) -> Callable[..., Any]:
  every = {**REGISTRY, **ENSEMBLES}
  if name not in every:
    raise ValueError(unknown_name("attack", name, every))
  return every[name]


def build(
  name: str,
  logits_fn: LogitsFn,
  *,
  loss: str = "margin",
  randomness: str = "fixed",
  eot_samples: int = 1,
  accept: Accept | None = None,
  accept_weight: float = 1.0,
  **hyperparameters: Any,
) -> Any:
  """An attack on `logits_fn` by the attack's name.

  Args:
    name: a name in `REGISTRY` or `ENSEMBLES`.
    logits_fn: (keys [B], x) -> [B, C] nats; a `jax.tree_util.Partial` of its parameters, or a
      plain function (see `objective.build`).
    loss: a name in `losses.LOSSES`. The members of an ensemble have their own; there it chooses the
      result of an example that no member breaks.
    randomness: "fixed" or "fresh", see `objective.build`.
    eot_samples: draws per query, under "fresh".
    accept: a detector that has to accept what counts as a success, see `objective.build`.
    accept_weight: of its score in the loss.
    **hyperparameters: those of the factory: `norm`, `eps`, `num_steps`, ….

  Returns:
    An `Attack`, or a `Cascade` for an ensemble, to be given to `run`.

  Raises:
    ValueError: if a name is unknown, a needed hyperparameter is missing or one is out of range, or
      the attack cannot pursue a detector.
  """
  shared: dict[str, Any] = {"loss": loss, "randomness": randomness, "eot_samples": eot_samples}
  shared |= {"accept": accept, "accept_weight": accept_weight}
  if name in ENSEMBLES:
    shared |= {"build": build, "registry": REGISTRY}
    _check_names(name, ENSEMBLES[name], {**hyperparameters, **shared})
    built = ENSEMBLES[name](logits_fn, **shared, **hyperparameters)
    check_finite(hyperparameters, f"{name}: ")
    return built
  factory = _factory(name)
  if accept is not None and name in boundary_planes.ATTACKS:
    raise ValueError(
      f"{name} pursues the boundaries between classes alone, and no detector: what it "
      "finds would say nothing of accept; take pgd, auto_attack, carlini_wagner or boundary"
    )
  _check_names(name, factory, hyperparameters)
  built = factory(objectives.build(logits_fn, **shared), **hyperparameters)
  check_finite(hyperparameters, f"{name}: ")  # where its own rules, which say more, have not
  return built


def _check_names(name: str, factory: Callable[..., Any], given: dict[str, Any]) -> None:
  parameters = {
    key: value
    for key, value in inspect.signature(factory).parameters.items()
    if value.kind is inspect.Parameter.KEYWORD_ONLY
  }
  for key in given:
    if key not in parameters:
      valid = [*parameters, "loss", "randomness", "eot_samples", "accept", "accept_weight"]
      raise ValueError(unknown_name(f"hyperparameter of {name}", key, valid))
  missing = [k for k, v in parameters.items() if v.default is v.empty and k not in given]
  if missing:
    raise ValueError(f"{name} needs {', '.join(missing)}; pass {missing[0]}=…")
  check_kinds(given, {key: p.annotation for key, p in parameters.items()}, f"{name}: ")
  check_32_bits(given, f"{name}: ")
