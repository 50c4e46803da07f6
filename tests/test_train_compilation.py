"""Programs: traced in their context, compiled once for each shape, and kept unless they must not be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import programs_kept

from configs import inception_digits
from nin_jax import models
from nin_jax.ops import conv, onednn
from nin_jax.ops.lowering import lowered_as
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

  program = compilation.Program(mapped(function, 2), lambda calls: {}, lambda: lowered_as("auto"))
  for _ in range(3):
    for size in (2, 3):
      x = np.arange(2.0 * size, dtype=np.float32).reshape(2, size)
      np.testing.assert_allclose(program(x, np.float32(2))[0], 2 * x.sum(0))
  assert traced == [(2,), (3,)]


def test_options_that_this_release_does_not_have_are_left_out():
  assert compilation._known({"xla_no_such_option": True, "xla_backend_optimization_level": 1}) == {
    "xla_backend_optimization_level": 1
  }
  assert compilation.fast("gpu", "float32") == compilation.quick("tpu") == compilation.small("gpu") == {}


@pytest.mark.parametrize("lowering", ["xla", "onednn"])
def test_programs_with_calls_are_not_kept(cache, lowering):
  if lowering == "onednn" and not onednn.available():
    pytest.skip("this machine's XLA has no oneDNN")
  kernel, x = jnp.ones((3, 3, 4, 5)), np.ones((1, 2, 8, 8, 4), np.float32)
  told = []
  options = lambda calls: told.append(calls) or {}
  program = compilation.Program(mapped(lambda x, kernel: conv(x, kernel)), options, lambda: lowered_as(lowering))
  onednn.available()
  before = set(cache.glob("*-cache"))
  y = jax.block_until_ready(program(x, kernel))
  assert len(set(cache.glob("*-cache")) - before) == (lowering == "xla")
  assert told == [lowering == "onednn"]
  np.testing.assert_allclose(y[0, 0, 4, 4], 36.0)
  assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.0


def test_the_digits_program_can_be_kept():
  """One convolution large enough for a call, and it is compiled at each start."""
  if not onednn.available():
    pytest.skip("this machine's XLA has no oneDNN")
  config = inception_digits.get_config()

  def text(batch):
    images = jnp.zeros((batch, 8, 8, 1))
    network = models.build(config.model, images.shape[1:])
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))

    def loss(params, rest, images):
      return network.apply({**rest, "params": params}, images, train=False)[0].sum()

    with lowered_as("auto", calls=True):
      return jax.jit(jax.grad(loss)).lower(variables.pop("params"), variables, images).as_text()

  assert onednn.CALL not in text(config.data.batch_size)
  assert onednn.CALL in text(8 * config.data.batch_size)  # they are a matter of size
