"""The k×k convolution, with its bias and ReLU, and their gradients."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import correlation, epilogue, lowering, patches, winograd, xla
from nin_jax.ops.bits import as_bits, as_values
from nin_jax.ops.geometry import Geometry
from nin_jax.ops.padding import Padding, explicit_padding, pair

_FORWARD = {"xla": xla.forward, "patches": patches.forward, "winograd": winograd.forward}


def conv(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "kh kw c_per_group d"],
  bias: Float[Array, " d"] | None = None,
  strides: int | Sequence[int] = 1,
  padding: Padding = "SAME",
  dilation: int | Sequence[int] = 1,
  groups: int = 1,
  relu: bool = False,
) -> Float[Array, "n h2 w2 d"]:
  """k×k convolution (cross-correlation, as everywhere in the field), channels last.

  How it is computed is chosen by its shape: see `lowering`.

  Args:
    x: maps; their type is the type of compute.
    kernel: height, width, input channels of one group, output channels (the output channels lie group by group).
    bias: added before rounding to the type of x (after a first rounding if JAX derives the gradients; see `lowering`).
    strides: step of the kernel.
    padding: see `explicit_padding`.
    dilation: distance of the kernel's taps.
    groups: number of groups; c for a depthwise convolution.
    relu: whether the result goes through max(·, 0), before rounding too.

  Returns:
    Maps in the type of x; products are accumulated in float32.

  Raises:
    ImageTooSmall: the kernel does not fit.
  """
  geometry = Geometry(pair(strides), ((0, 0), (0, 0)), pair(dilation), groups)
  window = geometry.window(kernel.shape[:2])
  pads = explicit_padding(padding, x.shape[1:3], window, geometry.strides)
  if min(map(min, pads)) < 0:  # XLA's CPU backend gives wrong kernel gradients where some are below 0 and some above
    x = x[:, *(slice(max(-low, 0), min(high, 0) or None) for low, high in pads)]
    pads = tuple((max(low, 0), max(high, 0)) for low, high in pads)
  geometry = geometry._replace(pads=pads)
  if lowering.plain():
    return epilogue.apply(xla.forward(x, kernel.astype(x.dtype), geometry, x.dtype), bias, relu, x.dtype)
  return _convolve(x, kernel, bias, geometry, relu)


def _lower(x: Array, kernel: Array, geometry: Geometry, bias: Array | None = None, relu: bool = False) -> Array:
  """The convolution with what comes after it, in the type of x."""
  name = lowering.chosen(lowering.FORWARD, x.shape, kernel.shape, geometry)
  return epilogue.apply(_FORWARD[name](x, kernel.astype(x.dtype), geometry), bias, relu, x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _convolve(x: Array, kernel: Array, bias: Array | None, geometry: Geometry, relu: bool) -> Array:
  return _lower(x, kernel, geometry, bias, relu)


def _forward(x: Array, kernel: Array, bias: Array | None, geometry: Geometry, relu: bool) -> tuple[Array, tuple]:
  y = _lower(x, kernel, geometry, bias, relu)
  return y, (x, kernel, bias is not None, y if relu else None)


def _backward(geometry: Geometry, relu: bool, kept: tuple, g: Array) -> tuple[Array, Array, Array | None]:
  x, kernel, biased, y = kept
  name = lowering.chosen(lowering.KERNEL, x.shape, kernel.shape, geometry)
  g = epilogue.gradient(g, y)
  dbias = epilogue.bias_gradient(g) if biased else None
  dx = _input_gradient(g, kernel, x.shape, geometry)
  return dx, _kernel_gradient(x, g, kernel.shape, geometry, name).astype(kernel.dtype), dbias


_convolve.defvjp(_forward, _backward)


def _input_gradient(g: Array, kernel: Array, shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of maps of that shape: convolutions of the result's with the kernel turned round.

  With strides s the maps' positions fall into s² phases, and those of one have seen every s-th tap: each phase is a
  convolution of its own, in which nothing is multiplied by the zeros between the result's positions. With strides and
  dilation both, and where `lowering.phased` says so, it is XLA's.
  """
  strided = geometry.strides != (1, 1)
  by_xla = geometry.dilation != (1, 1) or not lowering.phased(geometry)
  if strided and by_xla:
    return xla.input_gradient(g, kernel.astype(g.dtype), shape, geometry).astype(g.dtype)
  strides, spread = geometry.strides, Geometry(dilation=geometry.dilation, groups=geometry.groups)
  lows = [low for low, _ in geometry.pads]
  # Of a phase, in positions of the result: where it begins, and how long it is.
  first = [low // step for low, step in zip(lows, strides, strict=True)]
  last = [(n - 1 + low) // step for n, low, step in zip(shape[1:3], lows, strides, strict=True)]
  counts = [end - start + 1 for start, end in zip(first, last, strict=True)]

  def phase(row: int, column: int) -> Array:
    if row >= kernel.shape[0] or column >= kernel.shape[1]:
      return jnp.zeros((shape[0], *counts, shape[3]), g.dtype)
    taps = lax.slice(kernel, (row, column, 0, 0), kernel.shape, (*strides, 1, 1))
    reaches = [window - 1 for window in spread.window(taps.shape[:2])]
    befores = [reach - start for reach, start in zip(reaches, first, strict=True)]
    afters = [end - size + 1 for end, size in zip(last, g.shape[1:3], strict=True)]
    turned = _turned(taps, geometry.groups)
    pads = tuple((max(before, 0), max(after, 0)) for before, after in zip(befores, afters, strict=True))
    return _lower(_cropped(g, befores, afters), turned, spread._replace(pads=pads))

  phases = [as_bits(phase(row, column)) for row in range(strides[0]) for column in range(strides[1])]
  n, height, width, channels = phases[0].shape
  apart = jnp.stack(phases).reshape(*strides, n, height, width, channels)
  dx = apart.transpose(2, 3, 0, 4, 1, 5).reshape(n, height * strides[0], width * strides[1], channels)
  starts = [low % step for low, step in zip(lows, strides, strict=True)]
  ends = [start + n - step * count for start, n, step, count in zip(starts, shape[1:3], strides, counts, strict=True)]
  return _cropped(as_values(dx, g.dtype), [-start for start in starts], ends)


def _turned(kernel: Array, groups: int) -> Array:
  """The input gradient's kernel: taps from the last to the first, channels and features of each group swapped."""
  kh, kw, channels, features = kernel.shape
  grouped = kernel[::-1, ::-1].reshape(kh, kw, channels, groups, features // groups)
  return grouped.transpose(0, 1, 4, 3, 2).reshape(kh, kw, features // groups, groups * channels)


def _kernel_gradient(x: Array, g: Array, shape: tuple[int, ...], geometry: Geometry, name: str) -> Array:
  """The gradient of a kernel of that shape in that lowering, in float32."""
  if name == "xla":
    return xla.kernel_gradient(x, g, shape, geometry)
  module = winograd if name == "winograd" else correlation
  return module.kernel_gradient(x, g, shape, geometry)


def _cropped(maps: Array, befores: Sequence[int], afters: Sequence[int]) -> Array:
  """The maps without as many rows and columns before and after as are below 0."""
  sides = [slice(max(-before, 0), min(after, 0) or None) for before, after in zip(befores, afters, strict=True)]
  return as_values(as_bits(maps)[:, *sides], maps.dtype)
