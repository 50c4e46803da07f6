"""Starting from the network of another run, and evaluating one elsewhere than where it was trained."""

import json
import shutil

import jax
import numpy as np
import pytest
from test_train_loop import tiny

from nin_jax.errors import ConfigError
from nin_jax.models.inception import width_config
from nin_jax.train import evaluate_checkpoint, fine_tuning, setup, train_and_evaluate
from nin_jax.train.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("two_devices")


def quick(**fields):
  config = tiny()
  config.train.steps = 4
  config.log.tensorboard = False
  config.update_from_flattened_dict(fields)
  return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run with an average, in a directory that was moved since."""
  before = tmp_path_factory.mktemp("trained") / "before"
  result = train_and_evaluate(quick(), before)
  after = before.with_name("after")
  shutil.move(before, after)
  return after, result


def variables(directory):
  with Checkpoints(directory, 1, read_only=True) as checkpoints:
    return checkpoints.variables()


def beginning(config):
  run = setup.set_up(config)
  return run, *fine_tuning.start(run.first_state(), config)


def same(a, b):
  return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


def test_the_network_is_the_other_run_s_and_the_rest_is_new(trained):
  directory, _ = trained
  _, state, fresh = beginning(quick(**{"train.init_from": str(directory), "seed": 8}))
  there = variables(directory)
  assert fresh == []
  assert state.step == 0
  assert same(state.params, there["average"])  # what that run evaluates
  assert not same(state.params, there["params"])
  assert same(state.batch_stats, there["batch_stats"])
  assert same(state.average, state.params)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == np.float32)


def test_another_number_of_classes_begins_with_a_new_classifier(trained, tmp_path):
  """Seven of the ten digits are three classes here: the data set is patched, the checkpoint is not."""
  directory, _ = trained
  config = quick(**{"train.init_from": str(directory)})
  run = setup.set_up(config)
  mine = jax.tree.map(np.asarray, run.first_state())
  classifier = {
    "bias": np.full(3, 0.5, np.float32),
    "kernel": np.ones((mine.params["classifier"]["kernel"].shape[0], 3)),
  }
  three = mine.replace(params={**mine.params, "classifier": classifier})
  config.model.num_classes = 3
  state, fresh = fine_tuning.start(three, config)
  assert fresh == ["classifier/bias", "classifier/kernel"]
  assert same(state.params["classifier"], classifier)
  there = variables(directory)["average"]
  assert same({**state.params, "classifier": 0}, {**there, "classifier": 0})


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (
      lambda model: model.update(stem_features=(5,)),
      r"conv1x1/kernel is \(4, 2\) there and \(5, 2\) here",
    ),
    (
      lambda model: model.update(inception_1a=width_config(2, 0, 4, 2, 2, 2)),
      "is .* there and .* here",
    ),
    (lambda model: model.update(norm="none"), "(is missing there and|there and missing here)"),
  ],
)
def test_another_network_is_refused_by_the_parameter(trained, change, said):
  directory, _ = trained
  config = quick(**{"train.init_from": str(directory)})
  change(config.model)
  with pytest.raises(ConfigError, match=f"train.init_from=.*{said}"):
    beginning(config)


@pytest.mark.parametrize("kind", ["nothing", "a file", "empty", "no checkpoint", "damaged"])
def test_what_is_no_run_is_refused(kind, trained, tmp_path):
  place = tmp_path / "place"
  if kind == "a file":
    place.write_text("")
  elif kind == "empty":
    place.mkdir()
  elif kind in ("no checkpoint", "damaged"):
    shutil.copytree(trained[0], place)
    if kind == "no checkpoint":
      shutil.rmtree(place / "checkpoints")
    else:
      for path in place.glob("checkpoints/*/record/metadata"):
        path.write_text("{}")
  with pytest.raises(ConfigError) as mistake:
    beginning(quick(**{"train.init_from": str(place)}))
  assert mistake.value.field == "train.init_from"


def test_a_run_that_starts_from_another_trains_and_resumes(trained, tmp_path, capfd):
  """The other run may be gone by then: all that is needed is in the checkpoint."""
  copy = shutil.copytree(trained[0], tmp_path / "other")
  config = quick(**{"train.init_from": str(copy), "optimizer.learning_rate": 1e-6})
  result = train_and_evaluate(config, tmp_path / "run")
  assert f"the network is that of {copy}" in capfd.readouterr().err
  rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
  assert rows[0]["step"] == 3
  assert result["test_accuracy"] == pytest.approx(trained[1]["test_accuracy"], abs=0.05)
  shutil.rmtree(copy)
  (tmp_path / "run" / "result.json").unlink()
  again = train_and_evaluate(config, tmp_path / "run")
  assert again["test_loss"] == result["test_loss"]


def test_an_evaluation_in_another_precision(trained):
  directory, result = trained
  measured = evaluate_checkpoint(quick(precision="bfloat16"), directory)
  assert measured["count"] == 360
  assert measured["loss"] == pytest.approx(result["test_loss"], rel=0.05)
  assert measured["loss"] != result["test_loss"]


def test_an_evaluation_of_another_config_is_refused(trained):
  with pytest.raises(ConfigError, match="seed 7 → 9"):
    evaluate_checkpoint(quick(seed=9), trained[0])


def test_an_evaluation_on_one_device_where_it_was_moved_to(trained, monkeypatch):
  directory, result = trained
  one = jax.local_devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *_: one)
  measured = evaluate_checkpoint(quick(), directory)
  assert measured["accuracy"] == result["test_accuracy"]
  assert measured["loss"] == pytest.approx(result["test_loss"], rel=1e-5)


def test_training_goes_on_in_another_place_on_other_devices(trained, tmp_path, monkeypatch):
  config = quick(**{"checkpoint.every_steps": 2})
  train_and_evaluate(config, tmp_path / "first")
  directory = shutil.move(tmp_path / "first", tmp_path / "second")
  shutil.rmtree(directory / "checkpoints" / "4")
  (directory / "result.json").unlink()
  four = jax.local_devices()[:4]
  monkeypatch.setattr(jax, "devices", lambda *_: four)
  result = train_and_evaluate(config, directory)
  assert result["devices"] == 4
  assert result["test_loss"] == pytest.approx(trained[1]["test_loss"], rel=1e-4)
