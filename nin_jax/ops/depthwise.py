"""Depthwise convolutions, a channel a group, as sums over taps: there is no matrix to multiply by."""

from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops.geometry import Geometry

MOST_ADDED = 16  # products that are added up in a pass: each is a line of the program


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

  For each tap the maps as it sees them times g are added up over some of the images, in one pass without a loop, and
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
  # Where there are few images, rows are added up.
  images, rows = _divisor(n, MOST_ADDED), 1
  if images < 4:
    rows = _divisor(height, MOST_ADDED // images)
  depth, tall = n // images, height // rows
  places = [
    (slice(i * depth, (i + 1) * depth), slice(j * tall, (j + 1) * tall)) for i in range(images) for j in range(rows)
  ]

  def tap(*place: int) -> Array:
    seen = _seen(padded, place, (height, width), geometry)[..., None]
    some = reduce(jnp.add, [seen[part] * g[part] for part in places]).reshape(-1, features)
    return jnp.matmul(jnp.ones((1, len(some)), jnp.float32), some, precision="highest")

  taps = [tap(row, column) for row in range(kh) for column in range(kw)]
  return jnp.stack(taps).reshape(kernel_shape)


def _divisor(number: int, most: int) -> int:
  """The largest one that is not above `most`."""
  return max(count for count in range(1, most + 1) if number % count == 0)


def _padded(x: Array, geometry: Geometry) -> Array:
  return jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))


def _seen(padded: Array, place: tuple[int, ...], outputs: tuple[int, ...], geometry: Geometry) -> Array:
  """The maps as the tap in that row and column sees them, [n, *outputs, c]."""
  starts = [index * step for index, step in zip(place, geometry.dilation, strict=True)]
  spans = [(count - 1) * step + 1 for count, step in zip(outputs, geometry.strides, strict=True)]
  ends = [start + span for start, span in zip(starts, spans, strict=True)]
  return lax.slice(padded, (0, *starts, 0), (len(padded), *ends, padded.shape[3]), (1, *geometry.strides, 1))
