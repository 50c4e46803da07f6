"""Kernel gradients, in each layout of the taps and by XLA, against sums in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import correlation, xla
from nin_jax.ops.correlation import BETWEEN, BETWEEN_APART, GRADIENT, MAPS, ON_GRADIENT, ON_MAPS, Layout
from nin_jax.ops.geometry import Geometry

DENSE = [
  ((3, 3), Geometry(pads=((1, 1), (1, 1)))),
  ((5, 4), Geometry(pads=((2, 2), (0, 3)))),
  ((2, 3), Geometry()),
  ((3, 2), Geometry(pads=((2, 1), (1, 0)), dilation=(2, 3))),
  ((2, 2), Geometry(pads=((4, 3), (5, 1)))),  # padding wider than the kernel reaches
  ((9, 9), Geometry(pads=((4, 4), (4, 4)))),  # a kernel larger than the maps
  ((1, 1), Geometry()),
]
STRIDED = [
  ((3, 3), Geometry((2, 2), ((1, 1), (1, 1)))),
  ((3, 2), Geometry((1, 3), ((0, 0), (1, 1)), (2, 1))),
  ((2, 2), Geometry((3, 3), ((0, 1), (1, 0)))),  # steps over some of the maps
]


def arrays(window, geometry, channels, features, size=(8, 7)):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(3, *size, channels)).astype(np.float32)
  return x, rng.normal(size=(3, *geometry.outputs(size, window), features)).astype(np.float32)


def exact(x, g, window, geometry):
  """The sum over all positions, tap by tap."""
  padded = np.pad(np.float64(x), ((0, 0), *geometry.pads, (0, 0)))
  (step, across), (down, right), (height, width) = geometry.strides, geometry.dilation, g.shape[1:3]
  dkernel = np.zeros((*window, x.shape[3], g.shape[3]))
  for i, j in np.ndindex(*window):
    seen = padded[:, i * down :: step, j * right :: across][:, :height, :width]
    dkernel[i, j] = np.einsum("nhwc,nhwd->cd", seen, np.float64(g))
  return dkernel


@pytest.mark.parametrize("rows", [MAPS, GRADIENT])
@pytest.mark.parametrize("columns", [MAPS, GRADIENT])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("window", "geometry"), DENSE)
def test_every_layout_gives_the_same(rows, columns, apart, window, geometry):
  x, g = arrays(window, geometry, 5, 4)
  dkernel = correlation.kernel_gradient(x, g, (*window, 5, 4), geometry, layout=Layout(rows, columns, apart))
  np.testing.assert_allclose(dkernel, exact(x, g, window, geometry), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("channels", "features"), [(3, 9), (12, 2)])
@pytest.mark.parametrize(("window", "geometry"), [*DENSE, *STRIDED])
def test_what_is_chosen_and_xlas_are_the_sum_over_all_positions(channels, features, window, geometry):
  x, g = arrays(window, geometry, channels, features)
  for module in (correlation, xla):
    dkernel = module.kernel_gradient(x, g, (*window, channels, features), geometry)
    assert dkernel.dtype == jnp.float32
    np.testing.assert_allclose(dkernel, exact(x, g, window, geometry), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("module", [correlation, xla])
@pytest.mark.parametrize(("channels", "features"), [(3, 9), (12, 2), (6, 6)])
def test_bfloat16_is_summed_in_float32(module, channels, features):
  window, geometry = DENSE[0]
  x, g = (jnp.asarray(array, jnp.bfloat16) for array in arrays(window, geometry, channels, features))
  dkernel = module.kernel_gradient(x, g, (*window, channels, features), geometry)
  assert dkernel.dtype == jnp.float32
  np.testing.assert_allclose(dkernel, exact(x, g, window, geometry), rtol=1e-5, atol=1e-4)


def test_the_least_is_moved():
  choose = lambda k, channels, features, strides=(1, 1): correlation.choose(
    (k, k, channels, features), Geometry(strides)
  )
  assert choose(5, 8, 192) == ON_MAPS
  assert choose(3, 512, 32) == ON_GRADIENT
  assert choose(7, 64, 32) == BETWEEN
  assert choose(3, 64, 192) == BETWEEN_APART
  assert choose(7, 3, 64, (2, 2)) == ON_MAPS
  assert choose(3, 64, 32, (2, 1)) == ON_MAPS._replace(apart=True)
