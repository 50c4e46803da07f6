"""The k×k convolution, and its lowerings."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops.padding import Padding, Pads, explicit_padding, pair, positions

LOWERINGS = ("xla", "patches")
_lowering = contextvars.ContextVar("lowering", default="xla")


@contextlib.contextmanager
def lowered_as(lowering: str) -> Iterator[None]:
  """Within it, convolutions are traced in one of the `LOWERINGS`; all agree to float32 tolerance.

  `xla` is XLA's own convolution. `patches` is a matrix product with the kernel's taps side by side: what to take where
  XLA's CPU convolution falls to a slow path, which it does in loops (15 to 30 times slower) and for the groups that
  `vmap` over kernels makes of it (4 times slower on Network in Network).
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"lowering={lowering!r}: accepted is one of {', '.join(LOWERINGS)}")
  token = _lowering.set(lowering)
  try:
    yield
  finally:
    _lowering.reset(token)


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
  pads = explicit_padding(padding, x.shape[1:3], window, strides)
  lower = _patches if _lowering.get() == "patches" and groups == 1 else _xla
  y = lower(x, kernel.astype(x.dtype), strides, pads, dilation, groups)
  if bias is not None:
    y = y + bias
  return y.astype(x.dtype)


def _xla(
  x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, dilation: tuple[int, int], groups: int
) -> Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    pads,
    rhs_dilation=dilation,
    feature_group_count=groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=jnp.float32,
  )


def _patches(
  x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, dilation: tuple[int, int], groups: int
) -> Array:
  """[positions, taps · c] · [taps · c, d]; groups is 1."""
  del groups
  kh, kw, channels, features = kernel.shape
  window = tuple((k - 1) * d + 1 for k, d in zip((kh, kw), dilation, strict=True))
  height, width = positions(x.shape[1:3], window, strides, pads)
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))

  def tap(row: int, column: int) -> Array:
    row, column = row * dilation[0], column * dilation[1]
    limit = (row + (height - 1) * strides[0] + 1, column + (width - 1) * strides[1] + 1)
    return lax.slice(x, (0, row, column, 0), (x.shape[0], *limit, channels), (1, *strides, 1))

  taps = jnp.concatenate([tap(row, column) for row in range(kh) for column in range(kw)], axis=-1)
  flat = taps.reshape(-1, kh * kw * channels), kernel.reshape(-1, features)
  y = jnp.einsum("pc,cd->pd", *flat, preferred_element_type=jnp.float32)
  return y.reshape(x.shape[0], height, width, features)
