"""Network in Network against the authors' files: sizes and numbers of parameters, and what its fields change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import models, ops
from nin_jax.models.nin import block_config


def authors(name):
  """`config.model` and the images' shape, as the authors' definition for each data set has them."""
  model = models.defaults("nin")
  if name == "cifar10":
    return model, (32, 32, 3)
  if name == "cifar100":
    model.num_classes = 100
    return model, (32, 32, 3)
  if name == "svhn":
    model.block1 = block_config((128, 96, 64), pool="max", dropout=0.5)
    model.block2 = block_config((320, 256, 128), pool="max", dropout=0.5)
    model.block3 = block_config((384, 256))
    return model, (32, 32, 3)
  if name == "mnist":
    model.block1 = block_config((96, 64, 48), pool="max", dropout=0.5)
    model.block2 = block_config((128, 96, 48), pool="max", dropout=0.5)
    model.block3 = block_config((128, 96))
    return model, (28, 28, 1)
  model.num_classes = 1000
  model.block1 = block_config((96, 96, 96), kernel=11, strides=4, padding=0, pool="max")
  model.block2 = block_config((256, 256, 256), pool="max")
  model.block3 = block_config((384, 384, 384), kernel=3, padding=1, pool="max", dropout=0.5)
  model.block4 = block_config((1024, 1024), kernel=3, padding=1)
  return model, (224, 224, 3)


def small(**fields):
  """Narrow blocks for 8×8×3 images and 4 classes."""
  model = models.defaults("nin")
  model.num_classes = 4
  model.block1 = block_config((6, 5), kernel=3, padding=1, pool="max", dropout=0.5)
  model.block2 = block_config((6,), kernel=3, padding=1, pool="max")
  model.block3 = block_config((6,), kernel=3, padding=1)
  for field, value in fields.items():
    model[field] = value
  return model


SHAPE = (8, 8, 3)
X = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)


def random_variables(network, shape=SHAPE):
  """Random parameters, and running statistics as they begin."""
  variables, rng = models.variable_shapes(network, shape), np.random.default_rng(1)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.3).astype(np.float32)
  begin = lambda path, leaf: np.full(leaf.shape, path[-1].key == "var", np.float32)
  statistics = jax.tree_util.tree_map_with_path(begin, variables.get("batch_stats", {}))
  return {"params": jax.tree.map(draw, variables["params"]), "batch_stats": statistics}


def run(network, variables, x=X):
  """Logits, and each layer's output by name."""
  (logits, auxiliary), state = jax.jit(
    lambda variables, x: network.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
  )(variables, x)
  assert auxiliary == ()
  return np.asarray(logits), {
    name: layer["__call__"][0] for name, layer in state["intermediates"].items() if name != "__call__"
  }


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ("name", "params"),
  [("cifar10", 966_986), ("cifar100", 984_356), ("svhn", 1_986_026), ("mnist", 349_674), ("imagenet", 7_595_176)],
)
def test_number_of_parameters(name, params):
  model, shape = authors(name)
  assert count(models.variable_shapes(models.build(model, shape), shape)) == params


def test_weights_and_biases_of_cifar10():
  model, shape = authors("cifar10")
  params = models.variable_shapes(models.build(model, shape), shape)["params"]
  layers = {(block, layer): leaves for block, block_layers in params.items() for layer, leaves in block_layers.items()}
  assert sum(leaves["kernel"].size for leaves in layers.values()) == 965_568
  assert sum(leaves["bias"].size for leaves in layers.values()) == 1_418
  assert {name: leaves["kernel"].shape for name, leaves in layers.items()} == {
    ("block1", "conv"): (5, 5, 3, 192),
    ("block1", "cccp1"): (192, 160),
    ("block1", "cccp2"): (160, 96),
    ("block2", "conv"): (5, 5, 96, 192),
    ("block2", "cccp1"): (192, 192),
    ("block2", "cccp2"): (192, 192),
    ("block3", "conv"): (3, 3, 192, 192),
    ("block3", "cccp1"): (192, 192),
    ("block3", "cccp2"): (192, 10),
  }


@pytest.mark.parametrize(
  ("name", "sizes"),
  [
    ("cifar10", {"block1": (32, 96), "pool1": (16, 96), "block2": (16, 192), "pool2": (8, 192), "block3": (8, 10)}),
    ("mnist", {"block1": (28, 48), "pool1": (14, 48), "block2": (14, 48), "pool2": (7, 48), "block3": (7, 10)}),
    (
      "imagenet",
      {
        "block1": (54, 96),
        "pool1": (27, 96),
        "block2": (27, 256),
        "pool2": (13, 256),
        "block3": (13, 384),
        "pool3": (6, 384),
        "block4": (6, 1000),
      },
    ),
  ],
)
def test_map_sizes(name, sizes):
  model, shape = authors(name)
  network = models.build(model, shape)
  variables = models.variable_shapes(network, shape)
  x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  apply = lambda variables, x: network.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
  (logits, _), state = jax.eval_shape(apply, variables, x)
  assert logits.shape == (2, model.num_classes)
  for layer, (size, channels) in sizes.items():
    assert state["intermediates"][layer]["__call__"][0].shape == (2, size, size, channels), layer


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_last_relu_is_a_flag(norm):
  """With it logits are averages of what is not negative, as the authors have it."""
  model = small(norm=norm)
  assert model.last_relu
  network = models.build(model, SHAPE)
  variables = random_variables(network)
  logits, _ = run(network, variables)
  assert np.min(logits) >= 0
  assert np.max(logits) > 0
  linear, layers = run(models.build(small(norm=norm, last_relu=False), SHAPE), variables)
  assert np.min(linear) < 0
  assert min(np.min(layers["block1"]), np.min(layers["block2"])) == 0  # theirs stay


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_pool_2_is_max_or_average_and_logits_are_the_last_maps_means(pool):
  model = small()
  model.block2.pool = pool
  network = models.build(model, SHAPE)
  logits, layers = run(network, random_variables(network))
  before, after = (layers[name] for name in ("block2", "pool2"))
  function = {"max": ops.max_pool, "avg": ops.avg_pool}[pool]
  np.testing.assert_allclose(after, function(before, 3, 2, ceil_mode=True), rtol=1e-6)
  np.testing.assert_allclose(logits, np.mean(layers["block3"], (1, 2)), rtol=1e-5)


def test_a_strided_1x1_can_stand_for_a_pool():
  model = small()
  model.block2.pool = "pointwise"
  params = models.variable_shapes(models.build(model, SHAPE), SHAPE)["params"]
  assert params["pool2"]["pointwise"]["kernel"].shape == (6, 6)


def test_the_batch_norm_variant_has_statistics_and_no_biases():
  network = models.build(small(norm="batch"), SHAPE)
  variables = models.variable_shapes(network, SHAPE)
  for block in ("block1", "block2", "block3"):
    for name, layer in variables["params"][block].items():
      assert set(layer) == {"kernel", "norm"}
      assert set(layer["norm"]) == {"scale", "bias"}
      assert set(variables["batch_stats"][block][name]["norm"]) == {"mean", "var"}


def test_momentum_and_epsilon_are_those_of_the_config():
  logits, means = [], []
  for fields in ({}, {"batch_norm_momentum": 0.5, "batch_norm_epsilon": 0.5}):
    model = small(norm="batch", **fields)
    del model["block2"], model["block3"]
    network = models.build(model, SHAPE)
    step = lambda variables, network=network: network.apply(
      variables, X, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
    )
    (y, _), state = jax.jit(step)(random_variables(network))
    logits.append(np.asarray(y))
    means.append(np.asarray(state["batch_stats"]["block1"]["conv"]["norm"]["mean"]))
  np.testing.assert_allclose(means[1], 5 * means[0], rtol=1e-4)
  assert np.abs(logits[1] - logits[0]).max() > 1e-3


def test_initialisation_is_gaussian_with_each_layers_deviation():
  model, shape = authors("cifar100")
  model.block1.init_std = (0.001, 0.01, 0.02)
  network = models.build(model, shape)
  key = jax.random.key(0, impl="unsafe_rbg")  # quicker to compile
  params = jax.jit(network.init)(key, np.zeros((1, *shape), np.float32))["params"]
  std = lambda block, layer: float(np.std(params[block][layer]["kernel"]))
  want = {("block1", "conv"): 0.001, ("block1", "cccp1"): 0.01, ("block1", "cccp2"): 0.02, ("block3", "cccp2"): 0.05}
  assert {name: std(*name) for name in want} == pytest.approx(want, rel=0.03)
  assert not any(np.any(layer["bias"]) for block in params.values() for layer in block.values())


def test_dropout_follows_the_examples_however_the_batch_is_split():
  model = small()
  del model["block3"]
  network = models.build(model, SHAPE)
  variables = random_variables(network)

  @jax.jit
  def logits(x, ids=None):
    return network.apply(variables, x, train=True, example_ids=ids, rngs={"dropout": jax.random.key(3)})[0]

  whole = logits(X, jnp.arange(4))
  halves = np.concatenate([logits(X[:2], jnp.arange(2)), logits(X[2:], jnp.arange(2) + 2)])
  np.testing.assert_allclose(halves, whole, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(logits(X), whole, rtol=1e-5, atol=1e-6)  # 0, 1, 2, … unless they are given
  evaluated, _ = run(network, variables)
  assert np.abs(whole - evaluated).max() > 1e-3


def test_bfloat16_computes_near_float32_with_the_same_float32_parameters():
  network, half = (models.build(small(last_relu=False), SHAPE, precision) for precision in ("float32", "bfloat16"))
  assert models.variable_shapes(half, SHAPE) == models.variable_shapes(network, SHAPE)
  variables = random_variables(network)
  (logits, _), (half_logits, layers) = run(network, variables), run(half, variables)
  assert half_logits.dtype == np.float32
  assert layers["block1"].dtype == layers["block3"].dtype == jnp.bfloat16
  np.testing.assert_allclose(half_logits, logits, atol=0.03 * np.abs(logits).max())
  assert np.any(half_logits != logits)
