"""Convolutions as XLA has them."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops.geometry import Geometry


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c_per_group d"], geometry: Geometry
) -> Float[Array, "n h2 w2 d"]:
  """The convolution, in float32."""
  return lax.conv_general_dilated(
    x,
    kernel,
    geometry.strides,
    geometry.pads,
    rhs_dilation=geometry.dilation,
    feature_group_count=geometry.groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=jnp.float32,
  )


def input_gradient(g: Array, kernel: Array, shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of maps of that shape, from that of the result, in float32."""
  x = jax.ShapeDtypeStruct(shape, g.dtype)
  (dx,) = jax.linear_transpose(lambda x: forward(x, kernel, geometry), x)(g.astype(jnp.float32))
  return dx.astype(jnp.float32)


def kernel_gradient(x: Array, g: Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of a kernel of that shape, from that of the result, in float32."""
  kernel = jax.ShapeDtypeStruct(kernel_shape, jnp.float32)
  wide = x.astype(jnp.float32)  # so that the kernel's gradient is not rounded
  (dkernel,) = jax.linear_transpose(lambda kernel: forward(wide, kernel, geometry), kernel)(g.astype(jnp.float32))
  return dkernel
