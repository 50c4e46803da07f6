"""The mlpconv block of Network in Network."""

from collections.abc import Callable, Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from nin_jax.layers import Conv, Pointwise
from nin_jax.ops.padding import Padding


class MLPConv(nn.Module):
  """A k×k convolution, then any number of cccp layers (1×1 convolutions), each with its activation.

  A small multi-layer perceptron that slides over the map (Lin et al. 2013, section 3.1).

  Attributes:
    features: output channels of the k×k convolution and of each cccp layer.
    kernel, strides, padding: of the k×k convolution.
    last_activation: False leaves the last layer linear.
    kernel_inits: one initialiser a layer, in place of conv's and pointwise's own.
    conv, pointwise: the layers, `Conv` and `Pointwise` with what the network says of type, norm, activation and bias.
  """

  features: Sequence[int]
  kernel: int = 5
  strides: int = 1
  padding: Padding = "SAME"
  last_activation: bool = True
  kernel_inits: Sequence[nn.initializers.Initializer] | None = None
  conv: Callable[..., nn.Module] = Conv
  pointwise: Callable[..., nn.Module] = Pointwise

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
    for index, features in enumerate(self.features):
      options = {}
      if self.kernel_inits:
        options["kernel_init"] = self.kernel_inits[index]
      if index == len(self.features) - 1 and not self.last_activation:
        options["activation"] = None
      if index == 0:
        x = self.conv(features, kernel=self.kernel, strides=self.strides, padding=self.padding, name="conv", **options)(
          x
        )
      else:
        x = self.pointwise(features, name=f"cccp{index}", **options)(x)
    return x
