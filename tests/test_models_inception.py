"""The small Inception net: its parts in their order, and what its fields change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import models
from nin_jax.models.inception import width_config

SHAPE = (8, 8, 1)
X = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def small(**fields):
  model = models.defaults("inception")
  model.norm = "none"
  for field, value in fields.items():
    model[field] = value
  return model


def narrow(**fields):
  """One module of few channels in each of two stages."""
  model = small(stem_features=(4,), **fields)
  del model["inception_1b"], model["inception_2b"]
  model.inception_1a = model.inception_2a = width_config(3, 2, 4, 2, 3, 2)
  return model


def shapes(model, shape=SHAPE):
  """The parameters and each layer's output."""
  network = models.build(model, shape)
  variables = models.variable_shapes(network, shape)
  apply = lambda variables, x: network.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
  (logits, auxiliary), state = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
  assert auxiliary == ()
  assert logits.shape == (2, model.num_classes)
  layers = {name: leaf["__call__"][0].shape[1:] for name, leaf in state["intermediates"].items() if name != "__call__"}
  return variables["params"], layers


def random_params(network, shape=SHAPE):
  rng = np.random.default_rng(1)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=(2 / np.prod(leaf.shape[:-1])) ** 0.5).astype(np.float32)
  return jax.tree.map(draw, models.variable_shapes(network, shape)["params"])


@pytest.mark.parametrize(("size", "half"), [(8, 4), (28, 14), (32, 16), (9, 4)])
def test_layers_and_their_maps(size, half):
  _, layers = shapes(small(), (size, size, 3))
  assert layers == {
    "stem": (size, size, 32),
    "inception_1a": (size, size, 80),
    "inception_1b": (size, size, 120),
    "pool1": (half, half, 120),
    "inception_2a": (half, half, 160),
    "inception_2b": (half, half, 160),
    "gap": (1, 1, 160),
    "dropout": (1, 1, 160),
    "classifier": (1, 1, 10),
  }


def test_widths_and_modules_are_those_of_the_config():
  model = small(stem_features=(6, 4), stem_kernel=5)
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.inception_10a = width_config(1, 0, 2, 3, 4, 5)
  model.inception_2a = width_config(6, 7, 8, 9, 10, 0)
  params, layers = shapes(model)
  assert params["stem"]["mlpconv"]["conv"]["kernel"].shape == (5, 5, 1, 6)
  assert params["stem"]["mlpconv"]["cccp1"]["kernel"].shape == (6, 4)
  assert [(name, layers[name]) for name in ("inception_1a", "pool1", "inception_2a", "pool2", "inception_10a")] == [
    ("inception_1a", (8, 8, 80)),
    ("pool1", (4, 4, 80)),
    ("inception_2a", (4, 4, 6 + 8 + 10 + 80)),  # the pool without its projection
    ("pool2", (2, 2, 104)),
    ("inception_10a", (2, 2, 1 + 2 + 4 + 5)),  # stages in the order of their numbers
  ]
  assert {name: leaf["kernel"].shape for name, leaf in params["inception_10a"].items()} == {
    "conv1x1": (104, 1),
    "conv3x3": (3, 3, 104, 2),
    "reduce5x5": (104, 3),
    "conv5x5": (5, 5, 3, 4),
    "pool_proj": (104, 5),
  }


def test_reductions_projections_and_large_kernels():
  params, _ = shapes(small(reductions=False, pool_projection=False, large_kernel=3))
  for name in ("inception_1a", "inception_1b", "inception_2a", "inception_2b"):
    assert set(params[name]) == {"conv1x1", "conv3x3", "conv5x5"}
    assert params[name]["conv5x5"]["kernel"].shape[:2] == (3, 3)


@pytest.mark.parametrize(
  ("scale", "widths"), [(0.5, (8, 4)), (0.25, (4, 2)), (0.01, (1, 1)), (2, (32, 16)), (1.1, (18, 9))]
)
def test_reduce_scale(scale, widths):
  model = small()
  model.reduce_scale = float(scale)
  params, layers = shapes(model)
  module = params["inception_1a"]
  assert tuple(module[name]["kernel"].shape[-1] for name in ("reduce3x3", "reduce5x5")) == widths
  assert layers["inception_1a"] == (8, 8, 80)


def test_a_strided_1x1_can_stand_for_the_pools():
  params, layers = shapes(small(downsample="pointwise"))
  assert params["pool1"]["pointwise"]["kernel"].shape == (120, 120)
  assert layers["pool1"] == (4, 4, 120)


def test_linear_layers_reach_every_module():
  maps = {}
  for linear in ((), ("pool_proj",)):
    network = models.build(narrow(linear=linear), SHAPE)
    trunk = network.clone(head=False)
    maps[linear], auxiliary = jax.jit(trunk.apply)({"params": random_params(network)}, X)
    assert auxiliary == ()
  assert np.min(maps[()]) >= 0
  last = np.asarray(maps[("pool_proj",)])
  assert np.min(last[..., -2:]) < 0  # the projection's channels come last
  assert np.min(last[..., :-2]) >= 0


def test_batch_norm_is_the_default_and_has_no_biases_beside_it():
  network = models.build(models.defaults("inception"), SHAPE)
  variables = models.variable_shapes(network, SHAPE)
  leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
  biased = {path[-2].key for path, _ in leaves if path[-1].key == "bias"}
  assert biased == {"norm", "classifier"}
  statistics = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(variables["batch_stats"])}
  assert statistics == {path[:-1] for path, _ in leaves if path[-2].key == "norm"}


def test_dropout_before_the_classifier_in_training_only():
  network = models.build(narrow(dropout=0.5), SHAPE)
  variables = {"params": random_params(network)}
  apply = jax.jit(network.apply, static_argnames="train")
  evaluated = [apply(variables, X, rngs={"dropout": jax.random.key(seed)})[0] for seed in range(2)]
  np.testing.assert_array_equal(*evaluated)
  trained = [
    np.asarray(apply(variables, X, train=True, rngs={"dropout": jax.random.key(seed)})[0]) for seed in range(2)
  ]
  assert np.abs(trained[0] - trained[1]).max() > 1e-3


def test_bfloat16_computes_near_float32_with_the_same_float32_parameters():
  network, half = (models.build(narrow(), SHAPE, precision) for precision in ("float32", "bfloat16"))
  assert models.variable_shapes(half, SHAPE) == models.variable_shapes(network, SHAPE)
  variables = {"params": random_params(network)}
  logits, half_logits = (jax.jit(net.apply)(variables, X)[0] for net in (network, half))
  assert half_logits.dtype == jnp.float32
  np.testing.assert_allclose(half_logits, logits, atol=0.05 * np.abs(logits).max())
  assert np.any(half_logits != logits)
  maps, _ = jax.eval_shape(half.clone(head=False).apply, variables, X)
  assert maps.dtype == jnp.bfloat16
