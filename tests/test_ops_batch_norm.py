"""Batch normalisation: its gradient against the derived one, in float64 too, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import batch_norm
from nin_jax.ops.lowering import lowered_as

RNG = np.random.default_rng(0)
X = (3 + 2 * RNG.normal(size=(8, 5, 4, 6))).astype(np.float32)
G = RNG.normal(size=X.shape).astype(np.float32)
SCALE, BIAS = RNG.uniform(0.5, 2, 6).astype(np.float32), RNG.normal(size=6).astype(np.float32)


def pulled(x, g, relu=False, axis_name=None):
  """y, statistics and gradients of a call."""

  def of(x, scale, bias):
    y, *statistics = batch_norm(x, scale, bias, axis_name=axis_name, relu=relu)
    return y, statistics

  y, vjp, statistics = jax.vjp(of, x, SCALE, BIAS, has_aux=True)
  return y, statistics, vjp(g)


@pytest.mark.parametrize("relu", [False, True])
def test_the_gradient_is_the_derived_one(relu):
  found = jax.jit(lambda x, g: pulled(x, g, relu))(X, G)
  with lowered_as("xla"):
    derived = jax.jit(lambda x, g: pulled(x, g, relu))(X, G)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), found, derived)


def test_the_gradient_is_that_of_differences():
  """Central differences of the function in float64."""

  def loss(x, scale, bias):
    centred = x - x.mean((0, 1, 2))
    y = centred / np.sqrt((centred**2).mean((0, 1, 2)) + 1e-5) * scale + bias
    return (np.maximum(y, 0) * np.float64(G)).sum()

  _, _, gradients = pulled(X, G, relu=True)
  args = [np.float64(arg) for arg in (X, SCALE, BIAS)]
  for position, (arg, gradient) in enumerate(zip(args, gradients, strict=True)):
    for index in RNG.choice(arg.size, 5, replace=False):
      moved = []
      for step in (1e-5, -1e-5):
        other = arg.copy()
        other.flat[index] += step
        moved.append(loss(*args[:position], other, *args[position + 1 :]))
      np.testing.assert_allclose(np.asarray(gradient).flat[index], (moved[0] - moved[1]) / 2e-5, rtol=1e-3, atol=1e-3)


def test_over_devices_it_is_that_of_the_whole_batch():
  in_parts = [array.reshape(4, 2, 5, 4, 6) for array in (X, G)]
  y, statistics, (dx, dscale, dbias) = jax.vmap(lambda x, g: pulled(x, g, True, "devices"), axis_name="devices")(
    *in_parts
  )
  want_y, want_statistics, (want_dx, want_dscale, want_dbias) = pulled(X, G, True)
  np.testing.assert_allclose(y.reshape(X.shape), want_y, rtol=1e-4, atol=1e-5)
  for one, want in zip(statistics, want_statistics, strict=True):
    np.testing.assert_allclose(one, np.stack([want] * 4), rtol=1e-5)
  np.testing.assert_allclose(dx.reshape(X.shape), want_dx, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(dscale.sum(0), want_dscale, rtol=1e-4, atol=1e-4)  # each device's own part of the sum
  np.testing.assert_allclose(dbias.sum(0), want_dbias, rtol=1e-4, atol=1e-4)


def test_bfloat16_maps_have_bfloat16_gradients_and_float32_parameters_float32_ones():
  x, g = jnp.asarray(X, jnp.bfloat16), jnp.asarray(G, jnp.bfloat16)
  y, statistics, (dx, dscale, dbias) = pulled(x, g, True)
  assert (y.dtype, dx.dtype) == (jnp.bfloat16, jnp.bfloat16)
  assert {array.dtype for array in (*statistics, dscale, dbias)} == {jnp.dtype("float32")}
  wide = pulled(x.astype(jnp.float32), g.astype(jnp.float32), True)[2]
  for one, want in zip((dx, dscale, dbias), wide, strict=True):
    np.testing.assert_allclose(np.float32(one), want, rtol=2**-7, atol=2e-3)


def test_the_second_derivative_is_the_derived_one():
  """Of what the gradient is made of: a penalty on it."""

  def penalty(x):
    return (jax.grad(lambda x: (batch_norm(x, SCALE, BIAS)[0] ** 3).sum())(x) ** 2).sum()

  found = jax.jit(jax.grad(lambda x: penalty(x)))(X)
  with lowered_as("xla"):
    derived = jax.jit(jax.grad(lambda x: penalty(x)))(X)
  np.testing.assert_allclose(found, derived, rtol=1e-3, atol=1e-3 * np.abs(derived).max())


def test_on_accelerators_derivatives_are_jaxs(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  _, tangent = jax.jvp(lambda x: batch_norm(x, SCALE, BIAS, relu=True)[0], (X,), (X,))
  assert np.isfinite(tangent).all()


def test_what_is_kept_for_the_gradient_is_the_map_once():
  x = jnp.asarray(X, jnp.bfloat16)
  _, vjp = jax.vjp(lambda x: batch_norm(x, SCALE, BIAS, relu=True)[0], x)
  kept = [leaf for leaf in jax.tree.leaves(vjp) if getattr(leaf, "size", 0) == x.size]
  assert [leaf.dtype for leaf in kept] == [jnp.bfloat16]


def in_float64(x, g):
  """y, mean, variance, and the gradients of x, scale and bias, in two passes."""
  x, g = np.float64(x), np.float64(g)
  axes = tuple(range(x.ndim - 1))
  mean, variance = x.mean(axes), x.var(axes)
  inverse = 1 / np.sqrt(variance + 1e-5)
  normalized = (x - mean) * inverse
  dscale, dbias = (g * normalized).sum(axes), g.sum(axes)
  count = x.size // x.shape[-1]
  dx = (g - dbias / count - normalized * dscale / count) * inverse * SCALE
  return normalized * SCALE + BIAS, mean, variance, dx, dscale, dbias


def assert_close(found, x, g):
  """To the rounding of float32: of the mean, beside the deviation, and of the sums."""
  y, statistics, gradients = found
  want = in_float64(x, g)
  deviation = np.sqrt(want[2] + 1e-5)
  rounding = 3e-6 + 2**-22 * np.abs(want[1]) / deviation  # of the mean, in deviations, by channel
  count = want[0].size // len(deviation)
  assert (np.abs(y - want[0]) <= 4 * rounding * (SCALE + np.abs(want[0]))).all()
  assert (np.abs(statistics[0] - want[1]) <= rounding * deviation).all()
  np.testing.assert_allclose(statistics[1], want[2], rtol=1e-5, atol=1e-10)
  assert (np.abs(gradients[0] - want[3]) <= 8 * rounding / deviation * np.abs(g).max() * SCALE).all()
  sums = np.abs(np.float64(g).reshape(count, -1)).sum(0)
  assert (np.abs(gradients[1] - want[4]) <= 2 * rounding * np.abs(want[5]) + 1e-5 * sums).all()
  np.testing.assert_allclose(gradients[2], want[5], rtol=1e-4, atol=1e-6 * count)


SPREADS = [(mean, std) for mean in (0, 10, -1000, 30_000) for std in (0.01, 1, 100)]


@pytest.mark.parametrize("lowering", ["auto", "xla"])
@pytest.mark.parametrize("devices", [1, 4])
def test_a_large_mean_costs_no_digits_but_its_own(devices, lowering):
  """flax #1491: E[x²] - E[x]² in float32 is wrong wherever the mean is large beside the deviation."""
  call = pulled if devices == 1 else jax.vmap(lambda x, g: pulled(x, g, axis_name="devices"), axis_name="devices")
  with lowered_as(lowering):
    call = jax.jit(call)
    for mean, std in SPREADS:
      x = np.float32(mean + std * RNG.normal(size=(devices, *X.shape)))
      x[0, 0] += 3 * std  # where the pivot is from
      g = RNG.normal(size=x.shape)
      g = np.float32(g - g.mean((0, 1, 2, 3)))  # sums of it are small, those of g·x must be too
      found = call(x, g) if devices > 1 else call(x[0], g[0])
      y, statistics, (dx, dscale, dbias) = jax.tree.map(np.float64, found)
      if devices > 1:
        assert all((one == one[0]).all() for one in statistics)
        statistics, dscale, dbias = [one[0] for one in statistics], dscale.sum(0), dbias.sum(0)
      assert_close((y.reshape(x.shape), statistics, (dx.reshape(x.shape), dscale, dbias)), x, g)


def test_devices_whose_means_are_far_apart_are_one_batch():
  """No pivot is near all of them."""
  x = np.float32(RNG.normal(size=(4, *X.shape)) + np.float32([0, 50, -500, 1000]).reshape(4, 1, 1, 1, 1))
  y, statistics, _ = jax.vmap(lambda x: pulled(x, G, axis_name="devices"), axis_name="devices")(x)
  wide = np.float64(x)
  np.testing.assert_allclose(statistics[0][0], wide.mean((0, 1, 2, 3)), rtol=1e-6)
  np.testing.assert_allclose(statistics[1][0], wide.var((0, 1, 2, 3)), rtol=1e-6)
  np.testing.assert_allclose(y, in_float64(x, x)[0], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 1000.1, -3e7])
@pytest.mark.parametrize("type", [jnp.float32, jnp.bfloat16])
def test_constant_channels_have_no_variance_and_finite_gradients(value, type):
  x = jnp.full((5, 7, 6), value, type)
  y, (mean, variance), gradients = pulled(x, x)
  assert (np.asarray(variance) >= 0).all()
  np.testing.assert_allclose(variance, 0, atol=1e-12 * max(1, value**2))
  np.testing.assert_allclose(mean, np.float64(x[0, 0]), rtol=2e-7)
  assert all(np.isfinite(np.float32(array)).all() for array in (y, *gradients))


def test_an_outlier_at_the_beginning_is_no_pivot():
  x = np.float32(1000 + 0.1 * RNG.normal(size=(64, 64, 6)))
  x[0, 0] = 0
  _, (mean, variance), _ = pulled(x, x)
  wide = np.float64(x)
  np.testing.assert_allclose(mean, wide.mean((0, 1)), rtol=1e-6)
  np.testing.assert_allclose(variance, wide.var((0, 1)), rtol=2e-5)


def test_bfloat16_maps_of_a_large_mean():
  x = jnp.asarray(100 + 3 * RNG.normal(size=X.shape), jnp.bfloat16)
  y, (mean, variance), _ = pulled(x, jnp.asarray(G, jnp.bfloat16))
  want = in_float64(x, G)
  np.testing.assert_allclose(mean, want[1], rtol=1e-6)
  np.testing.assert_allclose(variance, want[2], rtol=1e-5)
  np.testing.assert_allclose(np.float64(y), want[0], rtol=2**-8, atol=1e-4)


def test_the_second_derivative_of_a_large_mean():
  """It depends on x - mean alone."""

  def penalty(x):
    return (jax.grad(lambda x: (batch_norm(x, SCALE, BIAS)[0] ** 3).sum())(x) ** 2).sum()

  x = np.float32(np.round(X * 256) / 256)  # so that 1,024 + x is exact
  near, far = (jax.jit(jax.grad(penalty))(x + mean) for mean in (np.float32(0), np.float32(1024)))
  np.testing.assert_allclose(far, near, atol=2e-3 * np.abs(near).max())
