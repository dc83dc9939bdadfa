"""Foolbox (on JAX and PyTorch), ART and torchattacks on the plain CNN, with the settings of ours.

Each library is a function that gives {row: run}, and fails with ImportError where it does not
install. A run attacks all images of its row at once, as the libraries' users do, and returns
[N, 28, 28, 1].
"""

# None of these libraries says what it exports.
# pyright: reportMissingImports=false, reportPrivateImportUsage=false, reportAttributeAccessIssue=false

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_cnn
from attack_rows import GAUSSIAN_EPS, L2_EPS, LINF_EPS, ROWS
from plain_cnn import Victim

Run = Callable[[], np.ndarray]


def quiet_import(name: str) -> Any:
  """A library, without the warnings of its import."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return importlib.import_module(name)


def rows_of(victim: Victim, row: str) -> slice:
  """The images of a row."""
  return slice(0, min(ROWS[row].num_images, len(victim.x)))


def torch_network(victim: Victim) -> Any:
  """The same network in PyTorch, [B, 1, 28, 28] -> [B, 10], without parameter gradients."""
  torch = quiet_import("torch")
  layers = torch.nn
  network = layers.Sequential(
    layers.Conv2d(1, 20, 5),
    layers.ReLU(),
    layers.MaxPool2d(2),
    layers.Conv2d(20, 70, 5),
    layers.ReLU(),
    layers.MaxPool2d(2),
    layers.Flatten(),
    layers.Linear(1120, 256),
    layers.ReLU(),
    layers.Linear(256, 10),
  )
  weights = {name: np.asarray(value) for name, value in victim.weights.items()}
  # Our features are flattened with the channels last.
  first = weights["dense1"].reshape(4, 4, 70, 256).transpose(2, 0, 1, 3).reshape(1120, 256)
  values = (
    (network[0], weights["conv1"].transpose(3, 2, 0, 1), weights["conv1_bias"]),
    (network[3], weights["conv2"].transpose(3, 2, 0, 1), weights["conv2_bias"]),
    (network[7], first.T, weights["dense1_bias"]),
    (network[9], weights["dense2"].T, weights["dense2_bias"]),
  )
  with torch.no_grad():
    for layer, kernel, bias in values:
      layer.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
      layer.bias.copy_(torch.tensor(bias))
  return network.eval().requires_grad_(False)


def to_torch(x: np.ndarray) -> Any:
  """[B, H, W, D] -> a tensor [B, D, H, W]."""
  return quiet_import("torch").tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def from_torch(x: Any) -> np.ndarray:
  """The way back."""
  return np.asarray(x.detach() if hasattr(x, "detach") else x).transpose(0, 2, 3, 1)


def _foolbox_attacks(foolbox: Any) -> dict[str, tuple[Any, float | None]]:
  """{row: (attack, eps)}."""
  methods, linf = foolbox.attacks, foolbox.distances.linf
  search = methods.L2CarliniWagnerAttack(
    binary_search_steps=3, steps=100, stepsize=0.1, initial_const=1.0, abort_early=False
  )
  pgd = methods.LinfPGD(abs_stepsize=0.01, steps=40, random_start=True)
  return {
    "fgsm": (methods.LinfFastGradientAttack(), LINF_EPS),
    "fgsm_classified": (methods.LinfFastGradientAttack(), LINF_EPS),
    "pgd_linf": (pgd, LINF_EPS),
    "pgd_linf_stop": (pgd, LINF_EPS),
    "pgd_l2": (methods.L2PGD(abs_stepsize=0.05, steps=50, random_start=True), L2_EPS),
    "carlini_wagner": (search, None),
    "deepfool": (
      methods.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02, loss="logits"),
      None,
    ),
    "boundary": (methods.BoundaryAttack(steps=1000), None),
    "uniform_noise": (methods.LinfAdditiveUniformNoiseAttack(), LINF_EPS),
    "gaussian_noise": (methods.L2AdditiveGaussianNoiseAttack(), GAUSSIAN_EPS),
    "binary_contrast": (methods.BinarySearchContrastReductionAttack(distance=linf), None),
    "linear_contrast": (methods.LinearSearchContrastReductionAttack(distance=linf), None),
    "blur": (methods.GaussianBlurAttack(distance=linf, steps=1000), None),
    "ddn": (methods.DDNAttack(steps=100), None),
    "fmn": (methods.L2FMNAttack(steps=100), None),
    "hop_skip_jump": (methods.HopSkipJumpAttack(steps=5), None),
  }


def _foolbox_runs(foolbox: Any, model: Any, victim: Victim, tensor: Any, back: Any) -> dict:
  def run(row: str, attack: Any, eps: float | None) -> np.ndarray:
    rows = rows_of(victim, row)
    wanted = foolbox.criteria.Misclassification(tensor(victim.labels[rows]))
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # attacks that miss some image
      _, clipped, success = attack(model, tensor(victim.x[rows]), wanted, epsilons=eps)
    success.numpy()  # waits: on JAX the classification of the result is still under way
    return back(clipped)

  found = _foolbox_attacks(foolbox).items()
  return {row: partial(run, row, attack, eps) for row, (attack, eps) in found}


def foolbox_jax(victim: Victim) -> dict[str, Run]:
  """Foolbox on JAX, with a jitted model in plain JAX operations."""
  foolbox, eagerpy = quiet_import("foolbox"), quiet_import("eagerpy")
  network = jax.jit(partial(plain_cnn.plain_logits, victim.weights))
  model = foolbox.JAXModel(network, bounds=(0, 1))

  def tensor(values: np.ndarray) -> Any:
    return eagerpy.astensor(jnp.asarray(values))

  return _foolbox_runs(foolbox, model, victim, tensor, lambda x: np.array(x.raw))


def foolbox_torch(victim: Victim) -> dict[str, Run]:
  """Foolbox on PyTorch."""
  torch, foolbox = quiet_import("torch"), quiet_import("foolbox")
  model = foolbox.PyTorchModel(torch_network(victim), bounds=(0, 1), device="cpu")

  def tensor(values: np.ndarray) -> Any:
    return to_torch(values) if values.ndim == 4 else torch.tensor(values, dtype=torch.long)

  return _foolbox_runs(foolbox, model, victim, tensor, from_torch)


def torchattacks(victim: Victim) -> dict[str, Run]:
  """torchattacks; its C&W has no binary search and is left out."""
  torch, library = quiet_import("torch"), quiet_import("torchattacks")
  network = torch_network(victim)
  pgd = library.PGD(network, eps=LINF_EPS, alpha=0.01, steps=40)
  methods = {
    "fgsm": library.FGSM(network, eps=LINF_EPS),
    "fgsm_classified": library.FGSM(network, eps=LINF_EPS),
    "pgd_linf": pgd,
    "pgd_linf_stop": pgd,
    "pgd_l2": library.PGDL2(network, eps=L2_EPS, alpha=0.05, steps=50),
    "deepfool": library.DeepFool(network, steps=50, overshoot=0.02),
    "apgd": library.APGD(network, norm="Linf", eps=LINF_EPS, steps=40, n_restarts=1),
    "fab": library.FAB(network, norm="L2", eps=100.0, steps=20, n_restarts=1, n_classes=10),
    "square": library.Square(
      network, norm="Linf", eps=LINF_EPS, n_queries=500, n_restarts=1, resc_schedule=False
    ),
  }

  def run(row: str) -> np.ndarray:
    rows = rows_of(victim, row)
    labels = torch.tensor(victim.labels[rows], dtype=torch.long)
    x_adv = methods[row](to_torch(victim.x[rows]), labels)
    if row in CLASSIFIED:
      with torch.no_grad():
        network(x_adv).argmax(1)
    return from_torch(x_adv)

  return {row: partial(run, row) for row in methods}


def art(victim: Victim) -> dict[str, Run]:
  """The Adversarial Robustness Toolbox on PyTorch."""
  torch = quiet_import("torch")
  evasion, estimators = (
    quiet_import(f"art.{name}") for name in ("attacks.evasion", "estimators.classification")
  )
  network = estimators.PyTorchClassifier(
    model=torch_network(victim),
    loss=torch.nn.CrossEntropyLoss(),
    input_shape=(1, 28, 28),
    nb_classes=10,
    clip_values=(0.0, 1.0),
    device_type="cpu",
  )
  size: dict[str, Any] = {"batch_size": len(victim.x)}
  descent = {**size, "num_random_init": 1, "verbose": False}
  linf = {"norm": np.inf, "eps": LINF_EPS, "eps_step": 0.01, "max_iter": 40}
  pgd = evasion.ProjectedGradientDescentPyTorch(network, **linf, **descent)
  methods = {
    "fgsm": evasion.FastGradientMethod(network, eps=LINF_EPS, **size),
    "fgsm_classified": evasion.FastGradientMethod(network, eps=LINF_EPS, **size),
    "pgd_linf": pgd,
    "pgd_linf_stop": pgd,
    "pgd_l2": evasion.ProjectedGradientDescentPyTorch(
      network, norm=2, eps=L2_EPS, eps_step=0.05, max_iter=50, **descent
    ),
    "deepfool": evasion.DeepFool(
      network, max_iter=50, epsilon=0.02, nb_grads=10, verbose=False, **size
    ),
    # Minutes each: run with a larger --max_seconds, or not at all.
    "carlini_wagner": evasion.CarliniL2Method(
      network,
      binary_search_steps=3,
      max_iter=100,
      learning_rate=0.1,
      initial_const=1.0,
      verbose=False,
      **size,
    ),
  }

  def run(row: str) -> np.ndarray:
    rows = rows_of(victim, row)
    images = np.ascontiguousarray(victim.x[rows].transpose(0, 3, 1, 2))
    x_adv = methods[row].generate(images, victim.labels[rows])
    if row in CLASSIFIED:
      network.predict(x_adv, **size)
    return from_torch(x_adv)

  return {row: partial(run, row) for row in methods}


LIBRARIES = {
  "foolbox_jax": foolbox_jax,
  "foolbox_torch": foolbox_torch,
  "art": art,
  "torchattacks": torchattacks,
}
# Rows that end with the class of each result; Foolbox's always do.
CLASSIFIED = {"fgsm_classified"}
# Rows of a library that take minutes and are no match: left out unless asked for.
SLOW = {("art", "carlini_wagner")}


def start(threads: int) -> None:
  """Gives PyTorch all cores, where it is installed."""
  try:
    quiet_import("torch").set_num_threads(threads)
  except ImportError:
    return


def find(victim: Victim, *, slow: bool) -> tuple[dict[str, dict[str, Run]], dict[str, str]]:
  """({library: {row: run}}, {library: why it is left out})."""
  found, missing = {}, {}
  for name, library in LIBRARIES.items():
    try:
      runs = library(victim)
    except ImportError as error:
      missing[name] = f"not installed: {error}"
    else:
      found[name] = {row: run for row, run in runs.items() if slow or (name, row) not in SLOW}
  return found, missing
