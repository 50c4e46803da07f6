"""Convolutions by tiles (Winograd, Cook–Toom): in another basis a k×k convolution is a batch of 1×1s.

y = Aᵀ [ (G k Gᵀ) ⊙ (Bᵀ x B) ] A for each tile of m×m results (Lavin and Gray 2015, section 4.1; the matrices are
Cook and Toom's, section 5.1 there). ⊙ over all channels is, at each of the (m + k − 1)² places of a tile, a matrix
product over the channels. With m = 4 a 3×3 takes 36 products where the plain convolution takes 144 (4 times fewer), a
5×5 64 where that takes 400 (6.25 times).

The points at which polynomials are evaluated decide the error: it grows with m + k. With those below, results on
normally distributed maps and kernels differ from exact ones by less than 2e-5 of the largest in float32, where the
plain sum differs by less than 2e-6.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import products
from nin_jax.ops.geometry import Geometry

TILE = 4  # results of a tile in each direction
# The last point of each is at infinity. Few, small, and in pairs: their powers make the matrices' entries.
POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))
KERNELS = tuple(range(2, len(POINTS) + 3 - TILE))  # sizes for which there are points


def takes(kernel: tuple[int, int], geometry: Geometry) -> bool:
  """Whether there are tiles for a kernel of this height and width."""
  return geometry.dense and kernel[0] == kernel[1] and kernel[0] in KERNELS


@functools.cache
def matrices(m: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Aᵀ [m, a], G [a, k] and Bᵀ [a, a] of F(m, k), a = m + k − 1, as float64; made in exact arithmetic.

  y[i] = Σⱼ x[i + j] k[j] for i below m is Aᵀ [(G k) ⊙ (Bᵀ x)]: Toom–Cook's product of polynomials, transposed.

  Raises:
    ValueError: there are not enough `POINTS`.
  """
  points = [Fraction(point) for point in POINTS[: m + k - 2]]
  if len(points) < m + k - 2:
    raise ValueError(f"F({m}, {k}) takes {m + k - 2} points, there are {len(POINTS)}")
  a_transposed = [[point**i for point in points] + [Fraction(i == m - 1)] for i in range(m)]
  scales = [_product([[point - other] for other in points if other != point])[0] for point in points]
  g = [[point**j / scale for j in range(k)] for point, scale in zip(points, scales, strict=True)]
  g.append([Fraction(j == k - 1) for j in range(k)])
  b_transposed = [[*_product([[-other, 1] for other in points if other != point]), Fraction(0)] for point in points]
  b_transposed.append(_product([[-other, 1] for other in points]))
  return tuple(np.array(matrix, np.float64) for matrix in (a_transposed, g, b_transposed))


def _product(polynomials: Sequence[Sequence[Fraction | int]]) -> list[Fraction]:
  """Coefficients of a product of polynomials, the lowest power first."""
  product = [Fraction(1)]
  for factor in polynomials:
    wider = [Fraction(0)] * (len(product) + len(factor) - 1)
    for i, a in enumerate(product):
      for j, b in enumerate(factor):
        wider[i + j] += a * b
    product = wider
  return product


def forward(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c d"], geometry: Geometry
) -> Float[Array, "n h2 w2 d"]:
  """The convolution, in float32, for what `takes` says."""
  k, _, channels, features = kernel.shape
  height, width = geometry.outputs(x.shape[1:3], (k, k))
  a_transposed, _, _ = matrices(TILE, k)
  tiles = _tiles(height), _tiles(width)
  in_basis = _spread_inputs(x, k, geometry, tiles).reshape(-1, x.shape[0] * tiles[0] * tiles[1], channels)
  side = TILE + k - 1
  y = products.each(in_basis, _spread_kernel(kernel).reshape(-1, channels, features))
  y = y.reshape(side, side, x.shape[0], *tiles, features)
  rows = jnp.stack(_apply(a_transposed, list(y)))
  blocks = jnp.stack(_apply(a_transposed, [rows[:, j] for j in range(side)]), 4)  # [m, n, tiles, tiles, m, features]
  y = jnp.moveaxis(blocks, 0, 2).reshape(x.shape[0], tiles[0] * TILE, tiles[1] * TILE, features)
  return y[:, :height, :width]


def kernel_gradient(x: Array, g: Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of a kernel of that shape, from that of the result, in float32: Gᵀ [ (A g Aᵀ) ⊙ (Bᵀ x B) ] G."""
  k, _, channels, features = kernel_shape
  a_transposed, to_basis, _ = matrices(TILE, k)
  tiles = _tiles(g.shape[1]), _tiles(g.shape[2])
  in_basis = _spread_inputs(x, k, geometry, tiles)
  rest = [(0, tiles[axis] * TILE - g.shape[1 + axis]) for axis in (0, 1)]
  g = jnp.pad(g, ((0, 0), *rest, (0, 0))).reshape(g.shape[0], tiles[0], TILE, tiles[1], TILE, features)
  rows = jnp.stack(_apply(a_transposed.T, [g[:, :, i] for i in range(TILE)]))
  spread = jnp.stack(_apply(a_transposed.T, [rows[:, :, :, :, j] for j in range(TILE)]), 1)
  flat = (array.reshape((TILE + k - 1) ** 2, -1, array.shape[-1]) for array in (in_basis, spread))
  dkernel = products.each_transposed(*flat).reshape(TILE + k - 1, TILE + k - 1, channels, features)
  rows = jnp.stack(_apply(to_basis.T, list(dkernel)))
  return jnp.stack(_apply(to_basis.T, [rows[:, j] for j in range(TILE + k - 1)]), 1)


def _tiles(size: int) -> int:
  return -(-size // TILE)


def _spread_kernel(kernel: Array) -> Array:
  """G k Gᵀ: [a, a, channels, features]."""
  k = kernel.shape[0]
  to_basis = matrices(TILE, k)[1]
  rows = jnp.stack(_apply(to_basis, list(kernel.astype(jnp.float32))))
  return jnp.stack(_apply(to_basis, [rows[:, j] for j in range(k)]), 1)


def _spread_inputs(x: Array, k: int, geometry: Geometry, tiles: tuple[int, int]) -> Array:
  """Bᵀ x B of each tile: [a, a, n, tiles, tiles, channels], float32."""
  b_transposed, side = matrices(TILE, k)[2], TILE + k - 1
  padding = []
  for n, count, (low, _) in zip(x.shape[1:3], tiles, geometry.pads, strict=True):
    padding.append((low, count * TILE + k - 1 - n - low, 0))
  x = lax.pad(x.astype(jnp.float32), jnp.float32(0), ((0, 0, 0), *padding, (0, 0, 0)))

  def every(x: Array, start: int, count: int, axis: int) -> Array:
    return lax.slice_in_dim(x, start, start + (count - 1) * TILE + 1, TILE, axis)

  # Stacked, rows are computed once: XLA fuses sums, and would do so for each column's place, but not a stack.
  rows = jnp.stack(_apply(b_transposed, [every(x, i, tiles[0], 1) for i in range(side)]))
  return jnp.stack(_apply(b_transposed, [every(rows, j, tiles[1], 3) for j in range(side)]), 1)


def _apply(matrix: np.ndarray, arrays: Sequence[Array]) -> list[Array]:
  """The matrix times a vector of arrays, as sums: many entries are 0."""
  rows = (zip(row, arrays, strict=True) for row in matrix)
  return [sum(np.float32(entry) * array for entry, array in row if entry) for row in rows]
