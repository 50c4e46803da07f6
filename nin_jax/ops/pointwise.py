"""The 1×1 convolution: one matrix applied at every position."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax.ops import epilogue, lowering, onednn, products
from nin_jax.ops.geometry import Geometry
from nin_jax.ops.padding import pair


def pointwise(
  x: Float[Array, "*batch h w c"],
  kernel: Float[Array, "c_per_group d"],
  bias: Float[Array, " d"] | None = None,
  strides: int | Sequence[int] = 1,
  groups: int = 1,
  dtype: DTypeLike | None = None,
  relu: bool = False,
) -> Float[Array, "*batch h2 w2 d"]:
  """1×1 convolution as an einsum on flattened positions: y[p, d] = sum_c x[p, c] kernel[c, d] + bias[d].

  This is the cross-channel parametric pooling (cccp) of Network in Network (Lin et al. 2013, 3.2). Positions are
  flattened first, because the product's gradients are then plain matrix products too. In CPU programs that may call
  oneDNN, it makes that product, with bias and ReLU in one pass: see `lowering`.

  Args:
    x: maps, channels last; its type is the type of compute.
    kernel: one column for each output channel; with groups, column j reads only the channels of its own group, as
      `lax.conv_general_dilated` orders them (the output channels lie group by group).
    bias: added before rounding to the result's type.
    strides: keep each s-th row and column; nothing is computed for the others.
    groups: number of groups g; kernel has c / g rows.
    dtype: of the result; None: that of x.
    relu: whether the result goes through max(·, 0), before rounding too.

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
  shape, dtype = (*x.shape[:-1], features), jnp.dtype(dtype or x.dtype)
  if groups > 1:
    grouped = x.reshape(-1, groups, rows)
    kernel = kernel.astype(x.dtype).reshape(rows, groups, features // groups)
    y = jnp.einsum("pgc,cgd->pgd", grouped, kernel, preferred_element_type=jnp.float32)
    return epilogue.apply(y.reshape(-1, features), bias, relu, dtype).reshape(shape)
  flat = x.reshape(-1, channels)
  if lowering.plain():
    y = epilogue.apply(products.forward(flat, kernel.astype(x.dtype)), bias, relu, dtype)
  else:
    y = _apply(flat, kernel, bias, relu, dtype)
  return y.reshape(shape)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _apply(x: Array, kernel: Array, bias: Array | None, relu: bool, dtype: jnp.dtype) -> Array:
  """On flattened positions, with gradients of its own: see `products.kernel_gradient`."""
  if _called(lowering.FORWARD, x, kernel.shape) and dtype in (x.dtype, jnp.float32):
    return onednn.product(x, kernel.astype(x.dtype), bias, relu, dtype)
  return epilogue.apply(products.forward(x, kernel.astype(x.dtype)), bias, relu, dtype)


def _called(of: str, x: Array, kernel: tuple[int, int]) -> bool:
  """Whether oneDNN is to make a product."""
  return lowering.chosen(of, (1, 1, *x.shape), (1, 1, *kernel), Geometry(), x.dtype) == "onednn"


def _forward(x: Array, kernel: Array, bias: Array | None, relu: bool, dtype: jnp.dtype) -> tuple[Array, tuple]:
  y = _apply(x, kernel, bias, relu, dtype)
  return y, (x, kernel, bias is not None, y if relu else None)


def _backward(relu: bool, dtype: jnp.dtype, kept: tuple, g: Array) -> tuple[Array, Array, Array | None]:
  x, kernel, biased, y = kept
  called = _called(lowering.KERNEL, x, kernel.shape)
  g = epilogue.gradient(g, y)
  dbias = epilogue.bias_gradient(g, called) if biased else None
  g = g.astype(x.dtype)
  if _called(lowering.FORWARD, g, kernel.shape[::-1]):
    dx = onednn.product_input_gradient(g, kernel.astype(x.dtype))
  else:
    dx = products.input_gradient(g, kernel.astype(x.dtype)).astype(x.dtype)
  sum_of_products = onednn.product_kernel_gradient if called else products.kernel_gradient
  return dx, sum_of_products(x, g).astype(kernel.dtype), dbias


_apply.defvjp(_forward, _backward)
