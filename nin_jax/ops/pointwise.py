"""The 1×1 convolution: one matrix applied at every position."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax.ops.padding import pair


def pointwise(
  x: Float[Array, "*batch h w c"],
  kernel: Float[Array, "c_per_group d"],
  bias: Float[Array, " d"] | None = None,
  strides: int | Sequence[int] = 1,
  groups: int = 1,
  dtype: DTypeLike | None = None,
) -> Float[Array, "*batch h2 w2 d"]:
  """1×1 convolution as an einsum on flattened positions: y[p, d] = sum_c x[p, c] kernel[c, d] + bias[d].

  This is the cross-channel parametric pooling (cccp) of Network in Network (Lin et al. 2013, 3.2). Positions are
  flattened first, because the product's gradients are then plain matrix products too.

  Args:
    x: maps, channels last; its type is the type of compute.
    kernel: one column for each output channel; with groups, column j reads only the channels of its own group, as
      `lax.conv_general_dilated` orders them (the output channels lie group by group).
    bias: added before rounding to the result's type.
    strides: keep each s-th row and column; nothing is computed for the others.
    groups: number of groups g; kernel has c / g rows.
    dtype: of the result; None: that of x.

  Returns:
    Maps of ceil(h / s) × ceil(w / s); products are accumulated in float32.

  Raises:
    ValueError: the channels of x are not groups × the kernel's rows, or d is not a multiple of groups.
  """
  channels, (rows, features) = x.shape[-1], kernel.shape
  if channels != rows * groups or features % groups:
    raise ValueError(f"a kernel of {rows}×{features} in {groups} groups does not fit {channels} channels")
  row_stride, column_stride = pair(strides)
  if (row_stride, column_stride) != (1, 1):
    x = x[..., ::row_stride, ::column_stride, :]
  kernel = kernel.astype(x.dtype)
  if groups == 1:
    y = jnp.einsum("pc,cd->pd", x.reshape(-1, channels), kernel, preferred_element_type=jnp.float32)
  else:
    grouped = x.reshape(-1, groups, rows)
    kernel = kernel.reshape(rows, groups, features // groups)
    y = jnp.einsum("pgc,cgd->pgd", grouped, kernel, preferred_element_type=jnp.float32)
  y = y.reshape(*x.shape[:-1], features)
  if bias is not None:
    y = y + bias
  return y.astype(dtype or x.dtype)
