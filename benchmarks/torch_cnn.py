"""The matched CNN in PyTorch, with the weights of ours: the peers of the attack benchmarks need it.

Spatial axes are mirrored, as `torch_gfz.py` explains.
"""

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]  # noqa: N812
from torch import nn  # pyright: ignore[reportMissingImports]
from torch_gfz import CONV, dense, flat_order, kernel


class CNN(nn.Module):
  """Three 5×5 convolutions of stride 2 and three dense layers, for 28×28×1 images."""

  def __init__(self, channels: int = 64, hidden: int = 500, num_classes: int = 10):
    """`channels` of each convolution, `hidden` units of the dense layers."""
    super().__init__()
    self.encoder = nn.ModuleList([nn.Conv2d(d, channels, **CONV) for d in (1, channels, channels)])
    self.features = nn.Linear(4 * 4 * channels, hidden)
    self.hidden = nn.Linear(hidden, hidden)
    self.out = nn.Linear(hidden, num_classes)

  def forward(self, x: Any) -> Any:
    """[B, 1, 28, 28] -> [B, C]."""
    x = torch.flip(x, (2, 3)).contiguous(memory_format=torch.channels_last)
    for layer in self.encoder:
      x = F.relu(layer(x))
    h = F.relu(self.features(x.permute(0, 2, 3, 1).flatten(1)))
    return self.out(F.relu(self.hidden(h)))


def from_ours(params: Any) -> CNN:
  """The peer with the weights of `models.build("cnn", image_shape=(28, 28, 1), …)`, copied."""
  arrays = lambda tree: (np.array(tree["kernel"]), np.array(tree["bias"]))  # noqa: E731
  convolutions = params["ConvFeatures_0"]
  channels = convolutions["Conv_0"]["bias"].shape[0]
  out = params["MLP_0"]["ConcatDense_1"]["kernel"].shape
  cnn = CNN(channels, hidden=out[0], num_classes=out[1])
  for i, layer in enumerate(cnn.encoder):
    weights, bias = arrays(convolutions[f"Conv_{i}"])
    kernel(layer, weights, transposed=False)
    layer.bias.data = torch.tensor(bias)
  weights, bias = arrays(convolutions["ConcatDense_0"])
  dense(cnn.features, weights[flat_order(channels, torch.channels_last)], bias)
  dense(cnn.hidden, *arrays(params["MLP_0"]["ConcatDense_0"]))
  dense(cnn.out, *arrays(params["MLP_0"]["ConcatDense_1"]))
  return cnn.to(memory_format=torch.channels_last).requires_grad_(False).eval()
