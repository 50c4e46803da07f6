"""Programs: traced in their context, compiled once for each shape, and kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import programs_kept

from nin_jax.ops import conv
from nin_jax.ops.lowering import AUTO, LOWERINGS, lowered_as
from nin_jax.train import compilation

PARALLEL = "i"


@pytest.fixture
def cache(tmp_path):
  """A persistent compilation cache of the test's own."""
  with programs_kept(tmp_path):
    yield tmp_path


def mapped(function, count=1):
  return jax.pmap(function, PARALLEL, in_axes=(0, None), devices=jax.devices()[:count])


def test_one_compilation_for_each_shape():
  traced = []

  def function(x, y):
    traced.append(x.shape)
    return jax.lax.psum(x * y, PARALLEL)

  program = compilation.Program(mapped(function, 2), lambda _: {}, lambda: lowered_as("auto"))
  for _ in range(3):
    for size in (2, 3):
      x = np.arange(2.0 * size, dtype=np.float32).reshape(2, size)
      np.testing.assert_allclose(program(x, np.float32(2))[0], 2 * x.sum(0))
  assert traced == [(2,), (3,)]


def test_options_that_this_release_does_not_have_are_left_out():
  assert compilation._known({"xla_no_such_option": True, "xla_backend_optimization_level": 1}) == {
    "xla_backend_optimization_level": 1
  }
  assert compilation.fast("gpu", "float32", 1e12) == compilation.fast("gpu", "float32", 0) == {}
  assert compilation.quick("tpu") == {}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_small_programs_compile_quickly(precision):
  small = compilation.fast("cpu", precision, compilation.SMALL_FLOPS - 1)
  assert small.items() <= compilation.quick("cpu").items()
  assert compilation.fast("cpu", precision, compilation.SMALL_FLOPS) == compilation._known(compilation._FAST[precision])


@pytest.mark.parametrize("lowering", [AUTO, *LOWERINGS])
def test_every_program_can_be_kept(cache, lowering):
  kernel, x = jnp.ones((3, 3, 64, 64)), np.ones((1, 8, 32, 32, 64), np.float32)
  program = compilation.Program(mapped(lambda x, kernel: conv(x, kernel)), lambda _: {}, lambda: lowered_as(lowering))
  before = set(cache.glob("*-cache"))
  y = jax.block_until_ready(program(x, kernel))
  assert len(set(cache.glob("*-cache")) - before) == 1
  np.testing.assert_allclose(y[0, 0, 4, 4], 9 * 64, rtol=1e-5)
