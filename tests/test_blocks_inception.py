"""The Inception module: which branch gives which channels, and what taking a layer out does."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from nin_jax import ops
from nin_jax.blocks import POINTWISE_LAYERS, Inception, InceptionWidths
from nin_jax.layers import Conv, Pointwise, batch_norm, pointwise_branches
from nin_jax.ops.lowering import lowered_as

WIDTHS = InceptionWidths(conv1x1=5, reduce3x3=3, conv3x3=6, reduce5x5=2, conv5x5=4, pool_proj=7)
BRANCHES = (5, 6, 4, 7)  # in this order: 1×1, 3×3, 5×5, pool
X = np.random.default_rng(0).normal(size=(2, 7, 6, 8)).astype(np.float32)


def shapes(module, x=X):
  y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  return y.shape, jax.tree.map(lambda leaf: leaf.shape, variables["params"])


def random_params(module, seed=1):
  rng = np.random.default_rng(seed)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.5).astype(np.float32)
  return jax.tree.map(draw, jax.eval_shape(module.init, jax.random.key(0), X)["params"])


def branches_of(params, linear=(), x=X):
  """Figure 2b of the paper, written out."""
  relu = lambda name, y: y if name in linear else jnp.maximum(y, 0)
  pointwise = lambda name, x: relu(name, ops.pointwise(x, params[name]["kernel"], params[name]["bias"]))
  conv = lambda name, x: jnp.maximum(ops.conv(x, params[name]["kernel"], params[name]["bias"], padding="SAME"), 0)
  return [
    pointwise("conv1x1", x),
    conv("conv3x3", pointwise("reduce3x3", x)),
    conv("conv5x5", pointwise("reduce5x5", x)),
    pointwise("pool_proj", ops.max_pool(x, 3, 1, padding=1)),
  ]


@pytest.mark.parametrize("linear", [(), *((name,) for name in POINTWISE_LAYERS), POINTWISE_LAYERS])
def test_branches_and_their_order_and_linear_takes_just_those_relus_out(linear):
  module = Inception(WIDTHS, linear=linear)
  params = random_params(module)
  y = np.asarray(jax.jit(module.apply)({"params": params}, X))
  want = jax.jit(partial(branches_of, linear=linear))(params)
  assert tuple(branch.shape[-1] for branch in want) == BRANCHES
  np.testing.assert_allclose(y, np.concatenate(want, -1), rtol=1e-4, atol=1e-4)
  negative = [bool(branch.min() < 0) for branch in np.split(y, np.cumsum(BRANCHES)[:-1], -1)]
  assert negative == ["conv1x1" in linear, False, False, "pool_proj" in linear]


def test_parameters_of_the_module():
  _, params = shapes(Inception(WIDTHS))
  assert {name: layer["kernel"] for name, layer in params.items()} == {
    "conv1x1": (8, 5),
    "reduce3x3": (8, 3),
    "conv3x3": (3, 3, 3, 6),
    "reduce5x5": (8, 2),
    "conv5x5": (5, 5, 2, 4),
    "pool_proj": (8, 7),
  }


def test_torchvisions_large_kernel():
  _, params = shapes(Inception(WIDTHS, large_kernel=3))
  assert params["conv5x5"]["kernel"] == (3, 3, 2, 4)


@pytest.mark.parametrize(
  ("removed", "layers", "channels"),
  [
    (("conv1x1",), {"conv1x1"}, 17),
    (("reduce3x3",), {"reduce3x3"}, 22),
    (("conv3x3",), {"reduce3x3", "conv3x3"}, 16),
    (("reduce5x5",), {"reduce5x5"}, 22),
    (("conv5x5",), {"reduce5x5", "conv5x5"}, 18),
    (("pool_proj",), {"pool_proj"}, 15 + 8),  # the pool passes the input's channels on
    (("conv1x1", "conv3x3", "conv5x5"), {"conv1x1", "reduce3x3", "conv3x3", "reduce5x5", "conv5x5"}, 7),
    (("reduce3x3", "reduce5x5", "pool_proj"), {"reduce3x3", "reduce5x5", "pool_proj"}, 23),  # the naive module
  ],
)
def test_a_width_of_0_takes_a_layer_out(removed, layers, channels):
  shape, params = shapes(Inception(WIDTHS.without(*removed)))
  assert shape == (2, 7, 6, channels)
  assert set(params) == {field.name for field in dataclasses.fields(WIDTHS)} - layers
  for size, name in ((3, "3x3"), (5, "5x5")):
    if f"conv{name}" in params:
      width = getattr(WIDTHS, f"reduce{name}") if f"reduce{name}" in params else 8
      assert params[f"conv{name}"]["kernel"] == (size, size, width, getattr(WIDTHS, f"conv{name}"))


def test_the_naive_module_is_figure_2a():
  module = Inception(WIDTHS.without("reduce3x3", "reduce5x5", "pool_proj"))
  params = random_params(module)
  conv = lambda name: jnp.maximum(ops.conv(X, params[name]["kernel"], params[name]["bias"]), 0)
  one = jnp.maximum(ops.pointwise(X, params["conv1x1"]["kernel"], params["conv1x1"]["bias"]), 0)
  want = np.concatenate([one, conv("conv3x3"), conv("conv5x5"), ops.max_pool(X, 3, 1, "SAME")], -1)
  np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, X), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("factor", "widths", "scaled"),
  [
    (1.0, (96, 16), (96, 16)),
    (0.5, (96, 16), (48, 8)),
    (0.3, (96, 16), (29, 5)),  # 28.8, 4.8
    (0.1, (96, 16), (10, 2)),  # 9.6, 1.6
    (0.5, (5, 7), (3, 4)),  # halves go up: 2.5, 3.5
    (0.01, (96, 16), (1, 1)),  # 0.96; 0.16 is raised to 1
    (2.0, (96, 16), (192, 32)),
    (0.5, (0, 16), (0, 8)),  # removed stays removed
  ],
)
def test_scaled_reductions_are_rounded_to_the_nearest_and_at_least_1(factor, widths, scaled):
  before = InceptionWidths(64, widths[0], 128, widths[1], 32, 32)
  after = before.scale_reductions(factor)
  assert (after.reduce3x3, after.reduce5x5) == scaled
  assert dataclasses.replace(after, reduce3x3=widths[0], reduce5x5=widths[1]) == before


def test_injected_layers_are_used_for_every_branch():
  norm = batch_norm(train=True, dtype=jnp.bfloat16)
  layer = lambda kind: partial(kind, norm=norm, dtype=jnp.bfloat16)
  module = Inception(WIDTHS, conv=layer(Conv), pointwise=layer(Pointwise))
  y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.asarray(X, jnp.bfloat16))
  assert y.dtype == jnp.bfloat16
  for params in variables["params"].values():
    assert set(params) == {"kernel", "norm"}


class Other(nn.Module):
  """A layer that a user brings."""

  features: int
  activation: Callable | None = nn.relu
  norm: None = None

  @nn.compact
  def __call__(self, x):
    y = nn.Dense(self.features)(x)
    return y if self.activation is None else self.activation(y)


class Doubled(Pointwise):
  @nn.compact
  def __call__(self, x):
    return 2 * super().__call__(x)


@pytest.mark.parametrize(
  ("pointwise", "linear"),
  [
    (Pointwise, ()),
    (partial(Pointwise, activation=jnp.tanh), ("conv1x1",)),
    (partial(Pointwise, norm=batch_norm(train=True, dtype=jnp.float32)), ()),
    (partial(Pointwise, groups=2), ()),  # from here on each makes its product by itself
    (Other, ()),
    (Doubled, ()),
  ],
)
def test_in_training_layers_that_read_the_input_change_nothing_by_their_joint_gradient(pointwise, linear):
  widths = dataclasses.replace(WIDTHS, conv1x1=6, reduce3x3=4, pool_proj=8)
  module = Inception(widths, linear=linear, pointwise=pointwise, train=True)
  variables = {"params": random_params(module)}
  options = {"mutable": ["batch_stats", "intermediates"], "capture_intermediates": True}

  @partial(jax.jit, static_argnums=0)
  def run(lowering, params, x):
    def apply(params, x):
      with lowered_as(lowering):
        return module.apply({"params": params}, x, **options)

    y, vjp, state = jax.vjp(apply, params, x, has_aux=True)
    return y, state, vjp(jnp.sin(y))

  joint, each = (run(lowering, variables["params"], X) for lowering in ("auto", "xla"))
  assert jax.tree.structure(joint) == jax.tree.structure(each)
  for got, want in zip(jax.tree.leaves(joint), jax.tree.leaves(each), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * max(1, np.abs(want).max()))


def test_in_training_layers_that_read_the_input_have_one_gradient_of_each_kind():
  def products(train):
    module = Inception(WIDTHS, train=train)
    loss = lambda params, x: module.apply({"params": params}, x).sum()
    return str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(random_params(module), X)).count("dot_general")

  assert products(train=False) - products(train=True) == 3 + 3 - 1 - 1


@pytest.mark.parametrize("train", [False, True])
def test_a_batch_may_be_empty(train):
  module = Inception(WIDTHS, train=train)
  empty = X[:0]
  assert module.apply({"params": random_params(module)}, empty).shape == (0, 7, 6, sum(BRANCHES))


def test_layers_of_which_some_are_frozen():
  """Their norms have statistics of different kinds, and gradients all the same."""
  norm = lambda train: batch_norm(train=train, dtype=jnp.float32)
  layers = {"a": Pointwise(3, norm=norm(True), name="a"), "b": Pointwise(4, norm=norm(False), name="b")}

  class Both(nn.Module):
    joint: bool

    @nn.compact
    def __call__(self, x):
      here = {name: layer.clone(parent=self) for name, layer in layers.items()}
      here = pointwise_branches(here, x) if self.joint else here
      return jnp.concatenate([layer(x) for layer in here.values()], axis=-1)

  variables = jax.jit(Both(joint=False).init)(jax.random.key(0), X)

  def gradient(joint):
    loss = lambda params: jnp.sin(
      Both(joint).apply({**variables, "params": params}, X, mutable=["batch_stats"])[0]
    ).sum()
    return jax.jit(jax.grad(loss))(variables["params"])

  for got, want in zip(jax.tree.leaves(gradient(True)), jax.tree.leaves(gradient(False)), strict=True):
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
