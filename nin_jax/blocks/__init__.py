"""Groups of layers that the papers name."""

from nin_jax.blocks.auxiliary import AuxiliaryHead
from nin_jax.blocks.downsample import DOWNSAMPLES, Downsample
from nin_jax.blocks.inception import POINTWISE_LAYERS, Inception, InceptionWidths
from nin_jax.blocks.mlpconv import MLPConv
from nin_jax.blocks.separable import SeparableConv

__all__ = [
  "DOWNSAMPLES",
  "POINTWISE_LAYERS",
  "AuxiliaryHead",
  "Downsample",
  "Inception",
  "InceptionWidths",
  "MLPConv",
  "SeparableConv",
]
