"""The k×k convolution."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops.padding import Padding, explicit_padding, pair


def conv(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "kh kw c_per_group d"],
  bias: Float[Array, " d"] | None = None,
  strides: int | Sequence[int] = 1,
  padding: Padding = "SAME",
  dilation: int | Sequence[int] = 1,
  groups: int = 1,
) -> Float[Array, "n h2 w2 d"]:
  """k×k convolution (cross-correlation, as everywhere in the field), channels last.

  Args:
    x: maps; their type is the type of compute.
    kernel: height, width, input channels of one group, output channels (the output channels lie group by group).
    bias: added before rounding to the type of x.
    strides: step of the kernel.
    padding: see `explicit_padding`.
    dilation: distance of the kernel's taps.
    groups: number of groups; c for a depthwise convolution.

  Returns:
    Maps in the type of x; products are accumulated in float32.

  Raises:
    ImageTooSmall: the kernel does not fit.
  """
  strides, dilation = pair(strides), pair(dilation)
  window = tuple((k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True))
  y = lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    strides,
    explicit_padding(padding, x.shape[1:3], window, strides),
    rhs_dilation=dilation,
    feature_group_count=groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=jnp.float32,
  )
  if bias is not None:
    y = y + bias
  return y.astype(x.dtype)
