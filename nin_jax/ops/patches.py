"""Convolutions as one matrix product, the kernel's taps side by side (im2col)."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import products
from nin_jax.ops.geometry import Geometry


def each(
  x: Float[Array, "n h w c"], window: tuple[int, int], geometry: Geometry
) -> Iterator[Float[Array, "n h2 w2 c"]]:
  """What each of the kernel's taps sees, row by row."""
  height, width = geometry.outputs(x.shape[1:3], window)
  x = jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))
  for row, column in np.ndindex(window):
    row, column = row * geometry.dilation[0], column * geometry.dilation[1]
    limit = (row + (height - 1) * geometry.strides[0] + 1, column + (width - 1) * geometry.strides[1] + 1)
    yield lax.slice(x, (0, row, column, 0), (x.shape[0], *limit, x.shape[3]), (1, *geometry.strides, 1))


def taps(x: Float[Array, "n h w c"], window: tuple[int, int], geometry: Geometry) -> Float[Array, "p taps_c"]:
  """What the kernel sees at each position: [positions, kernel rows · columns · channels]."""
  seen = jnp.concatenate(list(each(x, window, geometry)), axis=-1)
  return seen.reshape(-1, seen.shape[-1])


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], geometry: Geometry
) -> Float[Array, "n h2 w2 d"]:
  """The convolution, in float32; without groups."""
  kh, kw, channels, features = kernel.shape
  height, width = geometry.outputs(x.shape[1:3], (kh, kw))
  y = products.forward(taps(x, (kh, kw), geometry), kernel.reshape(kh * kw * channels, features))
  return y.reshape(x.shape[0], height, width, features)


def kernel_gradient(x: Array, g: Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of a kernel of that shape, from that of the result, in float32."""
  seen = taps(x, kernel_shape[:2], geometry)
  return products.kernel_gradient(seen, g.reshape(-1, g.shape[-1])).reshape(kernel_shape)
