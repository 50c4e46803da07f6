"""Convolutions as modules: their parameters, and that what is injected is applied, in order."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from nin_jax import ops
from nin_jax.layers import Conv, Dense, Pointwise, batch_norm
from nin_jax.ops.lowering import lowered_as

X = np.random.default_rng(0).normal(size=(2, 6, 5, 8)).astype(np.float32)
KINDS = {
  "pointwise": (partial(Pointwise, 12), (8, 12), (6, 5)),
  "pointwise, strides, groups": (partial(Pointwise, 12, strides=(2, 3), groups=4), (2, 12), (3, 2)),
  "conv": (partial(Conv, 12), (3, 3, 8, 12), (6, 5)),
  "conv, all its fields": (
    partial(Conv, 12, kernel=(3, 2), strides=2, padding=1, dilation=2, groups=2),
    (3, 2, 4, 12),
    (2, 3),
  ),
  "dense": (partial(Dense, 12, size=(6, 5)), (6, 5, 8, 12), (1, 1)),
  "dense on a larger map": (partial(Dense, 12, size=3), (3, 3, 8, 12), (4, 3)),
}


class Negate(nn.Module):
  """A normalisation that shows where it is applied."""

  relu: bool = False

  @nn.compact
  def __call__(self, x):
    y = -x * self.param("scale", nn.initializers.constant(2.0), ())
    return nn.relu(y) if self.relu else y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_and_types(kind, dtype):
  layer, kernel, size = KINDS[kind]
  y, variables = jax.eval_shape(layer(dtype=dtype).init_with_output, jax.random.key(0), X)
  assert (y.shape, y.dtype) == ((2, *size, 12), dtype)
  params = variables["params"]
  assert {name: leaf.shape for name, leaf in params.items()} == {"kernel": kernel, "bias": (12,)}
  assert {leaf.dtype for leaf in params.values()} == {jnp.dtype(jnp.float32)}


def apply(layer, params, x=X):
  return np.asarray(jax.jit(layer.apply)({"params": params}, x))


def params_of(layer, seed=1):
  """Random parameters, biases too."""
  shapes = jax.eval_shape(layer.init, jax.random.key(0), X)["params"]
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("kind", ["pointwise, strides, groups", "conv, all its fields"])
def test_each_field_reaches_the_op(kind):
  layer = KINDS[kind][0](activation=None)
  params = params_of(layer)
  kernel, bias = params["kernel"], params["bias"]
  if kind.startswith("conv"):
    want = jax.jit(lambda x: ops.conv(x, kernel, bias, strides=2, padding=1, dilation=2, groups=2))(X)
  else:
    want = jax.jit(lambda x: ops.pointwise(x, kernel, bias, strides=(2, 3), groups=4))(X)
  np.testing.assert_allclose(apply(layer, params), want, rtol=1e-5, atol=1e-5)


def test_relu_is_the_activation_unless_another_is_given():
  params = params_of(Pointwise(12))
  linear = apply(Pointwise(12, activation=None), params)
  assert linear.min() < 0
  np.testing.assert_array_equal(apply(Pointwise(12), params), np.maximum(linear, 0))
  np.testing.assert_allclose(apply(Pointwise(12, activation=jnp.tanh), params), np.tanh(linear), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["pointwise", "conv", "dense"])
def test_a_norm_stands_in_place_of_the_bias_and_before_the_activation(kind):
  layer = KINDS[kind][0]
  params = params_of(layer())
  with_norm = layer(norm=Negate)
  assert set(params_of(with_norm)) == {"kernel", "norm"}
  kernel = {"kernel": params["kernel"]}
  linear = apply(layer(activation=None), kernel | {"bias": np.zeros(12, np.float32)})
  np.testing.assert_allclose(
    apply(with_norm, kernel | {"norm": {"scale": np.float32(2)}}), np.maximum(-2 * linear, 0), rtol=1e-5, atol=1e-5
  )


def test_batch_norm_as_a_norm():
  layer = Pointwise(12, norm=batch_norm(train=True, dtype=jnp.float32), activation=None)
  variables = layer.init(jax.random.key(0), X)
  assert set(variables["params"]) == {"kernel", "norm"}
  y, _ = layer.apply(variables, X, mutable=["batch_stats"])
  np.testing.assert_allclose(np.mean(y, (0, 1, 2)), np.zeros(12), atol=1e-5)
  np.testing.assert_allclose(np.var(y, (0, 1, 2)), np.ones(12), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [nn.relu, jnp.tanh, None])
def test_in_evaluation_batch_norm_is_within_the_convolution(kind, activation):
  """The same function as unfolded, which `lowered_as("xla")` is."""
  rng = np.random.default_rng(1)
  layer = KINDS[kind][0](norm=batch_norm(train=False, dtype=jnp.float32, epsilon=1e-3), activation=activation)
  variables = jax.eval_shape(layer.init, jax.random.key(0), X)
  variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32), variables)
  text = lambda: jax.jit(lambda x: layer.apply(variables, x)).lower(X).as_text()
  folded, short = layer.apply(variables, X), text()
  with lowered_as("xla"):
    unfolded, long = layer.apply(variables, X), text()
  np.testing.assert_allclose(folded, unfolded, rtol=1e-4, atol=1e-4)
  assert short != long


@pytest.mark.parametrize("train", [False, True])
def test_a_norms_type_is_the_results(train):
  layer = Conv(4, dtype=jnp.bfloat16, norm=batch_norm(train=train, dtype=jnp.float32))
  (y, _) = jax.eval_shape(lambda: layer.init_with_output(jax.random.key(0), X))
  assert y.dtype == jnp.float32


def test_initialisers_reach_the_parameters():
  layer = Conv(4, kernel_init=nn.initializers.constant(3.0), bias_init=nn.initializers.constant(0.2))
  params = layer.init(jax.random.key(0), X)["params"]
  assert np.all(params["kernel"] == 3.0)
  np.testing.assert_array_equal(params["bias"], np.full(4, 0.2, np.float32))
  assert np.all(Conv(4).init(jax.random.key(0), X)["params"]["bias"] == 0)


def test_a_fully_connected_layer_is_a_matrix_on_the_flattened_map():
  layer = Dense(12, size=(6, 5), activation=None)
  params = params_of(layer)
  want = X.reshape(2, -1) @ params["kernel"].reshape(-1, 12) + params["bias"]
  np.testing.assert_allclose(apply(layer, params)[:, 0, 0], want, rtol=1e-4, atol=1e-4)


def test_a_fully_connected_layer_is_a_valid_convolution():
  """Claim 11: on a larger map the same parameters give one output for each place of the window."""
  layer = Dense(12, size=(3, 2))
  params = params_of(layer)
  y = apply(layer, params)
  assert y.shape == (2, 4, 4, 12)
  conv = Conv(12, kernel=(3, 2), padding="VALID")
  np.testing.assert_allclose(y, apply(conv, params), rtol=1e-5, atol=1e-5)
  for row, column in [(0, 0), (1, 3), (3, 2)]:
    crop = X[:, row : row + 3, column : column + 2]
    np.testing.assert_allclose(y[:, row, column], apply(layer, params, crop)[:, 0, 0], rtol=1e-4, atol=1e-4)


def test_a_fully_connected_layer_on_a_1x1_map_is_pointwise():
  x = X[:, :1, :1]
  params = params_of(Pointwise(12))
  dense = {"kernel": params["kernel"][None, None], "bias": params["bias"]}
  np.testing.assert_allclose(apply(Dense(12), dense, x), apply(Pointwise(12), params, x), rtol=1e-6, atol=1e-6)
