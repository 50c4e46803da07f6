"""Kernel gradients, in each layout of the taps and by XLA, against sums in float64."""

import jax
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
  ((3, 3), Geometry(pads=((-1, 0), (0, -2)))),
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
  wide = np.pad(np.float64(x), ((0, 0), *(tuple(max(pad, 0) for pad in pads) for pads in geometry.pads), (0, 0)))
  inner = [slice(max(-low, 0), min(high, 0) or None) for low, high in geometry.pads]
  padded = wide[:, inner[0], inner[1]]
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
  def chosen(k, channels, features, strides=(1, 1), size=14, result=14):
    x, g = (1, size, size, channels), (1, result, result, features)
    return correlation.choose(x, g, (k, k, channels, features), Geometry(strides))

  assert chosen(5, 8, 192) == ON_MAPS
  assert chosen(3, 512, 32) == ON_GRADIENT
  assert chosen(7, 64, 32) == BETWEEN
  assert chosen(3, 64, 192) == BETWEEN_APART
  assert chosen(7, 256, 64, size=7, result=1) == ON_MAPS  # of one position
  assert chosen(7, 3, 64, (2, 2)) == ON_MAPS
  assert chosen(3, 64, 32, (2, 1)) == ON_MAPS._replace(apart=True)


@pytest.mark.parametrize(
  ("pads", "features", "turned"), [(1, 4, True), (1, 8, False), (0, 4, False), (2, 4, True), (2, 8, True)]
)
def test_xla_never_has_the_larger_of_two_for_a_kernel(pads, features, turned):
  geometry = Geometry(pads=((pads, pads),) * 2)
  x, g = arrays((3, 3), geometry, 6, features)
  text = jax.jit(lambda x, g: xla.kernel_gradient(x, g, (3, 3, 6, features), geometry)).lower(x, g).as_text()
  maps = next(line for line in text.splitlines() if "stablehlo.convolution" in line).split(" : (")[1]
  assert maps.startswith(f"tensor<3x{g.shape[1]}x{g.shape[2]}x{features}x") == turned


def test_groups_are_not_turned():
  geometry = Geometry(pads=((1, 1), (1, 1)), groups=2)
  x, g = arrays((3, 3), geometry, 12, 4)
  found = xla.kernel_gradient(x, g, (3, 3, 6, 4), geometry)
  halves = [exact(x[..., 6 * i : 6 * i + 6], g[..., 2 * i : 2 * i + 2], (3, 3), geometry) for i in (0, 1)]
  np.testing.assert_allclose(found, np.concatenate(halves, axis=-1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
  ("groups", "channels", "features"),
  [(7, 6, 2), (20, 1, 1), (37, 1, 3), (2, 40, 5)],
)
@pytest.mark.parametrize(("window", "geometry"), [DENSE[0], STRIDED[1]])
def test_groups_of_any_number_and_width(groups, channels, features, window, geometry):
  x, g = arrays(window, geometry, groups * channels, groups * features)
  shape = (*window, channels, groups * features)
  dkernel = correlation.kernel_gradient(x, g, shape, geometry._replace(groups=groups))
  each = [
    exact(*parts, window, geometry)
    for parts in zip(np.split(x, groups, axis=-1), np.split(g, groups, axis=-1), strict=True)
  ]
  np.testing.assert_allclose(dkernel, np.concatenate(each, axis=-1), rtol=1e-5, atol=1e-4)
