"""The k×k convolution against XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nin_jax.errors import ImageTooSmall
from nin_jax.ops import conv, pointwise
from nin_jax.ops.lowering import AUTO, LOWERINGS, lowered_as


def arrays(seed, *shapes):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@functools.cache
def of_xla(window, strides, padding, dilation, groups, relu):
  """A result and its gradients, as XLA has them: see `test_values_and_gradients_are_those_of_xla`."""
  twice = lambda value: (value, value) if isinstance(value, int) else value

  def convolved(x, kernel, bias):
    if not isinstance(padding, str):  # XLA's own gradient is wrong where it is to crop and to pad
      x = lax.pad(x, 0.0, [(0, 0, 0), *((*twice(of_axis), 0) for of_axis in twice(padding)), (0, 0, 0)])
    y = bias + lax.conv_general_dilated(
      x,
      kernel,
      twice(strides),
      padding if isinstance(padding, str) else "VALID",
      rhs_dilation=twice(dilation),
      feature_group_count=groups,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision="highest",
    )
    return jax.nn.relu(y) if relu else y

  return pulled(convolved, window, groups)


def pulled(function, window, groups):
  """(y, dx, dkernel, dbias) of a convolution of the same numbers."""
  primals = arrays(0, (2, 9, 8, 4), (*window, 4 // groups, 8), (8,))

  @jax.jit
  def run(*primals):
    y, vjp = jax.vjp(function, *primals)
    return y, *vjp(jnp.asarray(arrays(1, y.shape)[0]))

  return run(*primals)


GEOMETRIES = [
  ((3, 3), 1, "SAME", 1, 1),
  ((5, 5), 1, "SAME", 1, 1),
  ((3, 3), 2, "SAME", 1, 1),
  ((3, 2), (2, 1), "SAME", 1, 2),
  ((3, 3), 2, "VALID", 1, 1),
  ((7, 7), 2, 3, 1, 1),
  ((3, 3), 1, ((2, 0), (1, 3)), 1, 1),
  ((3, 3), 1, "SAME", 2, 1),
  ((3, 3), 2, "SAME", (1, 2), 2),
  ((3, 3), 1, "VALID", 3, 1),
  ((3, 3), 2, 1, 1, 4),
  ((1, 1), 1, "VALID", 1, 1),
  ((3, 3), 1, ((-1, 0), (0, -2)), 1, 1),
  ((3, 2), (2, 1), "SAME", 1, 1),
  ((2, 3), (1, 3), "VALID", 1, 1),
  ((1, 1), 2, "VALID", 1, 1),
  ((2, 2), 3, 1, 1, 1),
  ((3, 3), 2, ((-1, 0), (0, -2)), 1, 1),
  ((3, 3), 2, "SAME", 2, 1),
  ((3, 3), 1, ((-1, 1), (2, -1)), 1, 2),
]


@pytest.mark.parametrize("lowering", [AUTO, *LOWERINGS])
@pytest.mark.parametrize(
  ("number", "window", "strides", "padding", "dilation", "groups"),
  [(number, *geometry) for number, geometry in enumerate(GEOMETRIES)],
)
def test_values_and_gradients_are_those_of_xla(number, window, strides, padding, dilation, groups, lowering):
  relu = (number + [AUTO, *LOWERINGS].index(lowering)) % 2 == 0  # each geometry with and without, each lowering too

  def ours(x, kernel, bias):
    with lowered_as(lowering):
      return conv(x, kernel, bias, strides, padding, dilation, groups, relu)

  wanted = of_xla(window, strides, padding, dilation, groups, relu)
  for got, want in zip(pulled(ours, window, groups), wanted, strict=True):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("channels", "groups", "features", "strides", "dilation"),
  [(40, 40, 40, 1, 1), (24, 24, 72, 2, 1), (48, 8, 24, 1, 2)],
  ids=["depthwise", "strided with a multiplier", "dilated"],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_many_groups(channels, groups, features, strides, dilation, dtype):
  x, kernel = arrays(2, (2, 9, 8, channels), (3, 3, channels // groups, features))

  def run(lowering, dtype):
    with lowered_as(lowering):
      call = lambda x, kernel: conv(x, kernel, None, strides, "SAME", dilation, groups)
      y, vjp = jax.vjp(call, jnp.asarray(x, dtype), kernel)
      return y, *vjp(jnp.asarray(arrays(1, y.shape)[0], dtype))

  tolerance = 1e-5 if dtype == jnp.float32 else 2**-6
  for got, want in zip(
    jax.jit(lambda: run("patches", dtype))(), jax.jit(lambda: run("xla", jnp.float32))(), strict=True
  ):
    assert got.shape == want.shape
    np.testing.assert_allclose(np.float32(got), want, rtol=tolerance, atol=tolerance * np.abs(want).max())


def test_a_1x1_kernel_is_pointwise():
  x, kernel = arrays(2, (2, 5, 5, 6), (3, 4))
  np.testing.assert_allclose(
    conv(x, kernel[None, None], strides=2, groups=2), pointwise(x, kernel, strides=2, groups=2), rtol=1e-5, atol=1e-6
  )


def test_bfloat16_sums_and_adds_the_bias_in_float32():
  x, kernel = arrays(3, (1, 3, 3, 128), (3, 3, 128, 8))
  x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(jnp.asarray(kernel, jnp.bfloat16), jnp.float32)
  exact = np.einsum("nhwc,hwcd->nd", np.float64(x), np.float64(kernel))
  bias = -np.float32(np.round(exact[0]))  # what is left is smaller than bfloat16 resolves beside the sum
  y, vjp = jax.vjp(lambda x, kernel, bias: conv(x, kernel, bias, padding="VALID"), x, kernel, jnp.asarray(bias))
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float64(y)[:, 0, 0], exact + bias, rtol=2**-8, atol=2e-4)
  assert [gradient.dtype for gradient in vjp(jnp.ones_like(y))] == [jnp.bfloat16, jnp.float32, jnp.float32]


@pytest.mark.parametrize(
  ("window", "strides", "groups"), [((2, 3), 1, 1), ((2, 3), 2, 1), ((2, 3), 3, 1), ((4, 3), 1, 2)]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_input_gradient_with_padding_wider_than_the_kernel_reaches(window, strides, groups, dtype):
  """Left to XLA, the last one is wrong on CPUs."""
  pads = ((4, 2), (2, 3))
  x, kernel = arrays(4, (2, 7, 8, 4), (*window, 4 // groups, 8))
  y, vjp = jax.vjp(lambda x: conv(x, kernel, strides=strides, padding=pads, groups=groups), jnp.asarray(x, dtype))
  g = jnp.asarray(arrays(5, y.shape)[0], dtype)
  (dx,) = vjp(g)
  assert dx.dtype == dtype
  exact, (rows, columns) = np.zeros((2, 7 + 6, 8 + 5, groups, 4 // groups)), y.shape[1:3]
  grouped = np.float64(g).reshape(*y.shape[:3], groups, 8 // groups)
  for i, j in np.ndindex(window):
    seen = exact[:, i : i + strides * rows : strides, j : j + strides * columns : strides][:, :rows, :columns]
    taps = np.float64(jnp.asarray(kernel[i, j], dtype)).reshape(4 // groups, groups, 8 // groups)
    seen += np.einsum("nhwgd,cgd->nhwgc", grouped, taps)
  tolerance = 1e-4 if dtype == "float32" else 0.02
  want = exact[:, 4:-2, 2:-3].reshape(x.shape)
  np.testing.assert_allclose(np.float64(dx), want, rtol=2**-8, atol=tolerance)


def test_bfloat16_has_gradients_where_jax_derives_them():
  x, kernel = arrays(6, (1, 5, 5, 3), (3, 3, 3, 2))

  def gradients(x):
    with lowered_as("xla"):
      return jax.grad(lambda x, kernel: (conv(x, kernel).astype(jnp.float32) ** 2).sum(), (0, 1))(x, kernel)

  for got, want in zip(gradients(jnp.asarray(x, jnp.bfloat16)), gradients(x), strict=True):
    np.testing.assert_allclose(np.float32(got), want, atol=0.03 * np.abs(want).max())


def test_a_kernel_that_does_not_fit_is_refused():
  kernel = jnp.zeros((3, 3, 1, 1))
  assert conv(jnp.zeros((1, 3, 3, 1)), kernel, padding="VALID").shape == (1, 1, 1, 1)
  with pytest.raises(ImageTooSmall, match="window of 3"):
    conv(jnp.zeros((1, 2, 3, 1)), kernel, padding="VALID")
  with pytest.raises(ImageTooSmall, match="window of 5"):  # what a dilated kernel spans
    conv(jnp.zeros((1, 4, 8, 1)), kernel, padding="VALID", dilation=2)


# Largest error of normally distributed maps and kernels, in parts of the largest value, by the type of compute.
TOLERANCES = {"xla": 2e-6, "patches": 2e-6, "winograd": 2e-5}


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_errors_against_float64_are_below_what_is_stated(lowering, kernel):
  x, weights = arrays(0, (2, 14, 14, 64), (kernel, kernel, 64, 32))
  (g,) = arrays(1, (2, 14, 14, 32))
  half = kernel // 2

  def exact(maps, weights):  # n h w, taps apart
    padded = np.pad(np.float64(maps), ((0, 0), (half, half), (half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))
    return windows, np.einsum("nhwcij,ijcd->nhwd", windows, np.float64(weights), optimize=True)

  windows, want = exact(x, weights)
  turned = weights[::-1, ::-1].swapaxes(2, 3)
  wants = want, exact(g, turned)[1], np.einsum("nhwcij,nhwd->ijcd", windows, np.float64(g), optimize=True)

  @jax.jit
  def run(x, weights):
    with lowered_as(lowering):
      y, vjp = jax.vjp(conv, x, weights)
      return y, *vjp(jnp.asarray(g))

  for got, want in zip(run(x, weights), wants, strict=True):
    assert np.abs(got - want).max() < TOLERANCES[lowering] * np.abs(want).max()
