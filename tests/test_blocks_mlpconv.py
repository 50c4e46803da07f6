"""cccp layers are a small network slid over the positions; what merges, and what the ReLU keeps from merging."""

from functools import partial

import jax
import numpy as np
import pytest

from nin_jax import ops
from nin_jax.blocks import MLPConv
from nin_jax.layers import Conv, Pointwise


def random(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X = random(0, 2, 6, 5, 4)


def random_params(module, x=X, seed=1):
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
  leaves, structure = jax.tree.flatten(shapes)
  return jax.tree.unflatten(structure, [random(seed + i, *leaf.shape) / 2 for i, leaf in enumerate(leaves)])


def apply(module, params, x=X):
  return np.asarray(jax.jit(module.apply)({"params": params}, x))


@pytest.mark.parametrize("last_activation", [True, False])
def test_cccp_layers_are_an_mlp_at_every_position(last_activation):
  """Claim 4 (Lin et al. 2013, section 3.2)."""
  block = MLPConv((7, 6, 5), kernel=1, last_activation=last_activation)
  params = random_params(block)
  y = apply(block, params)
  layers = [(params["conv"]["kernel"][0, 0], params["conv"]["bias"])]
  layers += [(params[name]["kernel"], params[name]["bias"]) for name in ("cccp1", "cccp2")]
  for n, h, w in np.ndindex(2, 6, 5):
    hidden = X[n, h, w]
    for index, (kernel, bias) in enumerate(layers):
      hidden = hidden @ kernel + bias
      if index < 2 or last_activation:
        hidden = np.maximum(hidden, 0)
    np.testing.assert_allclose(y[n, h, w], hidden, rtol=1e-4, atol=1e-5)
  assert (y.min() < 0) == (not last_activation)


def test_the_first_layer_is_a_kxk_convolution():
  block = MLPConv((7, 6), kernel=3, strides=2, padding=1)
  params = random_params(block)
  assert params["conv"]["kernel"].shape == (3, 3, 4, 7)
  hidden = np.maximum(ops.conv(X, *map(params["conv"].get, ("kernel", "bias")), strides=2, padding=1), 0)
  want = np.maximum(hidden @ params["cccp1"]["kernel"] + params["cccp1"]["bias"], 0)
  np.testing.assert_allclose(apply(block, params), want, rtol=1e-4, atol=1e-4)


def test_a_block_of_one_layer_is_a_convolution():
  block = MLPConv((3,), kernel=3, last_activation=False)
  params = random_params(block)
  assert set(params) == {"conv"}
  np.testing.assert_allclose(
    apply(block, params), ops.conv(X, params["conv"]["kernel"], params["conv"]["bias"]), rtol=1e-4, atol=1e-5
  )


def test_each_layer_may_have_its_own_initialiser():
  constants = [jax.nn.initializers.constant(value) for value in (0.001, 0.01, 0.1)]
  params = MLPConv((3, 3, 3), kernel_inits=constants).init(jax.random.key(0), X)["params"]
  assert [float(params[name]["kernel"].max()) for name in ("conv", "cccp1", "cccp2")] == pytest.approx(
    [0.001, 0.01, 0.1]
  )


def test_two_linear_pointwise_merge_into_one():
  """Claim 6: K' = K1 K2, b' = b1 K2 + b2."""
  first, second, first_bias, second_bias = random(2, 4, 7), random(3, 7, 5), random(4, 7), random(5, 5)
  twice = ops.pointwise(ops.pointwise(X, first, first_bias), second, second_bias)
  once = ops.pointwise(X, first @ second, first_bias @ second + second_bias)
  np.testing.assert_allclose(twice, once, rtol=1e-4, atol=1e-4)


def test_a_linear_kxk_and_pointwise_merge_into_one_kxk():
  kernel, bias, matrix, second_bias = random(6, 3, 3, 4, 2), random(7, 2), random(8, 2, 5), random(9, 5)
  twice = ops.pointwise(ops.conv(X, kernel, bias), matrix, second_bias)
  merged = kernel @ matrix
  np.testing.assert_allclose(twice, ops.conv(X, merged, bias @ matrix + second_bias), rtol=1e-4, atol=1e-4)
  assert np.linalg.matrix_rank(merged.reshape(-1, 5)) == 2  # the middle width


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_pointwise_then_kxk_merges_only_without_padding(padding):
  """Zero padding goes round the first bias."""
  matrix, bias, kernel = random(10, 4, 6), random(11, 6), random(12, 3, 3, 6, 5)
  twice = ops.conv(ops.pointwise(X, matrix, bias), kernel, padding=padding)
  merged = ops.conv(
    X, np.einsum("ce,hwed->hwcd", matrix, kernel), np.einsum("e,hwed->d", bias, kernel), padding=padding
  )
  error = np.abs(twice - merged).max(axis=(0, 3))
  np.testing.assert_allclose(error[1:-1, 1:-1], 0, atol=1e-4)
  assert (error[0].max() > 0.1) == (padding == "SAME")


def test_with_a_relu_between_no_merging_is_possible():
  """An affine f has f(x) + f(-x) - 2 f(0) = 0."""

  def bend(block):
    params = random_params(block)
    return np.abs(apply(block, params) + apply(block, params, -X) - 2 * apply(block, params, 0 * X)).max()

  assert bend(MLPConv((7, 5), kernel=3, last_activation=False)) > 0.1
  assert bend(MLPConv((7,), kernel=3, last_activation=False)) < 1e-4
  linear = {"conv": partial(Conv, activation=None), "pointwise": partial(Pointwise, activation=None)}
  assert bend(MLPConv((7, 5), kernel=3, **linear)) < 1e-4
