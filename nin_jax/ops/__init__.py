"""Pure functions on arrays: what a network is made of, without Flax."""

from nin_jax.ops.batch_norm import batch_norm, normalize
from nin_jax.ops.conv import conv
from nin_jax.ops.lrn import local_response_norm
from nin_jax.ops.pointwise import pointwise, pointwise_branches
from nin_jax.ops.pool import avg_pool, global_avg_pool, max_pool

__all__ = [
  "avg_pool",
  "batch_norm",
  "conv",
  "global_avg_pool",
  "local_response_norm",
  "max_pool",
  "normalize",
  "pointwise",
  "pointwise_branches",
]
