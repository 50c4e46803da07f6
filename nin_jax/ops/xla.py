"""Convolutions as XLA has them."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops.geometry import Geometry


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c_per_group d"], geometry: Geometry, dtype=jnp.float32
) -> Float[Array, "n h2 w2 d"]:
  """The convolution. jax 0.7 derives gradients only where dtype, the type of the result, is that of x."""
  return lax.conv_general_dilated(
    x,
    kernel,
    geometry.strides,
    geometry.pads,
    rhs_dilation=geometry.dilation,
    feature_group_count=geometry.groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=dtype,
  )


def input_gradient(g: Array, kernel: Array, shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of maps of that shape, from that of the result, in float32.

  Padding that is wider than the kernel reaches is a step of its own: within the convolution XLA's CPU backend (jaxlib
  0.10) gives wrong gradients for some of it.
  """
  x, kernel = jax.ShapeDtypeStruct(shape, jnp.float32), kernel.astype(jnp.float32)  # jax 0.7 transposes one type only
  apart, within = geometry.pads, geometry
  if any(max(pads) >= span for pads, span in zip(apart, geometry.window(kernel.shape[:2]), strict=True)):
    within = geometry._replace(pads=((0, 0), (0, 0)))
  else:
    apart = ((0, 0), (0, 0))

  def convolution(x: Array) -> Array:
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in apart), (0, 0, 0)])
    return forward(padded, kernel, within)

  (dx,) = jax.linear_transpose(convolution, x)(g.astype(jnp.float32))
  return dx


def kernel_gradient(x: Array, g: Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of a kernel of that shape, from that of the result, in float32.

  XLA's CPU backend takes it for a convolution of the maps by the result's gradient, and lays out patches of the maps.
  So it is made the other way round where the result is larger than the maps (the larger of two for a kernel takes 5 to
  80 times as long), and where it is as large and has fewer features than they have channels (5×5 from 100 channels to
  10: 68 → 155 GFLOP/s).
  """
  kh, kw, channels, features = kernel_shape
  reaches = [window - 1 for window in geometry.window((kh, kw))]
  back = tuple((reach - low, reach - high) for reach, (low, high) in zip(reaches, geometry.pads, strict=True))
  turnable = geometry.strides == (1, 1) and geometry.groups == 1 and min(map(min, back)) >= 0
  growth = [after - before for before, after in zip(x.shape[1:3], g.shape[1:3], strict=True)]
  if turnable and min(growth) >= 0 and (max(growth) > 0 or features < channels):
    turned = _transposed(g, x, (kh, kw, features, channels), geometry._replace(pads=back))
    return jnp.swapaxes(turned[::-1, ::-1], 2, 3)
  return _transposed(x, g, kernel_shape, geometry)


def _transposed(x: Array, g: Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> Array:
  kernel = jax.ShapeDtypeStruct(kernel_shape, jnp.float32)
  wide = x.astype(jnp.float32)  # so that the kernel's gradient is not rounded
  (dkernel,) = jax.linear_transpose(lambda kernel: forward(wide, kernel, geometry), kernel)(g.astype(jnp.float32))
  return dkernel
