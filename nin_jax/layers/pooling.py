"""Pools as modules, so that each has its place in the cost table."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from nin_jax import ops
from nin_jax.ops.padding import Padding


class MaxPool(nn.Module):
  """`ops.max_pool`."""

  window: int | Sequence[int]
  strides: int | Sequence[int] = 1
  padding: Padding = "VALID"
  ceil_mode: bool = False

  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    return ops.max_pool(x, self.window, self.strides, self.padding, self.ceil_mode)


class AvgPool(nn.Module):
  """`ops.avg_pool`."""

  window: int | Sequence[int]
  strides: int | Sequence[int] = 1
  padding: Padding = "VALID"
  ceil_mode: bool = False
  count_include_pad: bool = True

  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    return ops.avg_pool(x, self.window, self.strides, self.padding, self.ceil_mode, self.count_include_pad)


class HeadPool(nn.Module):
  """The average before a classifier, in float32: over the whole map, or sliding over a larger one.

  Attributes:
    window: None for global average pooling; (height, width) of the map that the network was trained with for the fully
      convolutional form, which gives one position for each place of that window.
  """

  window: tuple[int, int] | None = None

  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    x = x.astype(jnp.float32)
    if self.window is None:
      return ops.global_avg_pool(x)[:, None, None, :]
    return ops.avg_pool(x, self.window)
