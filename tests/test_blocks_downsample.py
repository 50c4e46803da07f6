"""Three ways to halve a map."""

import jax
import numpy as np
import pytest

from nin_jax import ops
from nin_jax.blocks import DOWNSAMPLES, Downsample

X = np.random.default_rng(0).normal(size=(2, 8, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("kind", DOWNSAMPLES)
def test_each_halves_the_map_and_keeps_the_channels(kind):
  y, _ = jax.eval_shape(Downsample(kind).init_with_output, jax.random.key(0), X)
  assert y.shape == (2, 4, 3, 5)


@pytest.mark.parametrize(("window", "strides"), [(3, 2), (2, 2), (4, 3)])
def test_pools_are_those_of_caffe(window, strides):
  for kind, pool in (("max", ops.max_pool), ("avg", ops.avg_pool)):
    y = Downsample(kind, window, strides).apply({}, X)
    np.testing.assert_array_equal(y, pool(X, window, strides, ceil_mode=True))


@pytest.mark.parametrize("strides", [2, 3])
def test_a_strided_pointwise_is_the_pointwise_of_each_sth_row_and_column(strides):
  """Claim 10."""
  module = Downsample("pointwise", strides=strides)
  params = module.init(jax.random.key(0), X)["params"]["pointwise"]
  assert params["kernel"].shape == (5, 5)
  y = module.apply({"params": {"pointwise": params}}, X)
  np.testing.assert_allclose(y, np.maximum(X[:, ::strides, ::strides] @ params["kernel"], 0), rtol=1e-5, atol=1e-5)
  whole = Downsample("pointwise", strides=1).apply({"params": {"pointwise": params}}, X)
  np.testing.assert_allclose(y, whole[:, ::strides, ::strides], rtol=1e-5, atol=1e-5)
