"""A whole config's mistakes: all of them, each by its field, and none that are not there."""

import math

import jax
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from configs import googlenet_imagenet
from nin_jax import models
from nin_jax.config import default
from nin_jax.errors import ConfigError, ConfigErrors
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config
from nin_jax.train import memory
from nin_jax.train.validation import total_steps, validate


def changed(name="inception", **fields):
  """A config of a small network on the digits with some fields set to anything; `DELETED` takes one out."""
  config = default()
  config.model = models.defaults(name)
  if name == "inception":
    for module in ("inception_1b", "inception_2a", "inception_2b"):
      del config.model[module]
    config.model.inception_1a, config.model.stem_features = width_config(2, 0, 4, 0, 0, 2), (4,)
  for field, value in fields.items():
    *sections, last = field.split(".")
    section = config
    for part in sections:
      section = section[part]
    with section.unlocked(), section.ignore_type():
      if value is DELETED:
        del section[last]
      else:
        section[last] = value
  return config


DELETED = object()


def mistakes(config, devices=8, **options):
  """{field: its line} of each mistake."""
  with pytest.raises(ConfigError) as error:
    validate(config, devices, **options)
  found = error.value.mistakes
  assert str(error.value) == "\n".join(map(str, found))
  assert isinstance(error.value, ConfigErrors) == (len(found) > 1)
  return {mistake.field: str(mistake) for mistake in found}


def test_a_config_without_mistakes_gives_what_it_has_found_out():
  checked = validate(changed(), 8)
  assert checked.spec.image_shape == (8, 8, 1)
  assert checked.variables["params"]["inception_1a"]["conv3x3"]["kernel"].shape == (3, 3, 4, 4)
  assert checked.network.options.axis_name is not None
  assert validate(changed(**{"train.sync_batch_norm": False}), 8).network.options.axis_name is None


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("seed", -1),
    ("precision", "float16"),
    ("data.batch_size", 0),
    ("data.batch_size", -8),
    ("train.epochs", -1.0),
    ("train.epochs", math.nan),
    ("train.epochs", math.inf),
    ("seed", 2**32),
    ("train.steps", 2**31),
    ("train.epochs", 0.0),  # where train.steps is 0 too
    ("train.steps", -1),
    ("train.label_smoothing", 1.0),
    ("train.label_smoothing", -0.1),
    ("train.label_smoothing", math.nan),
    ("train.auxiliary_weight", -0.3),
    ("train.accumulate_steps", 0),
    ("train.steps_per_call", 0),
    ("train.dead_steps", -1),
    ("eval.batch_size", -1),
    ("eval.every_epochs", -1.0),
    ("eval.every_steps", -1),
    ("eval.train_images", -1),
    ("checkpoint.every_steps", -1),
    ("checkpoint.keep", 0),
    ("log.every_steps", 0),
  ],
)
def test_values_that_cannot_be_are_named(field, value):
  found = mistakes(changed(**{field: value}))
  assert list(found) == [field]
  assert found[field].startswith(f"{field}={value!r}: accepted is ")


def test_steps_without_epochs():
  validate(changed(**{"train.steps": 1, "train.epochs": 0.0}), 1)


@pytest.mark.parametrize(
  ("size", "parts", "devices", "accepted"),
  [
    (12, 1, 8, "a multiple of 8 (8 devices)"),
    (3, 2, 1, "a multiple of 2 (1 device × train.accumulate_steps=2)"),
    (24, 2, 8, "a multiple of 16 (8 devices × train.accumulate_steps=2)"),
  ],
)
def test_the_batch_is_a_multiple_of_its_parts(size, parts, devices, accepted):
  config = changed(**{"data.batch_size": size, "train.accumulate_steps": parts})
  assert mistakes(config, devices) == {"data.batch_size": f"data.batch_size={size}: accepted is {accepted}"}
  validate(changed(**{"data.batch_size": 2 * size, "train.accumulate_steps": parts}), devices)


@pytest.mark.parametrize(
  ("field", "hint"),
  [
    ("train.epoch", "epochs"),
    ("optimizer.weightdecay", "weight_decay"),
    ("sed", "seed"),
    ("model.dropuot", "dropout"),
    ("model.inception_1a.conv_3x3", "conv3x3"),
  ],
)
def test_a_misspelt_field_is_refused_with_the_closest_one(field, hint):
  found = mistakes(changed(**{field: 1.0}))
  assert list(found) == [field]
  assert f"did you mean {hint}?" in found[field]


@pytest.mark.parametrize(
  "field", ["seed", "log", "model", "model.name", "model.norm", "train.init_from", "model.inception_1a.pool_proj"]
)
def test_a_missing_field_is_named(field):
  assert list(mistakes(changed(**{field: DELETED}))) == [field]


WRONG = [None, "3", [1, [2]], True, math.nan, 2.5, ConfigDict({"a": 1}), (), 10**400, "x" * 10_000, "two\nlines"]


@pytest.mark.parametrize("field", ["seed", "data.batch_size", "train.epochs", "model.num_classes", "optimizer.factor"])
@pytest.mark.parametrize("value", WRONG)
def test_a_value_of_another_type_is_one_mistake_of_one_short_line(field, value):
  if field in ("train.epochs", "optimizer.factor") and isinstance(value, int | float) and value is not math.nan:
    return  # a ConfigDict makes floats of these, or refuses them
  found = mistakes(changed(**{field: value}))
  assert list(found) == [field]
  assert "number" in found[field]
  assert "\n" not in found[field]
  assert len(found[field]) < 500


@pytest.mark.parametrize(
  ("field", "value", "accepted"),
  [
    ("data.flip", 1, "True or False"),
    ("data.name", 3, "a string"),
    ("train.init_from", None, "a string"),
    ("optimizer.boundaries", 3.0, "a tuple"),
    ("model.linear", "conv1x1", "a tuple"),
    ("optimizer", 3, "a section with the fields"),
    ("model", None, "a section"),
    ("model.inception_1a", 3, "a section with the fields"),
  ],
)
def test_each_type_is_told(field, value, accepted):
  found = mistakes(changed(**{field: value}))
  assert list(found) == [field]
  assert f"accepted is {accepted}" in found[field]


def test_whole_numbers_do_for_numbers_and_lists_for_tuples():
  config = changed(
    **{"train.epochs": 3, "model.stem_features": [4, 4], "optimizer.learning_rate_factors": [[".*/bias", 2]]}
  )
  validate(config, 8)
  validate(changed("nin", **{"model.block1": block_config((4, 4), pool="max"), "data.image_size": 32}), 8)


@pytest.mark.parametrize("config", [None, {}, 3, "configs/inception_digits.py", {"seed": 1}])
def test_what_is_no_config_is_refused(config):
  with pytest.raises(ConfigError, match=r"^config=.*: accepted is a ConfigDict"):
    validate(config, 8)


def test_a_frozen_config_will_do():
  validate(FrozenConfigDict(changed()), 8)


MANY = {
  "sed": 1,
  "seed": "one",
  "model.stem_kernel": 0,
  "model.inception_1a.conv3x3": -1,
  "data.batch_size": 12,
  "optimizer.learning_rate": -1.0,
  "optimizer.name": "adam",
  "train.averaging": "swa",
  "eval.batch_size": -1,
  "checkpoint.keep": 0,
  "log.every_steps": None,
}


@pytest.mark.parametrize("mended", [None, *MANY])
def test_mistakes_of_all_sections_are_listed_together(mended):
  """Each is there as long as it is made, and no other because of it."""
  given = {field: value for field, value in MANY.items() if field != mended}
  assert set(mistakes(changed(**given))) == set(given)


def test_what_takes_the_data_and_the_network_joins_the_list():
  given = {
    "model.num_classes": 3,
    "optimizer.learning_rate_factors": (("nowhere", 1.0),),
    "optimizer.learning_rate": 0.0,
    "train.steps": -1,
  }
  assert set(mistakes(changed(**given))) == set(given)
  assert set(mistakes(changed(**{"data.name": "digit", "train.steps": -1}))) == {"data.name", "train.steps"}
  too_small = {"model.block1.kernel": 11, "model.block1.padding": 0, "train.steps": -1}
  assert set(mistakes(changed("nin", **too_small))) == {"data.image_size", "train.steps"}


def test_a_mistake_brings_no_others_up():
  assert list(mistakes(changed(**{"optimizer.learning_rate": -1.0, "optimizer.schedule": "cosine"}))) == [
    "optimizer.learning_rate"
  ]
  assert list(mistakes(changed(**{"train.steps": "many", "train.epochs": 0.0}))) == ["train.steps"]
  assert list(mistakes(changed("nin", **{"model.name": "inception"}))) == ["model.name"]


def test_evaluation_pads_and_takes_no_optimizer():
  validate(changed(**{"data.batch_size": 12}), 8, training=False)
  assert list(mistakes(changed(**{"data.batch_size": 12}))) == ["data.batch_size"]


@pytest.mark.parametrize(
  ("fields", "named"),
  [
    ({"data.batch_size": 10**9}, "data.batch_size"),
    ({"eval.batch_size": 10**9}, "eval.batch_size"),
    ({"data.image_size": 2**14, "data.batch_size": 2**14}, "data.batch_size"),
    ({"model.inception_1a.conv3x3": 2**20, "model.stem_features": (2**20,)}, "model"),
    ({"model.stem_features": (2**20,), "data.batch_size": 2**14}, "data.batch_size"),
  ],
)
def test_what_memory_can_never_hold_is_told_of(fields, named):
  assert "GiB of memory" in mistakes(changed(**fields))[named]


def test_the_least_memory_is_less_than_what_is_there(monkeypatch):
  """A machine that holds just the largest map holds the batch, as far as can be told; a byte less does not do."""
  config = changed(**{"data.batch_size": 80, "model.stem_features": (16,)})
  most = 80 * 8 * 8 * 16 * 4
  monkeypatch.setattr(memory, "available", lambda devices: (most, len(devices)))
  validate(config, 8)
  monkeypatch.setattr(memory, "available", lambda devices: (most - 1, len(devices)))
  assert list(mistakes(config)) == ["data.batch_size"]
  validate(
    changed(**{"data.batch_size": 80, "model.stem_features": (16,), "train.accumulate_steps": 2, "eval.batch_size": 8}),
    8,
  )
  monkeypatch.setattr(memory, "available", lambda devices: (most // 8, 1))  # of each device
  validate(config, 8)


def test_counting_takes_no_memory():
  config = googlenet_imagenet.get_config()
  config.data.batch_size = 10**9
  validate(config, 8, training=False, computes=False)


def test_steps_are_counted_by_an_int32():
  train = default().train
  train.epochs = 3.0
  assert total_steps(train, 10.5) == 32
  train.epochs = 1e9
  with pytest.raises(ConfigError, match=r"train\.epochs=1000000000\.0: accepted is at most 2\.14748e\+08"):
    total_steps(train, 10.0)


def test_the_machine_has_memory():
  limit, sharing = memory.available(jax.local_devices())
  assert 2**28 < limit < 2**50
  assert sharing == 8
