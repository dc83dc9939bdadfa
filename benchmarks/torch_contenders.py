"""PyTorch's side of `contenders.py`: the same tasks on the same weights."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from contenders import (
  GRADIENTS,
  LEARNING_RATE,
  LOSSES,
  TASKS,
  Contender,
  Problem,
  pieces,
  training_keys,
  training_variants,
)
from torch_gfz import GFZ, from_ours

from gencls.keys import example_keys, fold
from gencls.types import Keys

FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
CLASSES, LATENT = 10, 64


def start(threads: int) -> None:
  """All cores, and denormals are zero as in XLA's programs."""
  torch.set_num_threads(threads)
  torch.set_flush_denormal(True)


def our_noise(keys: Keys, labels: int, num_samples: int) -> Any:
  """[B, M, K, L] the noise that our model draws from these keys."""
  shape = (labels, num_samples, LATENT)
  draw = jax.jit(jax.vmap(lambda key: jax.random.normal(key, shape)))
  return torch.tensor(np.asarray(draw(fold(keys, "q"))))


def to_torch(x: np.ndarray) -> Any:
  """[B, H, W, D] -> [B, D, H, W]."""
  return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def margin(logits: Any, labels: Any) -> Any:
  """max_{j≠y} z_j − z_y, [B]."""
  own = logits.gather(1, labels[:, None])
  rivals = logits.scatter(1, labels[:, None], -torch.inf)
  return rivals.amax(1) - own[:, 0]


def cross_entropy(logits: Any, labels: Any) -> Any:
  """[B] nats."""
  return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


BY_NAME = {"cross_entropy": cross_entropy, "margin": margin}


def input_gradient(gfz: GFZ, loss: str, x: Any, labels: Any, noise: Any) -> Any:
  """Gradient of the summed losses in x; the parameters need none."""
  x = x.detach().requires_grad_(True)
  values = BY_NAME[loss](gfz.logits(x, noise), labels)
  return torch.autograd.grad(values.sum(), x)[0]


def outputs(problem: Problem, layout: str) -> dict[str, np.ndarray]:
  """Logits, input gradients, mean training loss and its gradient's norm, under our noise."""
  gfz = from_ours(problem.params, FORMATS[layout])
  x, labels = to_torch(problem.x), torch.tensor(problem.labels).long()
  keys = example_keys(problem.seed, problem.indices)
  noise = our_noise(keys, CLASSES, problem.num_samples)
  with torch.inference_mode():
    logits = gfz.logits(x, noise).numpy()
  gradients = {
    task: input_gradient(gfz, loss, x, labels[: problem.num_images], noise).numpy()
    for task, loss in zip(GRADIENTS, LOSSES, strict=True)
  }

  batch = problem.train_batch
  gfz.requires_grad_(True)
  images = to_torch(problem.images[:batch]).float() / 255
  loss = gfz.loss(images, labels[:batch], our_noise(training_keys(problem), 1, 1))
  grads = torch.autograd.grad(loss, list(gfz.parameters()))
  norm = torch.sqrt(sum(grad.square().sum() for grad in grads))
  return {
    "logits": logits,
    **{task: gradient.transpose(0, 2, 3, 1) for task, gradient in gradients.items()},
    "training loss": loss.detach().numpy(),
    "norm of the parameters' gradient": norm.numpy(),
  }


def contenders(problem: Problem) -> dict[str, list[Contender]]:
  """PyTorch's contenders by task: both memory formats, several batch sizes."""
  found: dict[str, list[Contender]] = {task: [] for task in TASKS}
  x, labels = to_torch(problem.x), torch.tensor(problem.labels).long()
  for layout, memory_format in FORMATS.items():
    gfz = from_ours(problem.params, memory_format)
    for size in problem.batches:
      slices = pieces(problem.num_images, size)
      shape = (size, CLASSES, problem.num_samples, LATENT)

      def predict(i: int, gfz: GFZ = gfz, slices: list = slices, shape: tuple = shape) -> None:
        with torch.inference_mode():
          gfz.logits(x[slices[i]], torch.randn(shape))

      variant = f"batches of {size}, {layout}"
      found["prediction"].append(Contender(variant, predict, len(slices)))
      for task, loss in zip(GRADIENTS, LOSSES, strict=True):

        def gradient(
          i: int, gfz: GFZ = gfz, loss: str = loss, slices: list = slices, shape: tuple = shape
        ) -> None:
          rows = slices[i]
          input_gradient(gfz, loss, x[rows], labels[rows], torch.randn(shape))

        found[task].append(Contender(variant, gradient, len(slices)))
    for variant, size in training_variants(problem.train_batch):
      step = training_step(problem, from_ours(problem.params, memory_format), size)
      found["training step"].append(Contender(f"{variant}, {layout}", step))
  return found


def training_step(problem: Problem, gfz: GFZ, micro_batch_size: int) -> Callable[[int], None]:
  """Gather, noise, gradient (accumulated over micro-batches), fused Adam."""
  gfz.requires_grad_(True)
  adam = torch.optim.Adam(gfz.parameters(), lr=LEARNING_RATE, fused=True)
  images, labels = to_torch(problem.images), torch.tensor(problem.labels).long()
  positions = torch.arange(problem.train_batch)

  def batch(i: int) -> None:
    del i
    adam.zero_grad(set_to_none=True)
    for rows in positions.split(micro_batch_size):
      x = images[rows].float() / 255
      loss = gfz.loss(x, labels[rows], torch.randn(len(x), 1, 1, LATENT))
      (loss * (len(rows) / len(positions))).backward()
    adam.step()

  return batch


def matmul(size: int) -> Callable[[int], None]:
  """One large float32 matrix product."""
  a = torch.tensor(np.random.default_rng(0).standard_normal((size, size), np.float32))

  def batch(i: int) -> None:
    del i
    with torch.inference_mode():
      torch.mm(a, a)

  return batch
