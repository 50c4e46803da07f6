"""The 1×1 convolution: one matrix applied at every position."""

import itertools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax.ops import epilogue, lowering, products
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
  flattened first, because the product's gradients are then plain matrix products too.

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
    # Not x[..., ::s, ::s, :], which is a gather in jax 0.7, and its gradient a scatter.
    x = lax.slice(x, (0,) * x.ndim, x.shape, (*(1,) * (x.ndim - 3), row_stride, column_stride, 1))
  shape, dtype = (*x.shape[:-1], features), jnp.dtype(dtype or x.dtype)
  if groups > 1:
    grouped = x.reshape(-1, groups, rows)
    kernel = kernel.astype(x.dtype).reshape(rows, groups, features // groups)
    y = jnp.einsum("pgc,cgd->pgd", grouped, kernel, preferred_element_type=jnp.float32)
    return epilogue.apply(y.reshape(-1, features), bias, relu, dtype).reshape(shape)
  if lowering.plain():
    flat = x.reshape(-1, channels)
    return epilogue.apply(products.forward(flat, kernel.astype(x.dtype)), bias, relu, dtype).reshape(shape)
  (y,) = _apply(x.reshape(-1, channels), (kernel,), (bias,), (relu,), dtype)
  return y.reshape(shape)


def pointwise_branches(
  x: Float[Array, "*batch h w c"],
  kernels: Sequence[Float[Array, "c _"]],
  biases: Sequence[Float[Array, " _"] | None],
  relus: Sequence[bool],
  dtype: DTypeLike | None = None,
) -> tuple[Float[Array, "*batch h w _"], ...]:
  """`pointwise` of the same maps with several kernels, as the branches of an Inception module read them.

  Each result is a product of its own, but their gradients are one of each kind, with the kernels side by side: the
  maps are read once, and their gradient is written once, in place of one for each branch and their sum.

  Args:
    x: see `pointwise`.
    kernels, biases, relus: of each branch.
    dtype: of the results; None: that of x.

  Raises:
    ValueError: some have a bias, and some have none.
  """
  if len({bias is None for bias in biases}) > 1:
    raise ValueError("either all branches have a bias or none has")
  if lowering.plain():
    branches = zip(kernels, biases, relus, strict=True)
    return tuple(pointwise(x, kernel, bias, dtype=dtype, relu=relu) for kernel, bias, relu in branches)
  flat = x.reshape(-1, x.shape[-1])
  results = _apply(flat, tuple(kernels), tuple(biases), tuple(relus), jnp.dtype(dtype or x.dtype))
  return tuple(y.reshape(*x.shape[:-1], y.shape[-1]) for y in results)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _apply(
  x: Array, kernels: tuple[Array, ...], biases: tuple[Array | None, ...], relus: tuple[bool, ...], dtype: jnp.dtype
) -> tuple[Array, ...]:
  """On flattened positions, with gradients of their own: see `products.kernel_gradient`."""
  branches = zip(kernels, biases, relus, strict=True)
  return tuple(
    epilogue.apply(products.forward(x, kernel.astype(x.dtype)), bias, relu, dtype) for kernel, bias, relu in branches
  )


def _forward(
  x: Array, kernels: tuple[Array, ...], biases: tuple[Array | None, ...], relus: tuple[bool, ...], dtype: jnp.dtype
) -> tuple[tuple[Array, ...], tuple]:
  results = _apply(x, kernels, biases, relus, dtype)
  kept = tuple(y if relu else None for y, relu in zip(results, relus, strict=True))
  return results, (x, kernels, biases[0] is not None, kept)


def _backward(
  relus: tuple[bool, ...], dtype: jnp.dtype, kept: tuple, cotangents: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...], tuple[Array | None, ...]]:
  x, kernels, biased, results = kept
  g = jnp.concatenate([epilogue.gradient(*pair) for pair in zip(cotangents, results, strict=True)], axis=1)
  kernel = jnp.concatenate(kernels, axis=1)
  dbias = epilogue.bias_gradient(g) if biased else None
  g = g.astype(x.dtype)
  dx = products.input_gradient(g, kernel.astype(x.dtype)).astype(x.dtype)
  ends = list(itertools.accumulate(kernel.shape[1] for kernel in kernels))[:-1]
  dkernels = jnp.split(products.kernel_gradient(x, g).astype(kernel.dtype), ends, axis=1)
  dbiases = jnp.split(dbias, ends) if biased else [None] * len(kernels)
  return dx, tuple(dkernels), tuple(dbiases)


_apply.defvjp(_forward, _backward)
