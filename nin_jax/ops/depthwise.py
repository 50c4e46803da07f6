"""Depthwise convolutions, a channel a group, as sums over taps: there is no matrix to multiply by."""

from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops.geometry import Geometry

LEAST_ADDED, MOST_ADDED = 4, 16  # products that are added up in a pass
MOST_PRODUCTS = 256  # of all taps: each is a line of the program
FEW_IMAGES = 4  # rows are added up of fewer


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw 1 d"], geometry: Geometry
) -> Float[Array, "n h2 w2 d"]:
  """Each tap times the maps as it sees them, in one pass and in float32: XLA's own takes 3 to 40 times as long."""
  kh, kw, _, features = kernel.shape
  n, channels = x.shape[0], x.shape[3]
  outputs = geometry.outputs(x.shape[1:3], (kh, kw))
  padded = _padded(x, geometry).astype(jnp.float32)
  weights = kernel.astype(jnp.float32).reshape(kh, kw, channels, features // channels)

  def tap(*place: int) -> Array:
    return (_seen(padded, place, outputs, geometry)[..., None] * weights[place]).reshape(n, *outputs, features)

  return reduce(jnp.add, [tap(row, column) for row in range(kh) for column in range(kw)])


def kernel_gradient(
  x: Float[Array, "n h w c"], g: Float[Array, "n h2 w2 d"], kernel_shape: tuple[int, ...], geometry: Geometry
) -> Float[Array, "kh kw 1 d"]:
  """The gradient of a kernel of that shape, from that of the result, in float32.

  For each tap the maps as it sees them times g are added up over parts of the batch, in one pass without a loop, and
  what that leaves by a product with ones: XLA's sum over positions walks through each channel alone, 4 times as long.

  Args:
    x: the maps.
    g: the gradient of the result.
    kernel_shape: (height, width, 1, features).
    geometry: of the kernel on the maps.
  """
  kh, kw, _, features = kernel_shape
  n, height, width, _ = g.shape
  channels = x.shape[3]
  padded = _padded(x, geometry).astype(jnp.float32)
  g = g.astype(jnp.float32).reshape(n, height, width, channels, features // channels)
  # Parts of an axis are added up, rows where there are few images; what the division leaves over one by one.
  axis = 0 if n >= FEW_IMAGES else 1
  size = g.shape[axis]
  parts = max(1, min(size, max(LEAST_ADDED, min(MOST_ADDED, MOST_PRODUCTS // (kh * kw)))))
  depth = size // parts

  def tap(*place: int) -> Array:
    seen = _seen(padded, place, (height, width), geometry)[..., None]

    def added(starts: range) -> Array:
      both = ([lax.slice_in_dim(side, i, i + starts.step, axis=axis) for side in (seen, g)] for i in starts)
      some = reduce(jnp.add, [maps * gradient for maps, gradient in both]).reshape(-1, features)
      return jnp.matmul(jnp.ones((1, len(some)), jnp.float32), some, precision="highest")

    whole, left = range(0, parts * depth, depth or 1), range(parts * depth, size)
    return reduce(jnp.add, [added(starts) for starts in (whole, left) if starts], jnp.zeros((1, features), jnp.float32))

  taps = [tap(row, column) for row in range(kh) for column in range(kw)]
  return jnp.stack(taps).reshape(kernel_shape)


def _padded(x: Array, geometry: Geometry) -> Array:
  return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in geometry.pads), (0, 0, 0)])


def _seen(padded: Array, place: tuple[int, ...], outputs: tuple[int, ...], geometry: Geometry) -> Array:
  """The maps as the tap in that row and column sees them, [n, *outputs, c]."""
  starts = [index * step for index, step in zip(place, geometry.dilation, strict=True)]
  spans = [(count - 1) * step + 1 for count, step in zip(outputs, geometry.strides, strict=True)]
  ends = [start + span for start, span in zip(starts, spans, strict=True)]
  return lax.slice(padded, (0, *starts, 0), (len(padded), *ends, padded.shape[3]), (1, *geometry.strides, 1))
