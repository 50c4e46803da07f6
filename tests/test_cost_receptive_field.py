"""Receptive fields: against the extent of the gradient, and the papers' networks."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from nin_jax import cost, models
from nin_jax.cost import program, receptive_field
from nin_jax.train import budget
from nin_jax.train.validation import validate

SIZE = 48


def conv(x, kernel, stride, padding, dilation):
  w = jnp.ones((kernel, x.shape[-1], x.shape[-1]))
  return lax.conv_general_dilated(
    x, w, (stride,), [padding], rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
  )


def pool(x, kernel, stride, padding, dilation):
  return lax.reduce_window(
    x, 0.0, lax.add, (1, kernel, 1), (1, stride, 1), ((0, 0), padding, (0, 0)), window_dilation=(1, dilation, 1)
  )


def sliced(x, kernel, stride, padding, dilation):
  """A pool as a sum of strided slices."""
  x = jnp.pad(x, ((0, 0), padding, (0, 0)))
  outputs = (x.shape[1] - (kernel - 1) * dilation - 1) // stride + 1
  tap = lambda i: lax.slice(x, (0, i * dilation, 0), (1, i * dilation + (outputs - 1) * stride + 1, 2), (1, stride, 1))
  return sum(tap(i) for i in range(kernel))


def pointwise(x, kernel, stride, padding, dilation):
  """A strided 1×1 convolution on flattened positions."""
  x = x[:, ::stride]
  return (x.reshape(-1, 2) @ jnp.ones((2, 2))).reshape(x.shape)


def branches(x, kernel, stride, padding, dilation):
  """Two branches of different reach, side by side, as in inception."""
  wide = conv(x, kernel, 1, ((kernel - 1) // 2 * dilation, kernel // 2 * dilation), dilation)
  return jnp.concatenate([x, wide], -1)[..., 1:3]


layers = st.tuples(
  st.sampled_from([conv, pool, sliced, pointwise, branches]),
  st.integers(1, 3),
  st.integers(1, 2),
  st.tuples(st.integers(0, 2), st.integers(0, 2)),
  st.integers(1, 2),
)


def record(fn, x):
  traced = program.trace(fn, x)
  return receptive_field.propagate(traced, traced.inputs[0])[traced.outputs[0]]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(layers, min_size=1, max_size=4))
def test_the_field_is_the_extent_of_the_gradient(stack):
  def fn(x):
    for layer, *geometry in stack:
      x = layer(x, *geometry)
    return x

  x = jnp.ones((1, SIZE, 2))
  (reach,) = record(fn, x).reach
  outputs = jax.eval_shape(fn, x).shape[1]
  gradient = jax.jit(jax.vmap(jax.grad(lambda x, i: fn(x)[0, i].sum()), (None, 0)))(x, jnp.arange(outputs))
  inside = 0
  for i in range(outputs):
    read = np.flatnonzero(np.abs(np.asarray(gradient[i, 0])).sum(-1))
    first, last = reach.jump * i + reach.lo, reach.jump * i + reach.hi
    if first >= 0 and last < SIZE:
      assert (read.min(), read.max()) == (first, last)
      inside += 1
    elif read.size:
      assert first <= read.min()
      assert read.max() <= last
  assert inside or reach.extent > SIZE // 2


IMAGE = jax.ShapeDtypeStruct((2, 16, 12, 3), jnp.float32)


def field(fn, image=IMAGE):
  def scoped(x):
    with jax.named_scope("layer"):
      return fn(x) * 2.0

  layer = cost.analyze(scoped, image)["layer"]
  return layer.receptive_field, layer.jump


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda x: x, (1, 1)),
    (lambda x: x[:, 1::2, ::3], (1, [2, 3])),
    (lambda x: x.at[:, 2 * jnp.arange(5) + 1].get(mode="promise_in_bounds"), (1, [2, 1])),
    (lambda x: x.at[:, 15 + -2 * jnp.arange(5)].get(mode="promise_in_bounds"), (None, None)),
    (lambda x: x.at[:, jnp.arange(5), jnp.arange(5)].get(mode="promise_in_bounds"), (None, None)),
    (lambda x: nn.max_pool(x, (3, 2), (2, 2)), ([3, 2], 2)),
    (lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0))), (1, 1)),
    (lambda x: x.mean((1, 2)), ([16, 12], 1)),
    (lambda x: x.mean((1, 2), keepdims=True), ([16, 12], 1)),
    (lambda x: x.transpose(0, 2, 1, 3).max(1), ([1, 12], 1)),
    (lambda x: x.reshape(2, -1) @ jnp.ones((16 * 12 * 3, 5)), ([16, 12], 1)),
    (lambda x: jnp.einsum("nhwc,hwcd->nd", x, jnp.ones((16, 12, 3, 2))), ([16, 12], 1)),
    (lambda x: x - x.mean((0, 1, 2)), (1, 1)),  # a batch statistic
    (lambda x: x - x[:, :, :2].mean(-1, keepdims=True)[:, :, :1], (None, None)),
    (lambda x: (x - x.mean(-1, keepdims=True))[:, ::2], (1, [2, 1])),
    (lambda x: jnp.concatenate([jnp.zeros((2, 1, 12, 3)), x, jnp.zeros((2, 2, 12, 3))], 1), (1, 1)),
    # not understood, or not affine
    (lambda x: x * x.mean((1, 2), keepdims=True), (None, None)),
    (lambda x: x[:, ::-1], (None, None)),
    (lambda x: jnp.concatenate([x, x], 1), (None, None)),
    (lambda x: x[:, ::2] + x[:, :8], (None, None)),
    (lambda x: jnp.cumsum(x, 1), (None, None)),
    (lambda x: x.reshape(2, 8, 2, 12, 3).max(2), (None, None)),
    (lambda x: jnp.sort(x, 1), (None, None)),
    (lambda x: jnp.einsum("nhwc,nhvc->nhwv", x, x), (None, None)),
    (lambda x: lax.fori_loop(0, 3, lambda i, x: x + 1, x), (None, None)),
  ],
)
def test_what_is_understood_is_exact_and_the_rest_is_unknown(fn, expected):
  assert field(fn) == expected


def test_flattened_positions_are_restored_even_on_a_map_of_one_position():
  w = jnp.ones((3, 3))
  flat = lambda x: (x.reshape(-1, 3) @ w).reshape(x.shape)
  grow = lambda x: lax.conv_general_dilated(
    x, jnp.ones((3, 3, 3, 3)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  for batch in (1, 2):
    for size in (1, 5):
      assert field(lambda x: grow(flat(x)), jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)) == (3, 1)


def test_the_image_is_the_last_array_of_rank_three_unless_said():
  def fn(params, a, b):
    with jax.named_scope("a"):
      a = a[:, ::2] * 1.0
    with jax.named_scope("b"):
      b = b[:, ::3] * params["w"][0, 0, 0]
    return a, b

  args = ({"w": jnp.ones((1, 1, 1))}, jnp.ones((1, 9, 1)), jnp.ones((1, 9, 1)))
  assert (cost.analyze(fn, *args)["a"].jump, cost.analyze(fn, *args)["b"].jump) == (None, 3)
  assert (cost.analyze(fn, *args, image=1)["a"].jump, cost.analyze(fn, *args, image=1)["b"].jump) == (2, None)
  with pytest.raises(ValueError, match="image=1: expected an argument that holds an array of three"):
    cost.analyze(lambda x, n: x * n, jnp.ones((1, 9, 1)), 3.0, image=1)


def test_fields_are_the_same_with_a_backward_pass():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.relu(nn.Conv(4, (5, 5), strides=(2, 2), name="conv1")(x))
      x = nn.BatchNorm(use_running_average=False, name="norm")(x)
      x = nn.max_pool(x, (3, 3), (2, 2))
      return nn.Conv(4, (3, 3), name="conv2")(x)

  variables = jax.eval_shape(Net().init, jax.random.key(0), IMAGE)
  loss = lambda variables, x: (Net().apply(variables, x, mutable=["batch_stats"])[0] ** 2).sum()
  counted = cost.analyze(jax.grad(loss), variables, IMAGE, params=variables["params"])
  # 1 → 5, jump 2 → pool +2·2, jump 4 → +2·4
  assert [(counted[p].receptive_field, counted[p].jump) for p in ("conv1", "norm", "conv2")] == [
    (5, 2),
    (5, 2),
    (17, 4),
  ]


@pytest.mark.parametrize("name", ["inception_digits", "inception_cifar10", "nin_fashion_mnist"])
def test_layers_of_a_config_are_the_same_in_training(name):
  """Statistics over the batch are constants, also the ones over a share of its positions."""
  config = importlib.import_module(f"configs.{name}").get_config()
  shape = validate(config, 1, training=False, computes=False).spec.image_shape
  network = models.build(config.model, shape, config.precision)
  trained = {row.path: row for row in budget.training_cost(network, config.train, shape).layers}
  fields = lambda row: (row.path, row.op, row.kernel, row.strides, row.receptive_field, row.jump)
  layers = [row for row in budget.inference_cost(network, shape, shape).layers if row.path != "other"]
  assert [fields(trained[row.path]) for row in layers] == [fields(row) for row in layers]
  assert layers[-1].receptive_field is not None
