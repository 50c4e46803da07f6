"""Depthwise convolutions as sums over taps, against sums in float64 over all positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import conv, correlation, depthwise
from nin_jax.ops.geometry import Geometry
from nin_jax.ops.lowering import lowered_as

SAME = Geometry(pads=((1, 1), (1, 1)))


def noise(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact(x, kernel, g, geometry):
  """The convolution and its kernel's gradient."""
  (kh, kw, _, features), (_, height, width, _) = kernel.shape, g.shape
  maps = np.pad(np.float64(x), ((0, 0), *geometry.pads, (0, 0))).repeat(features // x.shape[3], axis=3)
  y, dkernel = np.zeros(g.shape), np.zeros(kernel.shape)
  for i in range(kh):
    for j in range(kw):
      rows, columns = (
        slice(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride)
        for tap, dilation, count, stride in zip(
          (i, j), geometry.dilation, (height, width), geometry.strides, strict=True
        )
      )
      seen = maps[:, rows, columns]
      y += seen * kernel[i, j, 0]
      dkernel[i, j, 0] = np.einsum("nhwd,nhwd->d", seen, np.float64(g))
  return y, dkernel


@pytest.mark.parametrize(
  ("window", "multiplier", "geometry"),
  [
    ((3, 3), 1, SAME),
    ((3, 2), 3, Geometry(strides=(2, 1), pads=((1, 0), (0, 2)))),
    ((2, 3), 1, Geometry(dilation=(2, 3), pads=((2, 2), (0, 0)))),
    ((5, 5), 2, Geometry(strides=(3, 2), pads=((2, 2), (4, 1)))),
  ],
  ids=["plain", "strided", "dilated", "both sides"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [1, 5, 32, 35])  # added up: rows, each image, pairs of images, pairs and three more
def test_it_is_the_sum_over_all_positions(n, dtype, window, multiplier, geometry):
  x, kernel = jnp.asarray(noise(0, n, 9, 10, 4), dtype), noise(1, *window, 1, 4 * multiplier)
  g = jnp.asarray(noise(2, n, *geometry.outputs((9, 10), window), 4 * multiplier), dtype)
  of = lambda x, g: (depthwise.forward(x, kernel, geometry), depthwise.kernel_gradient(x, g, kernel.shape, geometry))
  for found, wanted in zip(jax.jit(of)(x, g), exact(x, kernel, g, geometry), strict=True):
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("strides", "padding"), [(2, 1), (1, ((-1, 2), (0, -2)))])
def test_it_is_what_a_convolution_of_as_many_groups_as_channels_takes(strides, padding):
  x, kernel = noise(0, 3, 9, 10, 8), noise(1, 3, 3, 1, 16)

  @jax.jit
  def pulled():
    with lowered_as("patches"):
      y, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, None, strides, padding, groups=8), x, kernel)
      return y, *vjp(jnp.asarray(noise(2, *y.shape)))

  pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
  geometry = Geometry(strides=(strides, strides), pads=pads, groups=8)
  y, _, dkernel = pulled()
  cropped = x[:, max(-pads[0][0], 0) : min(pads[0][1], 0) or None, max(-pads[1][0], 0) : min(pads[1][1], 0) or None]
  geometry = geometry._replace(pads=tuple((max(low, 0), max(high, 0)) for low, high in pads))
  for found, wanted in zip((y, dkernel), exact(cropped, kernel, noise(2, *y.shape), geometry), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_no_image_has_no_gradient():
  dkernel = depthwise.kernel_gradient(jnp.zeros((0, 4, 4, 8)), jnp.zeros((0, 4, 4, 8)), (3, 3, 1, 8), SAME)
  np.testing.assert_array_equal(dkernel, np.zeros((3, 3, 1, 8)))


@pytest.mark.parametrize(
  ("channels", "per_group", "side", "taken"), [(8, 1, 3, True), (7, 1, 3, False), (8, 2, 3, False), (8, 1, 9, False)]
)
def test_which_kernels_gradients_are_these(channels, per_group, side, taken, monkeypatch):
  """Those with many channels, one a group, and not too many taps."""
  called = []
  monkeypatch.setattr(depthwise, "kernel_gradient", lambda *_: called.append(True))
  geometry = Geometry(pads=((side // 2, side // 2),) * 2, groups=channels // per_group)
  maps = jax.ShapeDtypeStruct((2, 9, 9, channels), jnp.float32)
  shape = (side, side, per_group, channels)
  jax.eval_shape(lambda x, g: correlation.kernel_gradient(x, g, shape, geometry), maps, maps)
  assert bool(called) == taken
