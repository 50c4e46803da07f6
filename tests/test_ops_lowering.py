"""The choice of a lowering: each branch, and that it stays a choice of how, not of what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import avg_pool, conv, max_pool, pointwise
from nin_jax.ops.geometry import Geometry
from nin_jax.ops.lowering import FORWARD, KERNEL, choose, in_loop, lowered_as, phased

SAME = {kernel: Geometry(pads=((kernel // 2,) * 2,) * 2) for kernel in (1, 3, 5, 7)}


def chosen(of, images, size, channels, features, kernel, backend="cpu", looped=False, **geometry):
  shapes = (images, size, size, channels), (kernel, kernel, channels // geometry.get("groups", 1), features)
  return choose(of, *shapes, SAME[kernel]._replace(**geometry), backend, looped)


@pytest.mark.parametrize("of", [FORWARD, KERNEL])
@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_accelerators_take_xlas(of, backend):
  for shape in ((64, 16, 96, 192, 5), (64, 32, 3, 192, 5), (16, 7, 16, 16, 3)):
    assert chosen(of, *shape, backend) == "xla"
    assert chosen(of, *shape, backend, looped=True) == "xla"


def test_no_kernel_gradient_with_groups_is_xlas():
  assert chosen(FORWARD, 16, 8, 32, 32, 3, groups=4) == "xla"
  assert chosen(FORWARD, 16, 8, 32, 32, 3, groups=4, looped=True) == "patches"
  assert chosen(FORWARD, 16, 8, 32, 32, 3, groups=32) == "patches"
  assert chosen(FORWARD, 64, 16, 96, 96, 5, groups=96) == "patches"
  assert choose(FORWARD, (4, 16, 16, 8), (12, 12, 1, 8), Geometry(groups=8), "cpu") == "xla"
  for groups in (2, 32):
    assert chosen(KERNEL, 16, 8, 32, 32, 3, groups=groups) == "patches"
    assert chosen(KERNEL, 64, 56, 32, 32, 3, groups=groups) == "patches"


def test_tiles_where_they_save_more_than_they_cost():
  for of in (FORWARD, KERNEL):
    assert chosen(of, 64, 16, 96, 192, 5) == "winograd"
    assert chosen(of, 64, 16, 16, 16, 5) != "winograd"  # too few channels
    assert chosen(of, 64, 16, 96, 192, 5, strides=(2, 2)) != "winograd"
    assert chosen(of, 64, 16, 96, 192, 5, dilation=(2, 2)) != "winograd"
    assert chosen(of, 64, 16, 96, 192, 7) != "winograd"  # no tiles for 7×7
    assert chosen(of, 64, 16, 96, 8, 5) != "winograd"  # spread for few results
  assert chosen(FORWARD, 16, 7, 192, 384, 3) != "winograd"  # 7 results in two tiles of 4, large kernels


def test_few_channels_are_patches():
  assert chosen(FORWARD, 64, 32, 3, 192, 5) == "patches"
  assert chosen(KERNEL, 64, 32, 3, 192, 5) == "patches"
  assert chosen(KERNEL, 16, 224, 3, 64, 7, strides=(2, 2)) == "xla"


def test_kernels_larger_than_the_maps_are_not_xlas():
  assert chosen(FORWARD, 64, 5, 16, 32, 5) == "xla"
  assert chosen(FORWARD, 64, 4, 16, 32, 5) == "patches"
  assert chosen(KERNEL, 64, 4, 16, 32, 5) == "xla"


def test_strided_input_gradients_are_made_by_phases_where_xlas_are_slow():
  geometry = Geometry((2, 2), ((1, 1), (1, 1)))
  assert not phased(geometry)
  assert phased(geometry._replace(groups=2))
  with in_loop():
    assert phased(geometry)
  with lowered_as("patches"):
    assert phased(geometry)


def test_a_phase_of_one_tap_is_a_product():
  assert chosen(FORWARD, 1, 8, 32, 32, 1) == "patches"
  assert chosen(FORWARD, 64, 32, 192, 160, 1) == "patches"


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


def test_a_loop_in_auto_has_no_convolution():
  x, kernel = jnp.ones((2, 3, 8, 8, 4)), jnp.ones((3, 3, 4, 5))
  with in_loop():
    looped = text(lambda x, kernel: jax.lax.map(lambda x: conv(x, kernel), x), x, kernel)
  assert "stablehlo.convolution" not in looped


@pytest.mark.parametrize("name", ["fft", "onednn"])
def test_unknown_lowerings_are_refused(name):
  with pytest.raises(ValueError, match=f"'{name}': accepted is one of auto, xla, patches, winograd$"):
    lowered_as(name)


def test_what_no_other_lowering_takes_is_xlas():
  for geometry in ({"pads": ((-1, 0), (0, 0))}, {"pads": ((-1, 0), (0, 0)), "groups": 2}):
    assert chosen(FORWARD, 64, 16, 96, 192, 5, **geometry) == "xla"
    assert chosen(FORWARD, 64, 16, 96, 192, 5, looped=True, **geometry) == "xla"
  assert chosen(FORWARD, 0, 16, 96, 192, 5) == "xla"


def test_forward_mode_and_second_derivatives_are_there_where_asked_for():
  x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
  square = lambda kernel: (conv(x, kernel) ** 2).sum()
  with lowered_as("xla"):
    hessian = jax.hessian(square)(kernel)
    assert float(jnp.abs(hessian).max()) > 0
  flat = lambda kernel: avg_pool(max_pool(pointwise(x, kernel), 2, 2), 3, 1, "SAME").sum()
  with lowered_as("xla"):
    np.testing.assert_allclose(jax.jvp(flat, (kernel[0, 0],), (kernel[0, 0],))[1], flat(kernel[0, 0]), rtol=1e-6)
