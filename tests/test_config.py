"""The fields that there are, and the values that can't be."""

import math

import pytest

from nin_jax.config import default, validate
from nin_jax.errors import ConfigError


def changed(**fields):
  config = default()
  config.update_from_flattened_dict(fields)
  return config


def test_the_defaults_are_valid_and_new_each_time():
  validate(default(), 8)
  default().data.flip = True
  assert default().data.flip is False


def test_the_fields_that_scripts_rely_on():
  config = default().to_dict()
  assert set(config) == {"seed", "precision", "model", "data", "optimizer", "train", "eval", "checkpoint", "log"}
  flat = {f"{section}.{name}" for section, values in config.items() if isinstance(values, dict) for name in values}
  assert {
    "data.name",
    "data.dir",
    "data.batch_size",
    "train.epochs",
    "train.steps",
    "optimizer.learning_rate",
    "checkpoint.every_steps",
    "log.every_steps",
  } <= flat


def test_unknown_names_and_wrong_types_are_refused():
  config = default()
  config.lock()
  with pytest.raises(AttributeError, match="Did you mean"):
    config.optimizer.learning_rat = 0.1
  with pytest.raises(TypeError):
    config.data.batch_size = "many"
  with pytest.raises(TypeError):
    config.data.batch_size = 2.5
  config.optimizer.learning_rate = 1  # a whole number is a number


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
    ("train.epochs", 0.0),  # where train.steps is 0 too
    ("train.steps", -1),
    ("train.label_smoothing", 1.0),
    ("train.label_smoothing", -0.1),
    ("train.label_smoothing", math.nan),
    ("train.auxiliary_weight", -0.3),
    ("train.accumulate_steps", 0),
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
  with pytest.raises(ConfigError) as error:
    validate(changed(**{field: value}), 1)
  assert error.value.field == field
  assert str(error.value).startswith(f"{field}={value!r}: accepted is ")


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
  with pytest.raises(ConfigError) as error:
    validate(config, devices)
  assert str(error.value) == f"data.batch_size={size}: accepted is {accepted}"
  validate(changed(**{"data.batch_size": 2 * size, "train.accumulate_steps": parts}), devices)


@pytest.mark.parametrize(
  ("section", "name", "hint"),
  [("train", "epoch", "epochs"), ("optimizer", "weightdecay", "weight_decay"), ("", "sed", "seed")],
)
def test_a_file_s_misspelt_field_is_refused(section, name, hint):
  config = default()
  (config[section] if section else config)[name] = 1.0
  with pytest.raises(ConfigError, match=f"did you mean {hint}") as caught:
    validate(config, 1)
  assert caught.value.field == f"{section}.{name}".strip(".")


def test_a_missing_section_is_named():
  config = default()
  del config["log"]
  with pytest.raises(ConfigError, match="log"):
    validate(config, 1)
