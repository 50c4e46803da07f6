"""The choice of a lowering: each branch, and that it stays a choice of how, not of what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import avg_pool, conv, max_pool, onednn, pointwise
from nin_jax.ops.geometry import Geometry
from nin_jax.ops.lowering import FORWARD, KERNEL, LEAST_CALLED, choose, in_loop, lowered_as, phased

SAME = {kernel: Geometry(pads=((kernel // 2,) * 2,) * 2) for kernel in (1, 3, 5, 7)}


def chosen(
  of, images, size, channels, features, kernel, backend="cpu+onednn", dtype="float32", looped=False, **geometry
):
  shapes = (images, size, size, channels), (kernel, kernel, channels // geometry.get("groups", 1), features)
  return choose(of, *shapes, SAME[kernel]._replace(**geometry), jnp.dtype(dtype), backend, looped)


@pytest.mark.parametrize("of", [FORWARD, KERNEL])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_accelerators_take_xlas(of, dtype, backend):
  for shape in ((64, 16, 96, 192, 5), (64, 32, 3, 192, 5), (16, 7, 16, 16, 3)):
    assert chosen(of, *shape, backend, dtype) == "xla"
    assert chosen(of, *shape, backend, dtype, looped=True) == "xla"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_groups_are_calls_and_no_kernel_gradient_with_groups_is_xlas(dtype):
  for of in (FORWARD, KERNEL):
    assert chosen(of, 64, 16, 96, 192, 5, dtype=dtype, groups=2) == "onednn"
    assert chosen(of, 16, 56, 64, 64, 3, dtype=dtype, groups=64, strides=(2, 2)) == "onednn"
  assert chosen(FORWARD, 16, 8, 32, 32, 3, dtype=dtype, groups=4) == "xla"
  assert chosen(FORWARD, 16, 8, 32, 32, 3, dtype=dtype, groups=4, looped=True) == "patches"
  assert chosen(FORWARD, 16, 8, 32, 32, 3, dtype=dtype, groups=32) == "patches"
  assert chosen(FORWARD, 64, 16, 96, 96, 5, "cpu", dtype, groups=96) == "patches"
  assert choose(FORWARD, (4, 16, 16, 8), (12, 12, 1, 8), Geometry(groups=8), jnp.dtype(dtype), "cpu") == "xla"
  for groups in (2, 32):
    assert chosen(KERNEL, 16, 8, 32, 32, 3, dtype=dtype, groups=groups) == "patches"
    assert chosen(KERNEL, 64, 56, 32, 32, 3, "cpu", dtype, groups=groups) == "patches"


def test_large_bfloat16_convolutions_are_calls():
  """XLA has none of that type on the CPU."""
  assert chosen(FORWARD, 64, 16, 96, 192, 5, dtype="bfloat16") == "onednn"
  assert chosen(KERNEL, 64, 16, 96, 192, 5, dtype="bfloat16") == "onednn"
  assert chosen(KERNEL, 64, 32, 192, 160, 1, dtype="bfloat16") == "onednn"
  assert chosen(FORWARD, 64, 16, 96, 192, 5, "cpu", "bfloat16") != "onednn"


def test_tiles_where_they_save_more_than_they_cost():
  for backend in ("cpu", "cpu+onednn"):
    for of in (FORWARD, KERNEL):
      assert chosen(of, 64, 16, 96, 192, 5, backend) == "winograd"
      assert chosen(of, 64, 16, 16, 16, 5, backend) != "winograd"  # too few channels
      assert chosen(of, 64, 16, 96, 192, 5, backend, strides=(2, 2)) != "winograd"
      assert chosen(of, 64, 16, 96, 192, 5, backend, dilation=(2, 2)) != "winograd"
      assert chosen(of, 64, 16, 96, 192, 7, backend) != "winograd"  # no tiles for 7×7
      assert chosen(of, 64, 16, 96, 8, 5, backend) != "winograd"  # spread for few results
  assert chosen(FORWARD, 16, 7, 192, 384, 3, "cpu") != "winograd"  # 7 results in two tiles of 4, large kernels


def test_large_float32_convolutions_are_calls_but_for_their_kernels_gradient():
  assert chosen(FORWARD, 16, 56, 32, 64, 3, strides=(2, 2)) == "onednn"
  assert chosen(KERNEL, 16, 56, 32, 64, 3, strides=(2, 2)) == "xla"
  assert chosen(FORWARD, 16, 56, 32, 64, 3, "cpu") == "xla"
  assert chosen(FORWARD, 16, 224, 3, 64, 7, strides=(2, 2)) == "onednn"
  assert chosen(KERNEL, 64, 32, 192, 160, 1) == "onednn"


def test_small_ones_are_no_calls_so_that_their_programs_can_be_kept():
  images = LEAST_CALLED // (8 * 8 * 9 * 32 * 32)
  assert chosen(FORWARD, images, 8, 32, 32, 3) == "xla"
  assert chosen(FORWARD, images + 1, 8, 32, 32, 3) == "onednn"


def test_few_channels_are_patches():
  assert chosen(FORWARD, 64, 32, 3, 192, 5, "cpu") == "patches"
  assert chosen(KERNEL, 64, 32, 3, 192, 5, "cpu") == "patches"
  assert chosen(KERNEL, 16, 224, 3, 64, 7, "cpu", strides=(2, 2)) == "xla"
  assert chosen(KERNEL, 16, 224, 3, 64, 7, strides=(2, 2)) == "onednn"  # which makes their product


def test_products_that_are_called_make_tiles_pay_sooner():
  assert chosen(KERNEL, 16, 56, 32, 64, 3, "cpu") == "xla"
  assert chosen(KERNEL, 16, 56, 32, 64, 3) == "winograd"


def test_kernels_larger_than_the_maps_are_not_xlas():
  assert chosen(FORWARD, 64, 5, 16, 32, 5) == "xla"
  assert chosen(FORWARD, 64, 4, 16, 32, 5) == "patches"
  assert chosen(KERNEL, 64, 4, 16, 32, 5) == "xla"


def test_strided_input_gradients_are_made_by_phases_where_each_is_worth_a_call():
  geometry = Geometry((2, 2), ((1, 1), (1, 1)))
  images = 4 * LEAST_CALLED // (8 * 8 * 9 * 32 * 32)
  of = lambda images: phased((images, 16, 16, 32), (3, 3, 32, 32), geometry)
  assert [of(count) for count in (images, images + 1)] == [False, True]
  with in_loop():
    assert of(1)
  with lowered_as("patches"):
    assert of(1)


def test_a_phase_of_one_tap_is_a_product():
  assert chosen(FORWARD, 1, 8, 32, 32, 1) == "patches"
  assert chosen(FORWARD, 64, 32, 192, 160, 1) == "onednn"


def test_loops_take_patches_for_xlas():
  assert chosen(FORWARD, 4, 8, 32, 32, 3) == "xla"
  assert chosen(FORWARD, 4, 8, 32, 32, 3, looped=True) == "patches"
  assert chosen(FORWARD, 64, 16, 96, 192, 5, looped=True) == "winograd"


def text(function, *args):
  return jax.jit(function).lower(*args).as_text()


def test_what_is_asked_for_is_what_is_traced():
  x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 5))

  def traced(lowering):
    with lowered_as(lowering):
      return text(lambda x, kernel: conv(x, kernel), x, kernel)  # a new function: JAX keeps what it has traced

  assert "stablehlo.convolution" in traced("xla")
  assert "stablehlo.convolution" not in traced("patches") + traced("winograd")
  assert traced("winograd").count("dot_general") == 1
  if onednn.available():
    assert onednn.CALL in traced("onednn")


def test_a_loop_in_auto_has_no_convolution():
  x, kernel = jnp.ones((2, 3, 8, 8, 4)), jnp.ones((3, 3, 4, 5))
  with in_loop():
    looped = text(lambda x, kernel: jax.lax.map(lambda x: conv(x, kernel), x), x, kernel)
  assert "stablehlo.convolution" not in looped


def test_calls_are_made_only_where_they_are_asked_for():
  """Whatever jits `conv` by itself may keep its programs."""
  x, kernel = jnp.ones((64, 16, 16, 64), jnp.bfloat16), jnp.ones((3, 3, 64, 64))
  assert onednn.CALL not in text(lambda x, kernel: conv(x, kernel), x, kernel)
  if onednn.available():
    with lowered_as("auto", calls=True):
      assert onednn.CALL in text(lambda x, kernel: conv(x, kernel), x, kernel)


def test_a_loops_kernel_gradient_is_a_call_too():
  if not onednn.available():
    pytest.skip("this machine's XLA has no oneDNN")
  x, kernel = jnp.ones((16, 28, 28, 32)), jnp.ones((3, 3, 32, 32))
  with lowered_as("auto", calls=True), in_loop():
    gradient = text(lambda x, kernel: jax.grad(lambda kernel: conv(x, kernel).sum())(kernel), x, kernel)
  assert "stablehlo.convolution" not in gradient
  assert onednn.CALL in gradient


def test_strided_input_gradients_with_groups_are_made_by_phases():
  shape, geometry = (1, 8, 8, 4), Geometry((2, 2), ((1, 1), (1, 1)))
  assert phased(shape, (3, 3, 2, 4), geometry._replace(groups=2))
  assert not phased(shape, (3, 3, 4, 4), geometry)


def test_unknown_and_missing_lowerings_are_refused(monkeypatch):
  with pytest.raises(ValueError, match="'fft': accepted is one of auto, xla, patches, winograd, onednn"):
    lowered_as("fft")
  monkeypatch.setattr(onednn, "available", lambda dtype="float32": False)
  with pytest.raises(ValueError, match="has no oneDNN"):
    lowered_as("onednn")


def test_what_cannot_be_called_is_xlas():
  for geometry in ({"pads": ((-1, 0), (0, 0))}, {"pads": ((-1, 0), (0, 0)), "groups": 2}):
    assert chosen(FORWARD, 64, 16, 96, 192, 5, dtype="bfloat16", **geometry) == "xla"
    assert chosen(FORWARD, 64, 16, 96, 192, 5, looped=True, **geometry) == "xla"
  assert chosen(FORWARD, 0, 16, 96, 192, 5, dtype="bfloat16") == "xla"


def test_a_processor_without_bfloat16_makes_no_such_calls(monkeypatch):
  """There oneDNN would end the process."""
  monkeypatch.setattr(onednn, "_built_in", lambda: True)
  monkeypatch.setattr(onednn, "_multiplies_bfloat16", lambda: False)
  assert onednn.available()
  assert not onednn.available(jnp.bfloat16)
  x, kernel = jnp.ones((64, 16, 16, 64), jnp.bfloat16), jnp.ones((3, 3, 64, 64))
  for lowering in ("auto", "onednn"):
    with lowered_as(lowering, calls=True):
      assert onednn.CALL not in text(lambda x, kernel: conv(x, kernel), x, kernel)


def test_forward_mode_and_second_derivatives_are_there_where_asked_for():
  x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
  square = lambda kernel: (conv(x, kernel) ** 2).sum()
  with lowered_as("xla"):
    hessian = jax.hessian(square)(kernel)
    assert float(jnp.abs(hessian).max()) > 0
  flat = lambda kernel: avg_pool(max_pool(pointwise(x, kernel), 2, 2), 3, 1, "SAME").sum()
  with lowered_as("xla"):
    np.testing.assert_allclose(jax.jvp(flat, (kernel[0, 0],), (kernel[0, 0],))[1], flat(kernel[0, 0]), rtol=1e-6)
