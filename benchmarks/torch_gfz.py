"""The same GFZ in PyTorch, with the weights of ours: the peer of `throughput.py`.

Features of x once per image, heads over (x, y) once per class, one batch of decoder rows; eager
mode, as attack libraries run it. Spatial axes are mirrored: SAME pads 28 -> 14 by (1, 2), PyTorch's
own `padding=2` by (2, 1), so that on mirrored images with mirrored kernels both compute the same
function and PyTorch needs neither an extra pad nor a crop.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]  # noqa: N812
from torch import nn  # pyright: ignore[reportMissingImports]

SCALE_FLOOR = 1e-3
CONV = {"kernel_size": 5, "stride": 2, "padding": 2}


class Sizes(NamedTuple):
  """Sizes of the GFZ; images are 28×28×1."""

  num_classes: int = 10
  latent: int = 64
  hidden: int = 500
  channels: int = 64


class GFZ(nn.Module):
  """log p(x, y) by importance sampling, and the ELBO."""

  def __init__(self, sizes: Sizes, memory_format: Any):
    """`memory_format`: torch.contiguous_format or torch.channels_last, of every feature map."""
    super().__init__()
    c, h, latent, classes = sizes.channels, sizes.hidden, sizes.latent, sizes.num_classes
    self.sizes, self.memory_format = sizes, memory_format
    self.encoder = nn.ModuleList([nn.Conv2d(d, c, **CONV) for d in (1, c, c)])
    self.features = nn.Linear(4 * 4 * c, h)
    self.q_x, self.q_y = nn.Linear(h, h), nn.Embedding(classes, h)
    self.q_out = nn.Linear(h, 2 * latent)
    self.y_z, self.y_out = nn.Linear(latent, h), nn.Linear(h, classes)
    self.x_z, self.x_y = nn.Linear(latent, h), nn.Embedding(classes, h)
    self.x_out = nn.Linear(h, 4 * 4 * c)
    self.decoder = nn.ModuleList(
      # 4 -> 7 -> 14 -> 28
      nn.ConvTranspose2d(c, d, **CONV, output_padding=p, bias=False)
      for d, p in ((c, 0), (c, 1), (1, 1))
    )

  def encode(self, x: Any) -> Any:
    """Mirrored x [B, 1, 28, 28] -> [B, hidden]."""
    x = x.contiguous(memory_format=self.memory_format)
    for layer in self.encoder:
      x = F.relu(layer(x))
    if self.memory_format == torch.channels_last:
      x = x.permute(0, 2, 3, 1)  # as it lies in memory
    return F.relu(self.features(x.flatten(1)))

  def decode(self, h: Any) -> Any:
    """[N, hidden] -> mirrored [N, 784], before the sigmoid."""
    h = F.relu(self.x_out(h))
    if self.memory_format == torch.channels_last:
      h = h.view(-1, 4, 4, self.sizes.channels).permute(0, 3, 1, 2)
    else:
      h = h.view(-1, self.sizes.channels, 4, 4)
    for layer in self.decoder[:-1]:
      h = F.relu(layer(h))
    return self.decoder[-1](h).flatten(1)

  def log_weights(self, x: Any, labels: Any, noise: Any) -> Any:
    """log p(x, y, z) / q(z | x, y).

    Args:
      x: [B, 1, 28, 28].
      labels: [B, M] integers.
      noise: [B, M, K, L] standard normal.

    Returns:
      [B, M, K] nats.
    """
    x = torch.flip(x, (2, 3))
    h = F.relu(self.q_x(self.encode(x))[:, None] + self.q_y(labels))
    mean, raw = self.q_out(h).chunk(2, dim=-1)
    log_scale = torch.logaddexp(raw, raw.new_tensor(math.log(SCALE_FLOOR)))
    z = mean[:, :, None] + log_scale.exp()[:, :, None] * noise
    log_z_over_q = 0.5 * (noise.square() - z.square()).sum(-1) + log_scale.sum(-1)[..., None]

    log_y = F.log_softmax(self.y_out(F.relu(self.y_z(z))), dim=-1)
    log_y = log_y.gather(-1, labels[:, :, None, None].expand(*z.shape[:3], 1))[..., 0]

    h = F.relu(self.x_z(z) + self.x_y(labels)[:, :, None])
    means = torch.sigmoid(self.decode(h.flatten(0, 2))).view(*z.shape[:3], -1)
    log_x = -(x.flatten(1)[:, None, None] - means).square().sum(-1)
    return log_z_over_q + log_y + log_x - 0.5 * means.shape[-1] * math.log(math.pi)

  def logits(self, x: Any, noise: Any) -> Any:
    """x [B, 1, 28, 28], noise [B, C, K, L] -> [B, C] nats."""
    labels = torch.arange(self.sizes.num_classes).expand(len(x), -1)
    log_w = self.log_weights(x, labels, noise)
    return torch.logsumexp(log_w, dim=-1) - math.log(log_w.shape[-1])

  def loss(self, x: Any, y: Any, noise: Any) -> Any:
    """Mean −ELBO; x [B, 1, 28, 28], y [B], noise [B, 1, 1, L] -> []."""
    return -self.log_weights(x, y[:, None], noise).mean()


def dense(layer: Any, kernel: np.ndarray, bias: np.ndarray | None) -> None:
  """Sets a linear layer to our kernel [I, O] and bias."""
  layer.weight.data = torch.tensor(np.ascontiguousarray(kernel.T))
  if bias is not None:
    layer.bias.data = torch.tensor(bias)


def kernel(layer: Any, weights: np.ndarray, *, transposed: bool) -> None:
  """Sets a convolution to our kernel [kh, kw, I, O], mirrored."""
  # [I, O, kh, kw] where transposed, else [O, I, kh, kw]
  order = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
  layer.weight.data = torch.tensor(np.ascontiguousarray(weights[::-1, ::-1].transpose(order)))


def flat_order(channels: int, memory_format: Any) -> np.ndarray:
  """Our flat index (row, column, channel) of each of the peer's flat, mirrored features."""
  index = np.arange(4 * 4 * channels).reshape(4, 4, channels)[::-1, ::-1]
  if memory_format != torch.channels_last:
    index = index.transpose(2, 0, 1)
  return index.ravel()


def from_ours(params: Any, memory_format: Any, sizes: Sizes | None = None) -> GFZ:
  """The peer with the weights of `models.build("gfz", image_shape=(28, 28, 1), …)`.

  Args:
    params: from `Classifier.init`; copied.
    memory_format: of the feature maps.
    sizes: of the model; the paper's where None.

  Returns:
    A `GFZ` that needs no gradient of its parameters.
  """
  sizes = sizes or Sizes()
  gfz = GFZ(sizes, memory_format)
  order = flat_order(sizes.channels, memory_format)
  q, heads = params["features"]["q"], params["heads"]
  arrays = lambda tree, name: (np.array(tree[name]["kernel"]), np.array(tree[name]["bias"]))  # noqa: E731
  for i, layer in enumerate(gfz.encoder):
    weights, bias = arrays(q, f"Conv_{i}")
    kernel(layer, weights, transposed=False)
    layer.bias.data = torch.tensor(bias)
  weights, bias = arrays(q, "ConcatDense_0")
  dense(gfz.features, weights[order], bias)

  weights, bias = arrays(heads["q"], "ConcatDense_0")  # [features of x, y]
  dense(gfz.q_x, weights[: sizes.hidden], bias)
  gfz.q_y.weight.data = torch.tensor(weights[sizes.hidden :])
  dense(gfz.q_out, *arrays(heads["q"], "ConcatDense_1"))
  dense(gfz.y_z, *arrays(heads["y"], "ConcatDense_0"))
  dense(gfz.y_out, *arrays(heads["y"], "ConcatDense_1"))

  weights, bias = arrays(heads["x"], "ConcatDense_0")  # [z, y]
  dense(gfz.x_z, weights[: sizes.latent], bias)
  gfz.x_y.weight.data = torch.tensor(weights[sizes.latent :])
  weights, bias = arrays(heads["x"], "ConcatDense_1")
  dense(gfz.x_out, weights[:, order], bias[order])
  for i, layer in enumerate(gfz.decoder):
    kernel(layer, np.array(heads["x"][f"ConvTranspose_{i}"]["kernel"]), transposed=True)
  return gfz.to(memory_format=memory_format).requires_grad_(False)
