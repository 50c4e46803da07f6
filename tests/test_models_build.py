"""What the user gets wrong in `config.model` is named, with its value and what would do."""

import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn

from nin_jax import models
from nin_jax.errors import ConfigError, shown
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config

SHAPES = {"nin": (32, 32, 3), "inception": (8, 8, 1), "googlenet": (224, 224, 3)}


def refused(name, changes, shape=None, **options):
  """The error of building a model with these fields, given as they are typed."""
  model = models.defaults(name)
  for field, value in changes.items():
    *sections, last = field.split(".")
    section = model
    for part in sections:
      section = section[part]
    with section.unlocked(), section.ignore_type():
      section[last] = value
  with pytest.raises(ConfigError) as error:
    models.build(model, shape or SHAPES[name], **options)
  return error.value


@pytest.mark.parametrize("name", SHAPES)
def test_defaults_can_be_built_and_are_new_each_time(name):
  models.build(models.defaults(name), SHAPES[name])
  models.defaults(name).num_classes = 3
  assert models.defaults(name).num_classes != 3


@pytest.mark.parametrize(
  ("name", "field", "value"),
  [
    ("nin", "name", "resnet"),
    *((name, "norm", "layer") for name in SHAPES),
    ("nin", "norm", "lrn"),
    ("inception", "norm", "lrn"),
    *((name, "init", "glorot") for name in SHAPES),
    *((name, "num_classes", 0) for name in SHAPES),
    ("nin", "num_classes", 2.5),
    ("nin", "num_classes", True),
    ("nin", "init_std", 0.0),
    ("nin", "batch_norm_momentum", 1.0),
    ("nin", "batch_norm_momentum", -0.1),
    ("nin", "batch_norm_epsilon", 0.0),
    ("nin", "block1.features", (8, -1)),
    ("nin", "block2.features", (0,)),
    ("nin", "block2.features", ()),
    ("nin", "block3.kernel", 0),
    ("nin", "block3.strides", 0),
    ("nin", "block3.padding", -1),
    ("nin", "block1.pool", "mean"),
    ("nin", "block1.pool_window", 0),
    ("nin", "block1.pool_strides", 0),
    ("nin", "block1.dropout", 1.0),
    ("nin", "block1.dropout", -0.5),
    ("nin", "block1.init_std", (0.1, 0.1)),
    ("nin", "block3.init_std", (0.1, 0.1)),  # the classes' own layer is the third
    ("nin", "block1.width", 3),
    ("nin", "stem", "dense"),
    ("nin", "inception_1a", {}),
    ("inception", "stem_features", ()),
    ("inception", "stem_features", (8, 0)),
    ("inception", "stem_kernel", 0),
    ("inception", "inception_1a.conv3x3", -1),
    ("inception", "inception_1a.reduce3x3", 1.5),
    ("inception", "inception_2a.width", 1),
    ("inception", "inception_x", width_config(1, 1, 1, 1, 1, 1)),
    ("inception", "inception_3", width_config(1, 1, 1, 1, 1, 1)),
    ("inception", "block1", block_config((8,))),
    ("inception", "reduce_scale", 0.0),
    ("inception", "reduce_scale", -1.0),
    ("inception", "reduce_scale", float("inf")),
    ("inception", "reduce_scale", float("nan")),
    ("inception", "linear", ("conv3x3",)),
    ("inception", "large_kernel", 0),
    ("inception", "downsample", "stride"),
    ("inception", "dropout", 1.0),
    ("inception", "dropout", -0.1),
    ("googlenet", "stem", "thin"),
    ("googlenet", "conv1", 0),
    ("googlenet", "reduce2", -64),
    ("googlenet", "conv2", 0),
    ("googlenet", "last_pool_window", 0),
    ("googlenet", "auxiliary_reduction", 0),
    ("googlenet", "auxiliary_features", 0),
    ("googlenet", "auxiliary_dropout", 1.0),
    ("googlenet", "last_relu", True),
  ],
)
def test_a_field_that_cannot_be_is_named_with_its_value(name, field, value):
  error = refused(name, {field: value})
  assert error.field.startswith(f"model.{field}".removesuffix(".width"))
  assert str(error).startswith(f"{error.field}={shown(error.value)}: accepted is ")
  if isinstance(value, (int, float)) and not field.endswith(".width"):
    assert repr(error.value) == repr(value)


@pytest.mark.parametrize("blocks", [{"block5": None}, {"block03": None}, {"block_a": None}])
def test_blocks_are_numbered_without_a_gap(blocks):
  error = refused("nin", {name: block_config((8,)) for name in blocks})
  assert error.field == "model"
  assert "without a gap" in str(error)


def test_a_network_needs_a_block_or_a_module():
  model = models.defaults("nin")
  del model["block1"], model["block2"], model["block3"]
  with pytest.raises(ConfigError, match="block1, block2"):
    models.build(model, SHAPES["nin"])
  model = models.defaults("inception")
  for name in ("1a", "1b", "2a", "2b"):
    del model[f"inception_{name}"]
  with pytest.raises(ConfigError, match="at least one module"):
    models.build(model, SHAPES["inception"])


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(SHAPES, 2)))
def test_another_models_fields_are_refused(name, other):
  assert refused(other, {"name": name}).field == "model.name"


def test_an_unknown_precision_or_model_is_refused():
  error = refused("nin", {}, precision="float16")
  assert (error.field, error.value, error.accepted) == ("precision", "float16", "one of float32, bfloat16")
  with pytest.raises(ConfigError, match=r"model\.name='resnet': accepted is one of nin, inception, googlenet"):
    models.defaults("resnet")


@pytest.mark.parametrize(
  ("name", "shape", "changes"),
  [
    ("nin", (8, 9, 3), {"block1.kernel": 11, "block1.padding": 0}),
    ("nin", (4, 4, 3), {}),
    ("inception", (2, 2, 1), {}),
    ("googlenet", (16, 16, 3), {}),
    ("googlenet", (64, 64, 3), {}),  # the auxiliary heads' 5×5 pool on 4×4
  ],
)
@pytest.mark.parametrize("fully_convolutional", [False, True])
def test_an_image_too_small_names_its_size(name, shape, changes, fully_convolutional):
  error = refused(name, changes, shape, fully_convolutional=fully_convolutional)
  assert (error.field, error.value) == ("data.image_size", f"{shape[0]}×{shape[1]}")
  assert "window of" in str(error)


def test_without_auxiliary_heads_a_smaller_image_will_do():
  model = models.defaults("googlenet")
  model.auxiliary = False
  models.build(model, (64, 64, 3))


def test_synchronised_batch_statistics_are_those_of_the_whole_batch():
  model = models.defaults("inception")
  del model["inception_1b"], model["inception_2a"], model["inception_2b"]
  model.stem_features, model.inception_1a = (4,), width_config(2, 0, 0, 0, 0, 2)
  x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
  alone = models.build(model, SHAPES["inception"])
  together = models.build(model, SHAPES["inception"], axis_name="devices")
  variables = jax.jit(alone.init)(jax.random.key(0, impl="unsafe_rbg"), x)  # quicker to compile

  def step(network, x):
    (logits, _), state = network.apply(variables, x, train=True, mutable=["batch_stats"])
    return logits, state

  logits, state = jax.jit(lambda x: step(alone, x))(x)
  parts, part_states = jax.jit(jax.vmap(lambda x: step(together, x), axis_name="devices"))(x.reshape(2, 2, 8, 8, 1))
  np.testing.assert_allclose(np.reshape(parts, logits.shape), logits, rtol=1e-3, atol=1e-4)
  for leaf, want in zip(jax.tree.leaves(part_states), jax.tree.leaves(state), strict=True):
    np.testing.assert_allclose(leaf, np.stack([want, want]), rtol=1e-3, atol=1e-5)


def test_shapes_and_first_values_take_one_trace():
  model = models.defaults("nin")
  network, traced = models.build(model, (16, 16, 3)), []

  def note(method, args, kwargs, context):
    traced.append(context.module)
    return method(*args, **kwargs)

  keys = dict(zip(("params", "dropout"), jax.random.split(jax.random.key(0)), strict=True))
  with nn.intercept_methods(note):
    equal = models.build(model, (16, 16, 3))
    shapes, _ = models.map_shapes(equal, (16, 16, 3))
    variables, _ = jax.eval_shape(lambda keys: models.init(network, [16, 16, 3], keys), keys)
    assert not traced
    models.map_shapes(network, (20, 20, 3))
    assert traced
  assert variables == shapes
