"""The fields that there are."""

import json

import pytest

from nin_jax.config import default, from_json


def test_the_defaults_are_new_each_time():
  default().data.flip = True
  assert default().data.flip is False


def test_the_fields_that_scripts_rely_on():
  config = default().to_dict()
  assert set(config) == {
    "seed",
    "precision",
    "lowering",
    "model",
    "data",
    "optimizer",
    "train",
    "eval",
    "checkpoint",
    "log",
  }
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


def test_a_config_of_before_has_what_came_since():
  """A workdir goes on, and is evaluated, whatever fields there were when it was begun."""
  whole = default()
  older = whole.to_dict()
  del older["lowering"], older["train"]["steps_per_call"], older["train"]["remat"]
  assert from_json(json.dumps(older)).to_dict() == from_json(json.dumps(whole.to_dict())).to_dict()


def test_a_run_with_a_lowering_that_was_removed_continues_with_auto():
  older = default().to_dict() | {"lowering": "onednn"}
  assert from_json(json.dumps(older)).lowering == "auto"
