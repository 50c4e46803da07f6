"""Normalisation: across channels (LRN) and over the batch."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax import ops


class LocalResponseNorm(nn.Module):
  """`ops.local_response_norm`."""

  size: int = 5
  alpha: float = 1e-4
  beta: float = 0.75
  k: float = 1.0

  def __call__(self, x: Float[Array, "*positions c"]) -> Float[Array, "*positions c"]:
    return ops.local_response_norm(x, self.size, self.alpha, self.beta, self.k)


class BatchNorm(nn.Module):
  """`ops.batch_norm` in training, which keeps running means of the statistics; otherwise `ops.normalize` by these.

  The variables have the names that Flax's own has: parameters "scale" and "bias", "batch_stats" "mean" and "var". They
  are float32.

  Attributes:
    train: whether to normalise by the batch's statistics.
    axis_name, epsilon, relu: see `ops.batch_norm`.
    momentum: of the running means: mean = momentum * mean + (1 - momentum) * batch mean.
    dtype: type of the result.
  """

  train: bool
  axis_name: str | None = None
  momentum: float = 0.9
  epsilon: float = 1e-5
  relu: bool = False
  dtype: DTypeLike = jnp.float32

  def __call__(self, x: Float[Array, "*positions c"]) -> Float[Array, "*positions c"]:
    scale, bias, mean, variance = self._variables(x.shape[-1])
    if not self.train:
      return ops.normalize(x, mean.value, variance.value, scale, bias, self.epsilon, self.relu, self.dtype)
    first = self.is_initializing()  # outside of the parallel map, and on images that are not to count
    y, *batch = ops.batch_norm(x, scale, bias, self.epsilon, None if first else self.axis_name, self.relu, self.dtype)
    if not first:
      for running, value in zip((mean, variance), batch, strict=True):
        running.value = self.momentum * running.value + (1 - self.momentum) * value
    return y

  def folded(self, kernel: Float[Array, "*rows d"]) -> tuple[Float[Array, "*rows d"], Float[Array, " d"]]:
    """The kernel and the bias of a convolution that has the normalisation by running means in it."""
    scale, bias, mean, variance = self._variables(kernel.shape[-1])
    factor = lax.rsqrt(variance.value + self.epsilon) * scale
    return kernel * factor, bias - mean.value * factor

  @nn.compact
  def _variables(self, channels: int) -> tuple[Array, Array, nn.Variable, nn.Variable]:
    scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
    mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
    variance = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
    return scale, bias, mean, variance


def batch_norm(
  train: bool, dtype: DTypeLike, axis_name: str | None = None, momentum: float = 0.9, epsilon: float = 1e-5
) -> Callable[..., nn.Module]:
  """What a convolution takes as its `norm`; see `BatchNorm`."""
  return partial(BatchNorm, train=train, axis_name=axis_name, momentum=momentum, epsilon=epsilon, dtype=dtype)
