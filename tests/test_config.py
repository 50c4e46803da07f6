"""The fields that there are."""

import pytest

from nin_jax.config import default


def test_the_defaults_are_new_each_time():
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
