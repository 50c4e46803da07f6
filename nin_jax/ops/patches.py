"""Convolutions as one matrix product, the kernel's taps side by side (im2col); `depthwise` has those that are none."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import depthwise, products
from nin_jax.ops.bits import as_bits, as_values
from nin_jax.ops.geometry import Geometry


def shifted(maps: Float[Array, "n h w c"], axis: int, starts: Sequence[int], count: int, step: int = 1) -> list[Array]:
  """From each start on, `count` positions of an axis, `step` apart; zeros before and after the maps."""
  span = (count - 1) * step + 1
  before, after = max(0, -min(starts)), max(0, max(starts) + span - maps.shape[axis])
  padded = jnp.pad(maps, [(before, after) if place == axis else (0, 0) for place in range(4)])
  return [lax.slice_in_dim(padded, start + before, start + before + span, step, axis) for start in starts]


def taps(x: Float[Array, "n h w c"], window: tuple[int, int], geometry: Geometry) -> Float[Array, "p taps_c"]:
  """What the kernel sees at each position: [positions, kernel rows · columns · channels].

  First columns are laid side by side, then rows: long copies are faster than many short ones.
  """
  seen = jnp.pad(as_bits(x), ((0, 0), *geometry.pads, (0, 0)))
  outputs = geometry.outputs(x.shape[1:3], window)
  for axis in (1, 0):
    starts = [tap * geometry.dilation[axis] for tap in range(window[axis])]
    seen = jnp.concatenate(shifted(seen, 1 + axis, starts, outputs[axis], geometry.strides[axis]), axis=-1)
  return as_values(seen.reshape(-1, seen.shape[-1]), x.dtype)


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c_per_group d"], geometry: Geometry
) -> Float[Array, "n h2 w2 d"]:
  """The convolution, in float32. Where a group has one channel (depthwise) it is a sum over taps, not a product."""
  kh, kw, channels, features = kernel.shape
  if channels == 1 and geometry.groups > 1:
    return depthwise.forward(x, kernel, geometry)
  height, width = geometry.outputs(x.shape[1:3], (kh, kw))
  seen = taps(x, (kh, kw), geometry)
  if geometry.groups > 1:
    seen = seen.reshape(-1, kh * kw, geometry.groups, channels)
    kernel = kernel.reshape(kh * kw, channels, geometry.groups, features // geometry.groups)
    y = jnp.einsum("ptgc,tcgd->pgd", seen, kernel, preferred_element_type=jnp.float32)
  else:
    y = products.forward(seen, kernel.reshape(kh * kw * channels, features))
  return y.reshape(x.shape[0], height, width, features)
