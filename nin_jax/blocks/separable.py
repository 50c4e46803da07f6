"""The separable convolution: space first, then channels by a 1×1."""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from nin_jax.layers import Conv, Pointwise
from nin_jax.ops.padding import Padding


class SeparableConv(nn.Module):
  """A depthwise k×k convolution, linear, then a 1×1 over its channels.

  With a multiplier of 8 on RGB it is the first layer whose cost GoogLeNet's Table 1 gives (2.7K weights, 34M MACs), in
  place of the dense 7×7 that the table names.

  Attributes:
    features: output channels.
    multiplier: maps that the depthwise convolution makes of each channel.
    kernel, strides, padding: of the depthwise convolution.
    conv, pointwise: the layers with what the network says of type, norm, activation and bias.
  """

  features: int
  multiplier: int = 8
  kernel: int = 7
  strides: int = 2
  padding: Padding = 3
  conv: Callable[..., nn.Module] = Conv
  pointwise: Callable[..., nn.Module] = Pointwise

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
    channels = x.shape[-1]
    x = self.conv(
      channels * self.multiplier,
      kernel=self.kernel,
      strides=self.strides,
      padding=self.padding,
      groups=channels,
      activation=None,
      name="depthwise",
    )(x)
    return self.pointwise(self.features, name="pointwise")(x)
