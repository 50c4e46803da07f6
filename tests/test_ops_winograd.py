"""Tiles: the matrices are exact, and the error stays what the docstring says."""

import jax
import numpy as np
import pytest

from nin_jax.ops import winograd
from nin_jax.ops.geometry import Geometry


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("k", winograd.KERNELS)
def test_the_matrices_are_a_correlation(m, k):
  """Aᵀ [(G k) ⊙ (Bᵀ x)] for each pair of unit vectors."""
  a, g, b = winograd.matrices(m, k)
  assert (a.shape, g.shape, b.shape) == ((m, m + k - 1), (m + k - 1, k), (m + k - 1, m + k - 1))
  for i in range(m + k - 1):
    for j in range(k):
      x, kernel = np.eye(m + k - 1)[i], np.eye(k)[j]
      want = [float(i == place + j) for place in range(m)]
      np.testing.assert_allclose(a @ ((g @ kernel) * (b @ x)), want, atol=1e-12)


def test_f_2_3_is_the_papers():
  """Lavin and Gray 2015, equation 7, to the signs and scales that the matrices may trade place by place."""
  a, g, b = winograd.matrices(2, 3)
  paper_a = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
  paper_g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
  paper_b = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
  bilinear = lambda a, g, b: np.einsum("ip,pj,pk->pijk", a, g, b)
  np.testing.assert_allclose(bilinear(a, g, b), bilinear(paper_a, paper_g, paper_b), atol=1e-12)


def test_too_few_points_are_told():
  with pytest.raises(ValueError, match="takes 8 points, there are 7"):
    winograd.matrices(4, 6)


@pytest.mark.parametrize("k", winograd.KERNELS)
@pytest.mark.parametrize("size", [13, 16])
def test_the_error_is_below_what_is_stated(k, size):
  """Against the sum in float64, of normally distributed maps and kernels: 2e-5 of the largest."""
  rng = np.random.default_rng(k)
  x, kernel = rng.normal(size=(2, size, size, 96)), rng.normal(size=(k, k, 96, 32))
  x, kernel = x.astype(np.float32), kernel.astype(np.float32)
  geometry = Geometry(pads=((k // 2, (k - 1) // 2),) * 2)
  padded = np.pad(np.float64(x), ((0, 0), *geometry.pads, (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (1, 2))  # n h w c kh kw
  exact = np.einsum("nhwcij,ijcd->nhwd", windows, np.float64(kernel), optimize=True)
  y = jax.jit(winograd.forward, static_argnums=2)(x, kernel, geometry)
  assert np.abs(y - exact).max() < 2e-5 * np.abs(exact).max()
  g = rng.normal(size=exact.shape).astype(np.float32)
  exact = np.einsum("nhwcij,nhwd->ijcd", windows, np.float64(g), optimize=True)
  dkernel = jax.jit(winograd.kernel_gradient, static_argnums=(2, 3))(x, g, kernel.shape, geometry)
  assert np.abs(dkernel - exact).max() < 2e-5 * np.abs(exact).max()


def test_what_has_tiles():
  assert winograd.takes((3, 3), Geometry(pads=((1, 1), (0, 2))))
  for kernel, geometry in [
    ((1, 1), Geometry()),
    ((7, 7), Geometry()),
    ((3, 5), Geometry()),
    ((3, 3), Geometry(strides=(2, 1))),
    ((3, 3), Geometry(dilation=(1, 2))),
    ((3, 3), Geometry(groups=2)),
  ]:
    assert not winograd.takes(kernel, geometry)
