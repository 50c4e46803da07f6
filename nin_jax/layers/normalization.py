"""Normalisation: across channels (LRN) and over the batch."""

from collections.abc import Callable
from functools import partial

from flax import linen as nn
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


def batch_norm(
  train: bool, dtype: DTypeLike, axis_name: str | None = None, momentum: float = 0.9, epsilon: float = 1e-5
) -> Callable[..., nn.Module]:
  """What a convolution takes as its `norm`: batch normalisation (Ioffe and Szegedy 2015) with statistics in float32.

  Args:
    train: normalise by the batch's statistics and keep a running mean of them; otherwise by the running means.
    dtype: type of the result.
    axis_name: of the parallel map over whose devices the statistics are taken; None: each device's own.
    momentum: of the running means: mean = momentum * mean + (1 - momentum) * batch mean.
    epsilon: added to the variance.
  """
  return partial(
    nn.BatchNorm,
    use_running_average=not train,
    axis_name=axis_name,
    momentum=momentum,
    epsilon=epsilon,
    dtype=dtype,
  )
