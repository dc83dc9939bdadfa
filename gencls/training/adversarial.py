"""Adversarial training: the loss sees each example as an attack on the current parameters left it.

  min_θ E_{x, y} [(1 − w) · loss(θ, x_adv, y) + w · loss(θ, x, y)],   x_adv = attack(θ, x, y)

It wraps a `Classifier`, so that any model can be trained against any attack of a fixed budget. From
the first step on at its full eps, a small network may never leave the constant prediction; the
perturbation can rise to it.

References:
  Madry et al. 2018, arXiv:1706.06083; the clean share w: Goodfellow et al. 2015, arXiv:1412.6572;
  a budget that rises during training: Gowal et al. 2018, arXiv:1810.12715.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls import attacks, classify
from gencls.evaluation.model_options import with_threshold
from gencls.keys import fold
from gencls.logs import ROBUST_ACCURACY
from gencls.names import unknown_name
from gencls.types import Array, Attack, Classifier, Goal, Keys, LogitsFn, Loss, Params

LOSSES = ("model", "adversarial")


def with_loss(classifier: Classifier, name: str, settings: Mapping[str, Any]) -> Classifier:
  """What `train.loss` trains: "model" the classifier as it is, "adversarial" see `adversarial`.

  Args:
    classifier: what is trained.
    name: one of `LOSSES`.
    settings: of `adversarial`, the attack's own under "hyperparameters".

  Raises:
    ValueError: if the name is unknown, or a setting does not fit.
  """
  if name not in LOSSES:
    raise ValueError(unknown_name("train.loss", name, LOSSES))
  if name == "model":
    return classifier
  own = {key: value for key, value in settings.items() if key != "hyperparameters"}
  return adversarial(classifier, **own, **settings["hyperparameters"])


def adversarial(
  classifier: Classifier,
  *,
  attack: str = "pgd",
  loss: str = "cross_entropy",
  clean_weight: float = 0.0,
  warmup_steps: int = 0,
  **hyperparameters: Any,
) -> Classifier:
  """The classifier with its loss at attacked images; all else is as it was.

  The attack sees `logits` as prediction does (without dropout), under fresh randomness: one draw
  per step. Whatever it returns is trained on, success or not.

  Args:
    classifier: what is trained.
    attack: the name of an attack with an `eps`, no ensemble.
    loss: what the attack maximises, a name in `attacks.losses.LOSSES`.
    clean_weight: share of the loss at the clean images, in [0, 1).
    warmup_steps: training steps over which the trained-on image goes linearly from the clean one to
      the attacked one, x + min(1, (step + 1) / warmup_steps) · (x_adv − x); 0 is none.
    **hyperparameters: of the attack.

  Returns:
    A `Classifier` whose loss has the further terms "adversarial_total", "robust_accuracy" (0 or 1
    at the wholly attacked image, warm-up or not) and, where `clean_weight` is above 0,
    "clean_total"; its other terms are those at the images that are trained on.

  Raises:
    ValueError: if the attack or a hyperparameter does not exist or fit.
  """
  if not 0 <= clean_weight < 1:
    raise ValueError(
      f"clean_weight must be in [0, 1) (0 trains on attacked images alone), got {clean_weight}"
    )
  if warmup_steps < 0:
    raise ValueError(f"adversarial.warmup_steps must be >= 0 (0 is none), got {warmup_steps}")
  if attack in attacks.ENSEMBLES or not attacks.takes_eps(attack):
    fits = [name for name in attacks.REGISTRY if attacks.takes_eps(name)]
    raise ValueError(
      f"adversarial training needs an attack with an eps, got {attack!r}; there are "
      f"{', '.join(fits)}"
    )

  hyperparameters = with_threshold(attack, hyperparameters, classifier)

  def build(logits_fn: LogitsFn) -> Attack:
    return attacks.build(attack, logits_fn, loss=loss, randomness="fresh", **hyperparameters)

  build(lambda keys, x: x)  # a wrong hyperparameter fails here, and not in the first step

  def attacked_loss(params: Params, keys: Keys, x: Array, y: Array, step: Array) -> Loss:
    logits_fn = Partial(classifier.logits, jax.lax.stop_gradient(params))
    method = build(logits_fn)
    x_adv = perturb(method, fold(keys, "adversarial"), x, y)
    right = classify.correct(logits_fn(fold(keys, "robust"), x_adv), y)
    if warmup_steps:
      x_adv = x + jnp.minimum(1.0, (step + 1) / warmup_steps) * (x_adv - x)
    found = classifier.loss(params, keys, x_adv, y, step)
    total, terms = found.total, {**found.terms, "adversarial_total": found.total}
    terms[ROBUST_ACCURACY] = right.astype(jnp.float32)
    if clean_weight:
      clean = classifier.loss(params, keys, x, y, step).total
      total = (1 - clean_weight) * total + clean_weight * clean
      terms["clean_total"] = clean
    return found._replace(total=total, terms=terms)

  return classifier._replace(loss=attacked_loss)


def perturb(attack: Attack, keys: Keys, x: Array, y: Array) -> Array:
  """All steps of an untargeted attack inside a traced function; no gradient flows through them.

  Args:
    attack: from `attacks.build`.
    keys: [B].
    x: [B, H, W, D] float32 in [0, 1].
    y: [B] labels.

  Returns:
    [B, H, W, D] in the attack's ball and the box.
  """
  goal = Goal(label=y, target=jnp.full(y.shape, -1, jnp.int32))

  def step(state: Any, _: None) -> tuple[Any, None]:
    return attack.step(keys, state)[0], None

  state, _ = jax.lax.scan(step, attack.init(keys, x, goal), None, length=attack.num_steps)
  return jax.lax.stop_gradient(attack.result(state))
