"""The peers of `attack_strength.py`: Foolbox and torchattacks on the PyTorch twin of our CNN."""

# foolbox and eagerpy do not say what they export; torch and torchattacks are in their own lock.
# pyright: reportPrivateImportUsage=false, reportMissingImports=false

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from strength_rows import STANDARD
from torch import nn

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  import eagerpy
  import foolbox
  import torchattacks

Peer = Callable[[float | None], np.ndarray]  # eps, None where the attack has none -> x_adv


class Recording(nn.Module):
  """A model that counts passes, and keeps each image's nearest misclassified query in a budget.

  As AttackBench does (Cinà et al. 2024, arXiv:2404.19460). A pass over a part of the images counts
  as that part; such queries are not kept.
  """

  def __init__(self, model: Any, x: Any, labels: Any, norm: str, budget: int):
    """`x` [N, 1, H, W] and `labels` [N] are the attacked images."""
    super().__init__()
    self.model, self.x, self.labels, self.norm, self.budget = model, x, labels, norm, budget
    self.passes = 0.0  # per image, forward and backward
    self.distance = torch.full((len(x),), torch.inf)
    self.nearest = x.clone()
    self.eval()

  def forward(self, x: Any) -> Any:
    """The logits of x."""
    logits = self.model(x)
    share = len(x) / len(self.x)
    self.passes += share
    if logits.requires_grad:
      logits.register_hook(lambda gradient: self._count(share))
    if self.passes <= self.budget and x.shape == self.x.shape:
      order = {"linf": torch.inf, "l2": 2, "l1": 1}[self.norm]
      distance = torch.linalg.vector_norm((x.detach() - self.x).flatten(1), order, dim=1)
      wrong = logits.detach().argmax(1) != self.labels
      nearer = wrong & (distance < self.distance)
      self.distance = torch.where(nearer, distance, self.distance)
      self.nearest = torch.where(nearer[:, None, None, None], x.detach(), self.nearest)
    return logits

  def _count(self, share: float) -> None:
    self.passes += share


def to_torch(x: np.ndarray) -> Any:
  """[B, H, W, D] -> [B, D, H, W]."""
  return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def from_torch(x: Any) -> np.ndarray:
  """[B, D, H, W] -> [B, H, W, D]."""
  return np.ascontiguousarray(x.detach().numpy().transpose(0, 2, 3, 1))


def foolbox_attack(name: str, settings: dict[str, Any]) -> Any:
  """A Foolbox attack by the name of its class; a distance is given by its name."""
  kwargs = dict(settings)
  if "distance" in kwargs:
    kwargs["distance"] = getattr(foolbox.distances, kwargs["distance"])
  return getattr(foolbox.attacks, name)(**kwargs)


def jax_model(logits_fn: Callable[[Any], Any]) -> Any:
  """A Foolbox model of a function of whole batches."""
  return foolbox.JAXModel(logits_fn, bounds=(0, 1))


def run_foolbox(model: Any, attack: Any, x: Any, labels: Any, eps: float | None) -> Any:
  """What a Foolbox attack returns, in the model's own arrays; x where it finds no start."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    criterion = foolbox.criteria.Misclassification(labels)
    raw, clipped, _ = attack(model, x, criterion, epsilons=eps)
  return raw if eps is None else clipped


def standard_autoattack(net: Any, **common: Any) -> Any:
  """AutoAttack's standard version with the authors' numbers of steps."""
  return torchattacks.MultiAttack(
    [
      torchattacks.APGD(net, steps=100, loss="ce", **common),
      torchattacks.APGDT(net, steps=100, **common),
      torchattacks.FAB(net, steps=100, multi_targeted=True, **common),
      torchattacks.Square(net, n_queries=5000, resc_schedule=False, **common),
    ]
  )


def seed_jax(seed: int) -> None:
  """Foolbox on JAX draws from one key that goes on from attack to attack."""
  eagerpy.JAXTensor.key = jax.random.PRNGKey(seed)


def build(
  library: str, name: str, settings: dict[str, Any], net: Any, x: np.ndarray, labels: np.ndarray,
  seed: int,
) -> Peer:  # fmt: skip
  """A peer's attack on all images at once, from one seed.

  Args:
    library: "foolbox" or "torchattacks".
    name: of the attack's class.
    settings: its keyword arguments.
    net: the PyTorch model, [B, 1, H, W] -> logits.
    x: [N, H, W, D] float32.
    labels: [N].
    seed: of the library's global random numbers.

  Returns:
    (eps or None) -> x_adv [N, H, W, D].
  """
  images, classes = to_torch(x), torch.tensor(labels).long()

  def seeded() -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # Foolbox draws from it

  def by_foolbox(eps: float | None) -> np.ndarray:
    seeded()
    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    return from_torch(run_foolbox(model, foolbox_attack(name, settings), images, classes, eps))

  def by_torchattacks(eps: float | None) -> np.ndarray:
    seeded()
    kwargs = settings if eps is None else {**settings, "eps": eps}
    if name == STANDARD:
      return from_torch(standard_autoattack(net, seed=seed, **kwargs)(images, classes))
    factory = getattr(torchattacks, name)
    seeds = {"seed": seed} if "seed" in inspect.signature(factory).parameters else {}
    return from_torch(factory(net, **seeds, **kwargs)(images, classes))

  return {"foolbox": by_foolbox, "torchattacks": by_torchattacks}[library]
