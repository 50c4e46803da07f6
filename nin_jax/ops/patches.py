"""Convolutions as one matrix product, the kernel's taps side by side (im2col)."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import products
from nin_jax.ops.bits import as_bits, as_values
from nin_jax.ops.geometry import Geometry


def taps(x: Float[Array, "n h w c"], window: tuple[int, int], geometry: Geometry) -> Float[Array, "p taps_c"]:
  """What the kernel sees at each position: [positions, kernel rows · columns · channels].

  First columns are laid side by side, then rows: long copies are faster than many short ones.
  """
  height, width = geometry.outputs(x.shape[1:3], window)
  (row_step, column_step), (row_distance, column_distance) = geometry.strides, geometry.dilation
  bits = jnp.pad(as_bits(x), ((0, 0), *geometry.pads, (0, 0)))

  def every(bits: Array, start: int, count: int, step: int, axis: int) -> Array:
    return lax.slice_in_dim(bits, start, start + (count - 1) * step + 1, step, axis)

  columns = [every(bits, j * column_distance, width, column_step, 2) for j in range(window[1])]
  wide = jnp.concatenate(columns, axis=-1)
  seen = jnp.concatenate([every(wide, i * row_distance, height, row_step, 1) for i in range(window[0])], axis=-1)
  return as_values(seen.reshape(-1, seen.shape[-1]), x.dtype)


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], geometry: Geometry
) -> Float[Array, "n h2 w2 d"]:
  """The convolution, in float32; without groups."""
  kh, kw, channels, features = kernel.shape
  height, width = geometry.outputs(x.shape[1:3], (kh, kw))
  y = products.forward(taps(x, (kh, kw), geometry), kernel.reshape(kh * kw * channels, features))
  return y.reshape(x.shape[0], height, width, features)
