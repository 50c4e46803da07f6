"""1×1 and k×k convolutions with bias or normalisation, and activation."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax import ops
from nin_jax.layers.initializers import kernel_initializer
from nin_jax.layers.normalization import BatchNorm
from nin_jax.ops import lowering
from nin_jax.ops.padding import Padding, pair


class _Convolution(nn.Module):
  """What 1×1 and k×k convolutions share: y = activation(norm(x * kernel + bias)).

  Attributes:
    features: output channels.
    norm: makes the normalisation (`norm(name=..., relu=...)`), which stands in place of the bias; None: none.
    activation: applied last; None: linear.
    kernel_init, bias_init: of the parameters, which are float32.
    dtype: type of compute.
  """

  features: int
  norm: Callable[..., nn.Module] | None = None
  activation: Callable[[Array], Array] | None = nn.relu
  kernel_init: nn.initializers.Initializer = kernel_initializer("he")
  bias_init: nn.initializers.Initializer = nn.initializers.zeros
  dtype: DTypeLike = jnp.float32

  def _convolve(
    self, operation: Callable[..., Array], x: Array, kernel_shape: tuple[int, ...], product: Array | None = None
  ) -> Array:
    """The layer's result; `product` is that of the operation without a norm's factor, where it was made before."""
    kernel = self.param("kernel", self.kernel_init, kernel_shape, jnp.float32)
    x, relu = x.astype(self.dtype), self.activation is nn.relu
    if self.norm is None:
      bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
      y = operation(x, kernel, bias, relu) if product is None else product
    else:
      norm = self.norm(name="norm", relu=relu)
      folds = isinstance(norm, BatchNorm) and not norm.train and jnp.dtype(norm.dtype) == jnp.dtype(self.dtype)
      if product is not None:
        y = norm(product)
      elif folds and not lowering.derived():
        y = operation(x, *norm.folded(kernel), relu)
      else:
        y = norm(operation(x, kernel, None, False))
    return y if relu or self.activation is None else self.activation(y)


class Pointwise(_Convolution):
  """1×1 convolution, `ops.pointwise`; its kernel is a matrix [channels / groups, features].

  Attributes:
    result_dtype: type of the result where it is not that of compute: a classifier's logits stay float32.
  """

  strides: int | Sequence[int] = 1
  groups: int = 1
  result_dtype: DTypeLike | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], product: Float[Array, "n h w d"] | None = None
  ) -> Float[Array, "n h2 w2 d"]:
    """The layer's maps. `product` is for `pointwise_branches`, which makes it of several layers at once."""

    def operation(x, kernel, bias, relu):
      return ops.pointwise(x, kernel, bias, self.strides, self.groups, self.result_dtype, relu)

    return self._convolve(operation, x, (x.shape[-1] // self.groups, self.features), product)


class Conv(_Convolution):
  """k×k convolution, `ops.conv`; its kernel is [kernel height, width, channels / groups, features]."""

  kernel: int | Sequence[int] = 3
  strides: int | Sequence[int] = 1
  padding: Padding = "SAME"
  dilation: int | Sequence[int] = 1
  groups: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
    def operation(x, kernel, bias, relu):
      return ops.conv(x, kernel, bias, self.strides, self.padding, self.dilation, self.groups, relu)

    return self._convolve(operation, x, (*pair(self.kernel), x.shape[-1] // self.groups, self.features))


class Dense(_Convolution):
  """A fully connected layer on a map: a VALID convolution as large as the map it was made for.

  On a map of height × width it gives one position; on a larger one a map, with the same parameters. ("There is no such
  thing as fully-connected layers": on a 1×1 map it is `Pointwise`.)

  Attributes:
    size: height and width of the map that the layer was made for.
  """

  size: int | Sequence[int] = 1

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
    height, width = pair(self.size)

    def operation(x, kernel, bias, relu):
      if x.shape[1:3] != (height, width):
        return ops.conv(x, kernel, bias, padding="VALID", relu=relu)
      flat = x.reshape(-1, 1, 1, height * width * x.shape[-1])
      return ops.pointwise(flat, kernel.reshape(-1, self.features), bias, relu=relu)

    return self._convolve(operation, x, (height, width, x.shape[-1], self.features))


def pointwise_branches(
  layers: Mapping[str, nn.Module], x: Float[Array, "n h w c"]
) -> dict[str, Callable[[Array], Array]]:
  """The layers that are to be called with x, with their gradients in one where that is to be had.

  See `ops.pointwise_branches`; for training. As they are where each must make its own product: a single one, strided or
  grouped ones, other kinds than `Pointwise`, layers that differ in type or in whether they have a norm, layers that
  have no parameters yet, and where a network is traced as it is written.
  """
  kinds = {
    (pair(layer.strides), layer.groups, jnp.dtype(layer.dtype), layer.result_dtype, layer.norm is None)
    if type(layer) is Pointwise and layer.has_variable("params", "kernel")
    else None
    for layer in layers.values()
  }
  if len(layers) < 2 or len(kinds) > 1 or None in kinds or lowering.plain():
    return dict(layers)
  ((strides, groups, dtype, result_dtype, biased),) = kinds
  if strides != (1, 1) or groups > 1:
    return dict(layers)
  kernels = [layer.get_variable("params", "kernel") for layer in layers.values()]
  biases = [layer.get_variable("params", "bias") if biased else None for layer in layers.values()]
  relus = [biased and layer.activation is nn.relu for layer in layers.values()]
  with jax.named_scope("+".join(layers)):
    products = ops.pointwise_branches(x.astype(dtype), kernels, biases, relus, result_dtype)
  return {name: partial(layers[name], product=product) for name, product in zip(layers, products, strict=True)}
