"""The networks of `configs/` in PyTorch, as a user of PyTorch would write them: the other side of the comparison.

Each gives (logits, auxiliary logits), as ours do. The layers stand in the order in which ours run.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

# #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj: not imported, lest JAX be in PyTorch's process.
TABLE_1 = {
  "inception_3a": (64, 96, 128, 16, 32, 32),
  "inception_3b": (128, 128, 192, 32, 96, 64),
  "inception_4a": (192, 96, 208, 16, 48, 64),
  "inception_4b": (160, 112, 224, 24, 64, 64),
  "inception_4c": (128, 128, 256, 24, 64, 64),
  "inception_4d": (112, 144, 288, 32, 64, 64),
  "inception_4e": (256, 160, 320, 32, 128, 128),
  "inception_5a": (256, 160, 320, 32, 128, 128),
  "inception_5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = ("inception_4a", "inception_4d")


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, norm: bool = False) -> nn.Sequential:
  """k×k convolution on a map padded to keep its size, batch normalisation or a bias, ReLU."""
  layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=not norm)]
  if norm:
    layers.append(nn.BatchNorm2d(outputs, eps=1e-3))
  return nn.Sequential(*layers, nn.ReLU(inplace=True))


def halve(window: int = 3) -> nn.MaxPool2d:
  return nn.MaxPool2d(window, 2, ceil_mode=True)


class NIN(nn.Module):
  """Network in Network for CIFAR-10 (configs/nin_cifar10.py)."""

  def __init__(self, num_classes: int = 10):
    super().__init__()
    self.layers = nn.Sequential(
      convolution(3, 192, 5),
      convolution(192, 160),
      convolution(160, 96),
      halve(),
      nn.Dropout(0.5),
      convolution(96, 192, 5),
      convolution(192, 192),
      convolution(192, 192),
      halve(),
      nn.Dropout(0.5),
      convolution(192, 192, 3),
      convolution(192, 192),
      convolution(192, num_classes),
      nn.AdaptiveAvgPool2d(1),
      nn.Flatten(),
    )

  def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    return self.layers(images), []


class Inception(nn.Module):
  """Four branches side by side; the widths are those of a row of Table 1."""

  def __init__(self, inputs: int, widths: tuple[int, ...], large_kernel: int, norm: bool):
    super().__init__()
    conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj = widths
    layer = functools.partial(convolution, norm=norm)
    self.pointwise = layer(inputs, conv1x1)
    self.medium = nn.Sequential(layer(inputs, reduce3x3), layer(reduce3x3, conv3x3, 3))
    self.large = nn.Sequential(layer(inputs, reduce5x5), layer(reduce5x5, conv5x5, large_kernel))
    self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), layer(inputs, pool_proj))
    self.outputs = conv1x1 + conv3x3 + conv5x5 + pool_proj

  def forward(self, x: Tensor) -> Tensor:
    return torch.cat([self.pointwise(x), self.medium(x), self.large(x), self.pooled(x)], 1)


class GoogLeNet(nn.Module):
  """GoogLeNet at 224².

  Args:
    torchvision: False: the paper's network, configs/googlenet_imagenet.py. True: torchvision's variant,
      configs/googlenet_torchvision.py, with batch normalisation, 3×3 in place of 5×5 and a 2×2 last pool. Both have the
      paper's auxiliary heads, in training only.
    num_classes: outputs.
  """

  def __init__(self, torchvision: bool, num_classes: int = 1000):
    super().__init__()
    layer = functools.partial(convolution, norm=torchvision)
    lrn = nn.Identity if torchvision else functools.partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=1.0)
    self.stem = nn.Sequential(layer(3, 64, 7, 2), halve(), lrn(), layer(64, 64), layer(64, 192, 3), lrn(), halve())
    self.blocks, self.pools, self.auxiliary = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
    channels = 192
    for name, widths in TABLE_1.items():
      if name == "inception_4a":
        self.pools[name] = halve()
      elif name == "inception_5a":
        self.pools[name] = halve(2 if torchvision else 3)
      self.blocks[name] = Inception(channels, widths, 3 if torchvision else 5, torchvision)
      channels = self.blocks[name].outputs
      if name in AUXILIARY:
        self.auxiliary[name] = nn.Sequential(
          nn.AvgPool2d(5, 3),
          layer(channels, 128),
          nn.Flatten(),
          nn.Linear(128 * 4 * 4, 1024),
          nn.ReLU(inplace=True),
          nn.Dropout(0.7),
          nn.Linear(1024, num_classes),
        )
    self.head = nn.Sequential(
      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2 if torchvision else 0.4), nn.Linear(channels, num_classes)
    )

  def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    x, auxiliary = self.stem(images), []
    for name, block in self.blocks.items():
      if name in self.pools:
        x = self.pools[name](x)
      x = block(x)
      if self.training and name in self.auxiliary:
        auxiliary.append(self.auxiliary[name](x))
    return self.head(x), auxiliary


NETWORKS: dict[str, Callable[[], nn.Module]] = {
  "nin_cifar10": NIN,
  "googlenet_torchvision": functools.partial(GoogLeNet, torchvision=True),
  "googlenet_imagenet": functools.partial(GoogLeNet, torchvision=False),
}


def count(name: str, size: int, train: bool) -> dict[str, int]:
  """{"params", "macs"} of a network on one image of size × size, nothing computed.

  Args:
    name: of `NETWORKS`.
    size: height and width of the image.
    train: with the auxiliary heads.
  """
  with torch.device("meta"):
    network = NETWORKS[name]().train(train)
    images = torch.empty(2, 3, size, size)  # two, which batch normalisation wants where a map is one position
  params, macs = 0, 0

  def add(module: nn.Module, _: tuple, output: Tensor) -> None:
    nonlocal params, macs
    params += sum(parameter.numel() for parameter in module.parameters(recurse=False))
    if isinstance(module, nn.Conv2d | nn.Linear):
      macs += output.numel() // 2 * module.weight[0].numel()

  for module in network.modules():
    module.register_forward_hook(add)
  network(images)
  return {"params": params, "macs": macs}
