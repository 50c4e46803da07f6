"""The separable stem, whose cost GoogLeNet's Table 1 gives."""

import jax
import numpy as np

from nin_jax import ops
from nin_jax.blocks import SeparableConv


def test_the_stem_has_the_2_7k_weights_of_table_1():
  y, variables = jax.eval_shape(SeparableConv(64).init_with_output, jax.random.key(0), np.zeros((1, 224, 224, 3)))
  params = variables["params"]
  weights = sum(layer["kernel"].size for layer in params.values())
  assert weights == 2_712 == 7 * 7 * 3 * 8 + 24 * 64
  assert params["depthwise"]["kernel"].shape == (7, 7, 1, 24)
  assert y.shape == (1, 112, 112, 64)


def test_it_is_a_linear_depthwise_convolution_then_a_pointwise():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 9, 8, 3)).astype(np.float32)
  block = SeparableConv(5, multiplier=2, kernel=3, strides=2, padding=1)
  draw = lambda leaf: rng.normal(size=leaf.shape).astype(np.float32)
  params = jax.tree.map(draw, jax.eval_shape(block.init, jax.random.key(0), x)["params"])
  space, channels = params["depthwise"], params["pointwise"]
  maps = []
  for channel in range(3):  # each channel's two maps by themselves
    own = slice(2 * channel, 2 * channel + 2)
    maps.append(ops.conv(x[..., channel : channel + 1], space["kernel"][..., own], space["bias"][own], 2, 1))
  maps = np.concatenate(maps, -1)
  assert maps.min() < 0
  want = np.maximum(maps @ channels["kernel"] + channels["bias"], 0)
  np.testing.assert_allclose(jax.jit(block.apply)({"params": params}, x), want, rtol=1e-4, atol=1e-4)
