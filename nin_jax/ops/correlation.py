"""Kernel gradients as matrix products: the maps and the result's gradient, shifted against each other by each tap.

dkernel[i, j] = Σ x(i, j)ᵀ g over all positions, x(i, j) being the maps as the tap in row i and column j sees them. As
well may g be shifted, the other way, or one by the rows and the other by the columns: what has to be moved depends on
it, and the form of the product.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import depthwise, patches, products
from nin_jax.ops.bits import as_bits, as_values
from nin_jax.ops.geometry import Geometry

FEW_CHANNELS = 8
LEAST_BLOCK = 16  # channels of groups that are joined
MOST_BLOCKS = 16  # each is a gradient of its own, to be compiled
MOST_TAPS = 64  # of a depthwise kernel: each is a sum of its own, to be compiled
MAPS, GRADIENT = 0, 1  # which of the two is shifted


class Layout(NamedTuple):
  """How taps are laid out.

  Attributes:
    rows, columns: what is shifted by the taps' rows and by their columns: `MAPS` or `GRADIENT`.
    apart: whether each row of taps is a product of its own; or they lie side by side, in one.
  """

  rows: int
  columns: int
  apart: bool = False


ON_MAPS, ON_GRADIENT = Layout(MAPS, MAPS), Layout(GRADIENT, GRADIENT)
BETWEEN, BETWEEN_APART = Layout(GRADIENT, MAPS), Layout(GRADIENT, MAPS, apart=True)


def choose(x: tuple[int, ...], g: tuple[int, ...], kernel_shape: tuple[int, ...], geometry: Geometry) -> Layout:
  """The layout that moves the least; with it kernel gradients of 34 shapes were within 5 % of each one's fastest.

  Strided, only the maps can be shifted: taps of few channels lie side by side, of more each row is a product.

  Args:
    x, g: the shapes of the maps, and of the result's gradient.
    kernel_shape: (height, width, channels, features).
    geometry: of the kernel on the maps.
  """
  kh, kw, channels, features = kernel_shape
  if geometry.strides != (1, 1):
    return ON_MAPS._replace(apart=channels >= FEW_CHANNELS)
  wide, tall = kw * channels, kh * features
  # Of each: at how many positions of an image the product is made, and what is moved at each of them.
  moved = {
    ON_MAPS: g[1] * g[2] * wide * (1 + kh),
    ON_GRADIENT: x[1] * x[2] * kw * features * (1 + kh),
    BETWEEN: x[1] * g[2] * (wide + tall),
    # Whole rows are moved faster than parts of positions are, but narrow products are slow.
    BETWEEN_APART: x[1] * g[2] * (wide + 0.6 * tall) * (1 + 50 / min(wide, features)),
  }
  return min(moved, key=moved.get)


def kernel_gradient(
  x: Float[Array, "n h w c"],
  g: Float[Array, "n h2 w2 d"],
  kernel_shape: tuple[int, ...],
  geometry: Geometry,
  layout: Layout | None = None,
) -> Float[Array, "kh kw c_per_group d"]:
  """The gradient of a kernel of that shape, from that of the result, in float32.

  Args:
    x: the maps.
    g: the gradient of the result.
    kernel_shape: (height, width, channels of a group, features).
    geometry: of the kernel on the maps.
    layout: of the taps; None: as `choose` says. With strides only the maps can be shifted.
  """
  if kernel_shape[2] == 1 < geometry.groups and x.shape[3] >= FEW_CHANNELS and math.prod(kernel_shape[:2]) <= MOST_TAPS:
    return depthwise.kernel_gradient(x, g, kernel_shape, geometry)
  if geometry.groups > 1:
    return _of_groups(x, g, kernel_shape, geometry, layout)
  layout = layout or choose(x.shape, g.shape, kernel_shape, geometry)
  sides = [as_bits(x), as_bits(g)]
  if layout.rows == layout.columns == MAPS:
    # Padded once: padded for each axis, XLA asks of each element of each tap whether it lies within.
    margins = [(0, 0, 0), *((low, high, 0) for low, high in geometry.pads), (0, 0, 0)]
    sides[MAPS] = lax.pad(sides[MAPS], jnp.zeros((), sides[MAPS].dtype), margins)
    geometry = geometry._replace(pads=((0, 0), (0, 0)))
  sides[layout.columns] = jnp.concatenate(_shifted(sides, layout.columns, 1, kernel_shape, geometry), axis=-1)
  rows = _shifted(sides, layout.rows, 0, kernel_shape, geometry)
  if not layout.apart:
    rows = [jnp.concatenate(rows, axis=-1)]
  found = []
  for row in rows:
    sides[layout.rows] = row
    found.append(products.kernel_gradient(*(as_values(side.reshape(-1, side.shape[-1]), x.dtype) for side in sides)))
  # Which axes of the kernel a product's two are made of, the outermost first; it is [rows apart, x's, g's].
  axes = [[2], [3]]
  axes[layout.columns].insert(0, 1)
  axes[layout.rows if not layout.apart else MAPS].insert(0, 0)
  order = axes[MAPS] + axes[GRADIENT]
  dkernel = jnp.stack(found).reshape([kernel_shape[axis] for axis in order])
  return dkernel.transpose([order.index(axis) for axis in range(4)])


def _of_groups(
  x: Array,
  g: Array,
  kernel_shape: tuple[int, ...],
  geometry: Geometry,
  layout: Layout | None,
) -> Array:
  """`kernel_gradient` with groups: some of them are joined in a block, and a block's gradient is that without groups.

  Of what it gives only each group's part with itself is wanted. Narrower products would take as long.
  """
  kh, kw, channels, features = kernel_shape
  groups, features = geometry.groups, features // geometry.groups
  joined = max(math.ceil(LEAST_BLOCK / channels), math.ceil(groups / MOST_BLOCKS))
  found = []
  for first in range(0, groups, joined):
    count = min(joined, groups - first)
    maps, gradient = (
      as_values(as_bits(side)[..., first * width : (first + count) * width], x.dtype)
      for side, width in ((x, channels), (g, features))
    )
    shape = (kh, kw, count * channels, count * features)
    dkernel = kernel_gradient(maps, gradient, shape, geometry._replace(groups=1), layout)
    dkernel = dkernel.reshape(kh, kw, count, channels, count, features)
    found.extend(dkernel[:, :, group, :, group] for group in range(count))
  return jnp.stack(found, axis=3).reshape(kernel_shape)


def _shifted(
  sides: list[Array], which: int, axis: int, kernel_shape: tuple[int, ...], geometry: Geometry
) -> list[Array]:
  """One of the two as each tap of an axis sees it, in step with the other."""
  shifts = [tap * geometry.dilation[axis] - geometry.pads[axis][0] for tap in range(kernel_shape[axis])]
  count = sides[1 - which].shape[1 + axis]
  if which == GRADIENT:
    return patches.shifted(sides[which], 1 + axis, [-shift for shift in shifts], count)
  return patches.shifted(sides[which], 1 + axis, shifts, count, geometry.strides[axis])
