"""The Inception module of GoogLeNet."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from nin_jax.layers import Conv, MaxPool, Pointwise, pointwise_branches

POINTWISE_LAYERS = ("conv1x1", "reduce3x3", "reduce5x5", "pool_proj")


@dataclasses.dataclass(frozen=True)
class InceptionWidths:
  """Output channels of each layer of an Inception module, in the order of GoogLeNet's Table 1.

  A width of 0 takes the layer out: without a reduction the 3×3 or 5×5 convolution reads the module's input, without a
  projection the pool's output is passed on, without a convolution its whole branch is gone.
  """

  conv1x1: int
  reduce3x3: int
  conv3x3: int
  reduce5x5: int
  conv5x5: int
  pool_proj: int

  def scale_reductions(self, factor: float) -> "InceptionWidths":
    """Both reductions times `factor`, rounded to the nearest width, at least 1; a removed one stays removed."""

    def scaled(width: int) -> int:
      return max(1, math.floor(width * factor + 0.5)) if width else 0

    return dataclasses.replace(self, reduce3x3=scaled(self.reduce3x3), reduce5x5=scaled(self.reduce5x5))

  def without(self, *names: str) -> "InceptionWidths":
    """The same with these layers taken out."""
    return dataclasses.replace(self, **dict.fromkeys(names, 0))


class Inception(nn.Module):
  """Four branches side by side: 1×1; 1×1 then 3×3; 1×1 then 5×5; 3×3 max pool then 1×1 (Szegedy et al. 2014, figure 2).

  Attributes:
    widths: see `InceptionWidths`; with both reductions and the projection taken out it is the naive module (figure 2a).
    large_kernel: of the third branch: 5, or 3 as torchvision has it.
    linear: the 1×1 layers (of `POINTWISE_LAYERS`) that have no activation after them.
    conv, pointwise: the layers, `Conv` and `Pointwise` with what the network says of type, norm, activation and bias.
    train: whether gradients will be taken, which the 1×1s that read the input then have together where that is faster:
      see `layers.pointwise_branches`.
  """

  widths: InceptionWidths
  large_kernel: int = 5
  linear: Sequence[str] = ()
  conv: Callable[..., nn.Module] = Conv
  pointwise: Callable[..., nn.Module] = Pointwise
  train: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w d"]:
    def layer(name: str) -> nn.Module:
      options = {"activation": None} if name in self.linear else {}
      return self.pointwise(getattr(self.widths, name), name=name, **options)

    widths = self.widths
    first = {"conv1x1": widths.conv1x1, "reduce3x3": widths.conv3x3 and widths.reduce3x3}
    first["reduce5x5"] = widths.conv5x5 and widths.reduce5x5
    layers = {name: layer(name) for name, width in first.items() if width}
    if self.train:
      layers = pointwise_branches(layers, x)

    def read(name: str) -> Array:
      """What a branch begins with."""
      return layers[name](x) if name in layers else x

    branches = []
    if widths.conv1x1:
      branches.append(read("conv1x1"))
    if widths.conv3x3:
      branches.append(self.conv(widths.conv3x3, kernel=3, name="conv3x3")(read("reduce3x3")))
    if widths.conv5x5:
      branches.append(self.conv(widths.conv5x5, kernel=self.large_kernel, name="conv5x5")(read("reduce5x5")))
    pooled = MaxPool(3, 1, "SAME", name="pool")(x)
    branches.append(layer("pool_proj")(pooled) if widths.pool_proj else pooled)
    return jnp.concatenate(branches, axis=-1)
