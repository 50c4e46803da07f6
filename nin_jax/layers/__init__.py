"""Flax (Linen) modules over the ops: float32 parameters, compute in float32 or bfloat16."""

from nin_jax.layers.convolution import Conv, Dense, Pointwise, pointwise_branches
from nin_jax.layers.dropout import Dropout
from nin_jax.layers.initializers import kernel_initializer
from nin_jax.layers.normalization import LocalResponseNorm, batch_norm
from nin_jax.layers.pooling import AvgPool, HeadPool, MaxPool

__all__ = [
  "AvgPool",
  "Conv",
  "Dense",
  "Dropout",
  "HeadPool",
  "LocalResponseNorm",
  "MaxPool",
  "Pointwise",
  "batch_norm",
  "kernel_initializer",
  "pointwise_branches",
]
