"""Ways to halve a map."""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from nin_jax.layers import AvgPool, MaxPool, Pointwise

DOWNSAMPLES = ("max", "avg", "pointwise")


class Downsample(nn.Module):
  """A pool in ceil mode, or a strided 1×1 convolution, which reads every s-th row and column and drops the rest.

  Attributes:
    kind: "max", "avg", or "pointwise": the strided 1×1, as many channels out as in.
    window: of the pools.
    strides: of all three.
    pointwise: the 1×1 with what the network says of type, norm, activation and bias.
  """

  kind: str = "max"
  window: int = 3
  strides: int = 2
  pointwise: Callable[..., nn.Module] = Pointwise

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    if self.kind == "pointwise":
      return self.pointwise(x.shape[-1], strides=self.strides, name="pointwise")(x)
    pool = {"max": MaxPool, "avg": AvgPool}[self.kind]
    return pool(self.window, self.strides, ceil_mode=True, name=self.kind)(x)
