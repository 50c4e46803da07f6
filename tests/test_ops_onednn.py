"""Calls into XLA's oneDNN, where it has one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import conv, correlation, lowering, onednn, pointwise, xla
from nin_jax.ops.geometry import Geometry
from nin_jax.ops.lowering import lowered_as

GEOMETRIES = [
  ((3, 3), Geometry(pads=((1, 1), (1, 1)))),
  ((5, 4), Geometry(pads=((2, 2), (0, 3)))),
  ((3, 3), Geometry(strides=(2, 2), pads=((1, 1), (1, 1)))),
  ((3, 2), Geometry(strides=(1, 3), pads=((0, 0), (1, 1)), dilation=(2, 1))),
  ((1, 1), Geometry()),
]


@pytest.fixture(autouse=True)
def there(request):
  for dtype in ("float32", "bfloat16"):  # of the test, by its name or its parameters
    if (dtype == "float32" or dtype in request.node.name) and not onednn.available(dtype):
      pytest.skip(f"this machine's XLA has no oneDNN for {dtype}")


def noise(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("window", "geometry"), GEOMETRIES)
@pytest.mark.parametrize(("size", "channels"), [(9, 16), (33, 16), (12, 3)])  # the last two: taps apart, few channels
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_convolution_and_kernels_gradient_are_xlas(window, geometry, size, channels, dtype):
  x, kernel = (
    jnp.asarray(noise(0, 2, size, size + 1, channels), dtype),
    jnp.asarray(noise(1, *window, channels, 8), dtype),
  )
  g = jnp.asarray(noise(2, *jax.eval_shape(lambda: xla.forward(x, kernel, geometry)).shape), dtype)
  shapes = kernel.shape, geometry

  @jax.jit
  def of_onednn(x, kernel, g):
    y = onednn.forward(x, kernel, geometry)
    return y, correlation.kernel_gradient(x, g, *shapes, onednn.product_kernel_gradient)

  @jax.jit
  def of_xla(x, kernel, g):
    y = xla.forward(x.astype(jnp.float32), kernel.astype(jnp.float32), geometry)
    return y, xla.kernel_gradient(x, g, *shapes)

  (y, dkernel), (want, wanted) = of_onednn(x, kernel, g), of_xla(x, kernel, g)
  assert y.dtype == dkernel.dtype == jnp.float32
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=2e-4)
  np.testing.assert_allclose(dkernel, wanted, rtol=1e-3, atol=2e-3)


def test_bias_and_relu_come_before_the_one_rounding_to_bfloat16():
  x, kernel, bias = jnp.asarray(noise(0, 1, 8, 8, 64), jnp.bfloat16), noise(1, 3, 3, 64, 16), noise(2, 16)
  kernel = jnp.asarray(kernel, jnp.bfloat16)
  geometry = Geometry(pads=((1, 1), (1, 1)))
  y = onednn.forward(x, kernel, geometry, jnp.asarray(bias), True, jnp.bfloat16)
  wide = xla.forward(x.astype(jnp.float32), kernel.astype(jnp.float32), geometry) + bias
  np.testing.assert_allclose(np.float32(y), np.maximum(wide, 0), rtol=2**-8, atol=1e-4)
  assert float(y.min()) == 0.0


@pytest.mark.parametrize(("dtype", "result"), [("float32",) * 2, ("bfloat16",) * 2, ("bfloat16", "float32")])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_a_1x1_with_bias_and_relu_is_xlas_and_rounded_once(dtype, result, relu, biased):
  x, kernel, g = (jnp.asarray(noise(i, *shape), dtype) for i, shape in enumerate([(70, 48), (48, 33), (70, 33)]))
  bias = jnp.asarray(noise(3, 33)) if biased else None
  exact = np.float64(x) @ np.float64(kernel) + (np.float64(bias) if biased else 0)
  y = jax.jit(lambda *args: onednn.product(*args, relu, jnp.dtype(result)))(x, kernel, bias)
  assert y.dtype == result
  want = np.maximum(exact, 0) if relu else exact
  np.testing.assert_allclose(np.float64(y), want, rtol=2**-8 if result == "bfloat16" else 1e-5, atol=1e-4)
  dx = onednn.product_input_gradient(g, kernel)
  assert dx.dtype == dtype
  wide = np.float64(g) @ np.float64(kernel).T
  np.testing.assert_allclose(np.float64(dx), wide, rtol=2**-8 if dtype == "bfloat16" else 1e-5, atol=1e-4)


def test_many_positions_have_the_same_input_gradient():
  g, kernel = noise(0, onednn.MANY_POSITIONS, 5), noise(1, 7, 5)
  dx = onednn.product_input_gradient(jnp.asarray(g), jnp.asarray(kernel))
  np.testing.assert_allclose(dx, np.float64(g) @ np.float64(kernel).T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("window", [1, 3])
def test_gradients_in_auto_are_those_without_calls(dtype, window, monkeypatch):
  monkeypatch.setattr(lowering, "LEAST_CALLED", 0)
  x, g = (jnp.asarray(noise(i, 4, 12, 12, 64), dtype) for i in (0, 1))
  kernel, bias = noise(2, window, window, 64, 64), noise(3, 64)

  def pulled(calls):
    with lowered_as("auto" if calls else "xla", calls=calls):
      op = (lambda *a: pointwise(*a, relu=True)) if window == 1 else lambda *a: conv(*a, relu=True)
      args = x, kernel[0, 0] if window == 1 else kernel, bias

      def of(x, g, kernel, bias):
        y, vjp = jax.vjp(op, x, kernel, bias)
        return y, vjp(g)

      text = jax.jit(of).lower(args[0], g, *args[1:]).as_text()
      return jax.jit(of)(args[0], g, *args[1:]), text.count(onednn.CALL)

  (found, number), (plain, none) = pulled(True), pulled(False)
  # The convolution and its two gradients, in bfloat16 of the bias too.
  assert (number, none) == ({"float32": 3, "bfloat16": 4}[dtype], 0)
  rounding = 2**-6 if dtype == "bfloat16" else 1e-4
  compare = lambda a, b: np.testing.assert_allclose(
    np.float32(a), np.float32(b), rtol=rounding, atol=rounding * float(jnp.abs(b).max())
  )
  jax.tree.map(compare, found, plain)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_other_types_are_no_calls(dtype):
  assert not onednn.available(dtype)


@pytest.mark.parametrize("op", [pointwise, conv])
def test_a_bfloat16_bias_is_widened(op):
  x, kernel, bias = noise(0, 1, 4, 4, 8), noise(1, 8, 8), jnp.asarray(noise(2, 8), jnp.bfloat16)
  with lowered_as("onednn"):
    y = op(x, kernel if op is pointwise else kernel[None, None], bias)
  np.testing.assert_allclose(y, x @ kernel + np.float32(bias), rtol=1e-5, atol=1e-5)


def test_a_narrower_result_than_the_maps_is_no_call(monkeypatch):
  """oneDNN has none."""
  monkeypatch.setattr(lowering, "LEAST_CALLED", 0)
  x, kernel = noise(0, 1, 4, 4, 8), noise(1, 8, 8)
  with lowered_as("auto", calls=True):
    y = pointwise(x, kernel, dtype=jnp.bfloat16)
  np.testing.assert_allclose(np.float32(y), x @ kernel, rtol=2**-8, atol=1e-5)


def test_it_works_in_loops_and_over_batches():
  x, kernel = noise(0, 3, 2, 8, 8, 16), noise(1, 3, 3, 16, 8)
  geometry = Geometry(pads=((1, 1), (1, 1)))
  one = lambda x: onednn.forward(x, kernel, geometry)
  want = jnp.stack([one(part) for part in x])
  np.testing.assert_allclose(jax.jit(lambda x: jax.lax.map(one, x))(x), want, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(jax.jit(jax.vmap(one))(x), want, rtol=1e-5, atol=1e-5)


def test_releases_that_it_was_not_tried_with_have_none(monkeypatch):
  onednn._built_in.cache_clear()
  try:
    monkeypatch.setattr(onednn.jaxlib.version, "__version_info__", onednn.RELEASES[1])
    assert not onednn.available()
  finally:
    onednn._built_in.cache_clear()


@pytest.mark.parametrize("relu", [False, True])
def test_bfloat16_gradients_are_summed_in_float32(relu):
  x, g = (jnp.asarray(noise(seed, 4, 32, 32, 8), jnp.bfloat16) for seed in (0, 1))
  kernel, bias = noise(2, 3, 3, 8, 8), noise(3, 8)
  with lowered_as("onednn"):
    y, vjp = jax.vjp(lambda x, kernel, bias: conv(x, kernel, bias, relu=relu), x, kernel, bias)
    dx, dkernel, dbias = vjp(g)
  assert (y.dtype, dx.dtype, dkernel.dtype, dbias.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32)
  through = np.float64(g) * (np.float64(y) > 0 if relu else 1)
  np.testing.assert_allclose(dbias, through.sum((0, 1, 2)), rtol=1e-5, atol=1e-3)
  centre = np.einsum("nhwc,nhwd->cd", np.float64(x), through)
  np.testing.assert_allclose(dkernel[1, 1], centre, rtol=1e-4, atol=1e-2)
