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
