"""GoogLeNet against Table 1 of the paper, and torchvision's variant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import models, ops
from nin_jax.models.googlenet import torchvision_defaults

SHAPE = (224, 224, 3)
OUTPUTS = {  # Table 1, "output size"
  "conv1": (112, 64),
  "pool1": (56, 64),
  "reduce2": (56, 64),
  "conv2": (56, 192),
  "pool2": (28, 192),
  "inception_3a": (28, 256),
  "inception_3b": (28, 480),
  "pool3": (14, 480),
  "inception_4a": (14, 512),
  "inception_4b": (14, 512),
  "inception_4c": (14, 512),
  "inception_4d": (14, 528),
  "inception_4e": (14, 832),
  "pool4": (7, 832),
  "inception_5a": (7, 832),
  "inception_5b": (7, 1024),
  "gap": (1, 1024),
}
WEIGHTS = {  # what the layers of each row have, biases left out
  "inception_3a": 163_328,
  "inception_3b": 388_096,
  "inception_4a": 375_552,
  "inception_4b": 448_512,
  "inception_4c": 509_440,
  "inception_4d": 604_672,
  "inception_4e": 867_328,
  "inception_5a": 1_042_432,
  "inception_5b": 1_442_816,
}


def paper(**fields):
  model = models.defaults("googlenet")
  for field, value in fields.items():
    model[field] = value
  return model


def params_of(model, train=False):
  return models.variable_shapes(models.build(model, SHAPE), SHAPE, train=train)["params"]


@pytest.fixture(scope="module")
def papers_params():
  return params_of(paper())


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def kernels(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return sum(leaf.size for path, leaf in leaves if path[-1].key == "kernel")


def outputs(model, size=224, train=False, **options):
  """Logits, auxiliary logits and each layer's output, as shapes."""
  network = models.build(model, SHAPE, **options)
  variables = models.variable_shapes(network, SHAPE)
  apply = lambda variables, x: network.apply(
    variables,
    x,
    train=train,
    capture_intermediates=True,
    mutable=["intermediates", "batch_stats"],
    rngs={"dropout": jax.random.key(0)},
  )
  (logits, auxiliary), state = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
  layers = dict(state["intermediates"])
  layers.update(layers.pop("stem"))
  return logits, auxiliary, {name: layer["__call__"][0].shape for name, layer in layers.items() if name in OUTPUTS}


@pytest.mark.parametrize(
  ("model", "train", "params"),
  [
    (paper(), False, 6_998_552),
    (paper(), True, 13_378_280),  # with both auxiliary heads
    (paper(auxiliary=False), True, 6_998_552),
    (torchvision_defaults(), False, 6_624_904),
    (torchvision_defaults(), True, 13_004_888),
  ],
  ids=["paper", "paper, training", "no heads", "torchvision", "torchvision, training"],
)
def test_number_of_parameters(model, train, params):
  assert count(params_of(model, train)) == params


def test_number_of_parameters_with_5x5_and_batch_norm(papers_params):
  model = torchvision_defaults()
  model.large_kernel = 5
  params = params_of(model)
  assert count(params) == 7_005_832
  assert kernels(params) == kernels(papers_params)


def test_weights_cell_by_cell(papers_params):
  params = params_of(paper(), train=True)
  assert {name: kernels(params[name]) for name in WEIGHTS} == WEIGHTS
  stem = params["stem"]
  assert kernels(stem["conv1"]) == 9_408
  assert kernels(stem["reduce2"]) + kernels(stem["conv2"]) == 114_688
  assert kernels(params["classifier"]) == 1_024_000
  assert count(params["auxiliary_4a"]) == 3_188_840
  assert count(params["auxiliary_4d"]) == 3_190_888
  assert kernels(papers_params) == 6_990_272
  assert count(papers_params) - kernels(papers_params) == 8_280


def test_the_separable_stem_has_the_weights_that_table_1_gives(papers_params):
  params = params_of(paper(stem="separable"))
  assert kernels(params["stem"].pop("conv1")) == 2_712
  assert params == papers_params | {"stem": {name: papers_params["stem"][name] for name in ("reduce2", "conv2")}}


@pytest.mark.parametrize(
  "model", [paper(), paper(stem="separable"), torchvision_defaults()], ids=["paper", "separable", "torchvision"]
)
def test_output_sizes_are_those_of_table_1(model):
  logits, auxiliary, layers = outputs(model)
  assert layers == {name: (2, size, size, channels) for name, (size, channels) in OUTPUTS.items()}
  assert (logits.shape, auxiliary) == ((2, 1000), ())


def test_auxiliary_logits_come_in_training_only():
  logits, auxiliary, _ = outputs(paper(), train=True, precision="bfloat16")
  assert [(head.shape, head.dtype) for head in (logits, *auxiliary)] == [((2, 1000), jnp.float32)] * 3
  assert outputs(paper(auxiliary=False), train=True)[1] == ()


def test_a_larger_image_gives_a_map_of_scores():
  logits, _, layers = outputs(paper(), size=288, fully_convolutional=True)
  assert layers["inception_5b"] == (2, 9, 9, 1024)
  assert logits.shape == (2, 3, 3, 1000)


def test_reductions_and_projections_can_be_taken_out():
  params = params_of(paper(reductions=False))
  assert set(params["inception_3a"]) == {"conv1x1", "conv3x3", "conv5x5", "pool_proj"}
  assert params["inception_3a"]["conv5x5"]["kernel"].shape == (5, 5, 192, 32)
  naive = params_of(paper(reductions=False, pool_projection=False))
  assert naive["classifier"]["kernel"].shape == (4_944, 1000)  # each pool passes its input's channels on


def test_reduce_scale_is_for_3x3_and_5x5_reductions_of_every_module(papers_params):
  params = params_of(paper(reduce_scale=0.5))
  for name in WEIGHTS:
    for layer in params[name]:
      width, before = params[name][layer]["kernel"].shape[-1], papers_params[name][layer]["kernel"].shape[-1]
      assert width == (before / 2 if layer.startswith("reduce") else before)
  assert params["stem"] == papers_params["stem"]


def small(norm="lrn", modules=("inception_3a", "inception_4a", "inception_5a"), **fields):
  """Narrow, for images of 80×80 and 5 classes; the stages have one module each."""
  model = paper(norm=norm, num_classes=5, conv1=4, reduce2=3, conv2=6, auxiliary_reduction=4, auxiliary_features=8)
  for name in [name for name in model if name.startswith("inception_")]:
    if name in modules:
      model[name] = dict(conv1x1=3, reduce3x3=2, conv3x3=4, reduce5x5=2, conv5x5=3, pool_proj=2)
    else:
      del model[name]
  for field, value in fields.items():
    model[field] = value
  return model


SMALL = (80, 80, 3)


def test_lrn_stands_after_the_first_pool_and_before_the_second_and_the_last_pool_has_its_own_window():
  shape = (48, 48, 3)
  network = models.build(small(last_pool_window=2, auxiliary=False), shape)
  rng = np.random.default_rng(0)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.3).astype(np.float32)
  variables = jax.tree.map(draw, models.variable_shapes(network, shape))
  x = draw(np.zeros((2, *shape)))
  apply = lambda variables, x: network.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
  (logits, _), state = jax.jit(apply)(variables, x)
  layers = dict(state["intermediates"])
  layers.update(layers.pop("stem"))
  layers = {name: layer["__call__"][0] for name, layer in layers.items() if "__call__" in layer}
  wants = jax.jit(
    lambda layers: {
      "lrn1": ops.local_response_norm(layers["pool1"]),
      "lrn2": ops.local_response_norm(layers["conv2"]),
      "pool1": ops.max_pool(layers["conv1"], 3, 2, ceil_mode=True),
      "pool2": ops.max_pool(layers["lrn2"], 3, 2, ceil_mode=True),
      "pool3": ops.max_pool(layers["inception_3a"], 3, 2, ceil_mode=True),
      "pool4": ops.max_pool(layers["inception_4a"], 2, 2, ceil_mode=True),
    }
  )(layers)
  for name, want in wants.items():
    np.testing.assert_allclose(layers[name], want, rtol=1e-5, err_msg=name)
  np.testing.assert_allclose(layers["gap"][:, 0, 0], np.mean(layers["inception_5a"], (1, 2)), rtol=1e-4, atol=1e-6)
  assert np.min(logits) < 0  # the classifier is linear


def test_initialisation_is_caffes_xavier_with_bias_0_2_and_0_in_the_classifiers():
  shape = (40, 40, 3)
  network = models.build(small(modules=("inception_4a",)), shape)
  key = jax.random.key(0, impl="unsafe_rbg")  # quicker to compile
  init = lambda: network.init({"params": key, "dropout": key}, jnp.zeros((1, *shape)), train=True)
  params = jax.jit(init)()["params"]
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if path[-1].key == "bias":
      assert np.all(leaf == np.float32(0 if path[-2].key == "classifier" else 0.2)), path
    else:
      bound = np.sqrt(3 / np.prod(leaf.shape[:-1]))
      assert 0.5 * bound < np.abs(leaf).max() <= bound, path
  assert {"classifier", "auxiliary_4a"} < set(params)


@pytest.mark.parametrize("norm", ["lrn", "batch", "none"])
def test_normalisations(norm):
  network = models.build(small(norm), SMALL)
  variables = models.variable_shapes(network, SMALL)
  batch = norm == "batch"
  assert ("batch_stats" in variables) == batch
  assert set(variables["params"]["stem"]["conv1"]) == {"kernel", "norm" if batch else "bias"}
  assert set(variables["params"]["inception_3a"]["reduce5x5"]) == {"kernel", "norm" if batch else "bias"}
  assert set(variables["params"]["classifier"]) == {"kernel", "bias"}
  # no normalisation of the heads' fully connected layer, as in torchvision
  assert set(variables["params"]["auxiliary_4a"]["dense"]) == {"kernel", "bias"}
  apply = lambda variables, x: network.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
  _, state = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, *SMALL), jnp.float32))
  assert {"lrn1", "lrn2"} & set(state["intermediates"]["stem"]) == ({"lrn1", "lrn2"} if norm == "lrn" else set())


def test_heads_hang_on_the_modules_that_a_smaller_network_still_has():
  network = models.build(small(modules=("inception_3a", "inception_4d")), SMALL)
  assert {name for name in models.variable_shapes(network, SMALL)["params"] if "auxiliary" in name} == {"auxiliary_4d"}
