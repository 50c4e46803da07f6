"""Whole runs in one process: what they write, and that a broken run ends as an unbroken one does."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from nin_jax import data, models, ops
from nin_jax.config import default
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config
from nin_jax.train import (
  Interrupted,
  TrainingStopped,
  evaluate_checkpoint,
  loop,
  setup,
  steps,
  train_and_evaluate,
)
from nin_jax.train.checkpoint import Checkpoints

LINE = {
  "step",
  "epoch",
  "split",
  "loss",
  "accuracy",
  "learning_rate",
  "images_per_second",
  "step_seconds",
  "train_flops",
  "flops_per_second",
  "mfu",
  "wall_seconds",
}
RESULT = {
  "trial",
  "seed",
  "overrides",
  "steps",
  "test_accuracy",
  "test_loss",
  "train_accuracy",
  "params",
  "macs",
  "flops",
  "train_flops",
  "images_per_second",
  "wall_seconds",
  "device",
  "devices",
  "versions",
}
STEPS, BATCH = 10, 32

pytestmark = pytest.mark.usefixtures("two_devices")


def tiny():
  """A run with all that has a state: momentum, batch statistics, an average, dropout, shifts, a schedule."""
  config = default()
  config.seed = 7
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 0, 4, 0, 0, 2)
  model.dropout = 0.2
  config.data.batch_size = BATCH
  config.data.translate = 1
  config.optimizer.schedule = "cosine"
  config.train.steps = STEPS
  config.train.averaging = "ema"
  config.train.ema_decay = 0.8
  config.eval.every_steps = 4
  config.eval.train_images = 64
  config.checkpoint.keep = 2
  config.log.every_steps = 3
  return config


def tiny_nin(**fields):
  config = default()
  config.model = model = models.defaults("nin")
  del model.block3
  model.block1 = block_config((4,), kernel=3, padding=1, pool="max")
  model.block2 = block_config((4,), kernel=3, padding=1)
  model.update(fields)
  config.data.batch_size = BATCH
  config.train.steps = 5
  config.checkpoint.every_steps = 1
  config.log.tensorboard = False
  return config


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  directory = tmp_path_factory.mktemp("unbroken")
  return directory, train_and_evaluate(tiny(), directory, overrides={"seed": 7}, trial="a")


@pytest.fixture(scope="module")
def like():
  return setup.set_up(tiny()).first_state()


def final_state(directory, like):
  with Checkpoints(directory, 1, read_only=True) as checkpoints:
    return checkpoints.restore(like)[0]


def lines(directory):
  return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def numbers(directory):
  """What is a function of the config alone."""
  keys = ("step", "epoch", "split", "loss", "accuracy", "learning_rate", "train_flops")
  return [{key: line[key] for key in keys} for line in lines(directory)]


def assert_ended_the_same(directory, unbroken, like):
  assert numbers(directory) == numbers(unbroken)
  actual, wanted = final_state(directory, like), final_state(unbroken, like)
  assert actual.step == STEPS
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  results = [json.loads((path / "result.json").read_text()) for path in (directory, unbroken)]
  for key in ("steps", "test_accuracy", "test_loss", "train_accuracy", "train_loss", "best_step", "train_flops"):
    assert results[0][key] == results[1][key]


@pytest.fixture
def trained_steps(monkeypatch):
  """The steps (from 0) that batches were asked for."""
  asked, original = [], data.Resident.train_batch

  def train_batch(self, step):
    asked.append(step)
    return original(self, step)

  monkeypatch.setattr(data.Resident, "train_batch", train_batch)
  return asked


def test_lines_have_the_keys_of_the_contract(unbroken):
  directory, result = unbroken
  rows = lines(directory)
  assert all(set(row) == LINE for row in rows)
  assert [row["step"] for row in rows if row["split"] == "train"] == [3, 6, 9, 10]
  assert [row["step"] for row in rows if row["split"] == "test"] == [4, 8, 10]
  assert len(rows) == 7
  for row in rows:
    assert row["epoch"] == row["step"] * BATCH / 1437
    assert row["train_flops"] == row["step"] * result["train_flops"] // STEPS
    assert 0 < row["loss"] < 10
    assert 0 <= row["accuracy"] <= 1
    if row["split"] == "train":
      assert row["images_per_second"] == pytest.approx(BATCH / row["step_seconds"])
      assert row["flops_per_second"] == pytest.approx(result["train_flops"] / STEPS / row["step_seconds"])
      # Cosine decay from 0.1: the rate of the update that was just made.
      cosine = (1 + np.cos(np.pi * (row["step"] - 1) / STEPS)) / 2
      assert row["learning_rate"] == pytest.approx(0.1 * cosine, abs=2e-6)
  walls = [row["wall_seconds"] for row in rows]
  assert walls == sorted(walls)


def test_losses_are_means_since_the_last_line(tmp_path, unbroken):
  """Logged at every step, the same run has the means of these."""
  config = tiny()
  config.log.every_steps = 1
  config.eval.every_steps = STEPS
  train_and_evaluate(config, tmp_path)
  every = {row["step"]: row for row in lines(tmp_path) if row["split"] == "train"}
  assert sorted(every) == list(range(1, STEPS + 1))
  before = 0
  for row in (row for row in lines(unbroken[0]) if row["split"] == "train"):
    part = range(before + 1, row["step"] + 1)
    for name in ("loss", "accuracy"):
      assert row[name] == pytest.approx(np.mean([every[step][name] for step in part]), rel=1e-9)
    before = row["step"]


def test_the_result_has_the_keys_of_the_contract_and_true_values(unbroken):
  directory, result = unbroken
  assert json.loads((directory / "result.json").read_text()) == result
  assert set(result) >= RESULT
  assert (result["trial"], result["seed"], result["overrides"]) == ("a", 7, {"seed": 7})
  # By hand: 3×3 1→4; 1×1 4→2; 3×3 4→4; 1×1 4→2 on 8×8 positions; 8→10.
  weights = [36, 8, 144, 8, 80]
  macs = 64 * sum(weights[:4]) + weights[4]
  norms, bias = 2 * (4 + 2 + 4 + 2), 10
  assert (result["params"], result["macs"], result["flops"]) == (sum(weights) + norms + bias, macs, 2 * macs)
  backward = 2 * macs - 64 * weights[0]
  assert result["train_flops"] == STEPS * BATCH * 2 * (macs + backward)
  assert (result["steps"], result["devices"], result["device"]) == (STEPS, 2, jax.local_devices()[0].device_kind)
  assert result["versions"]["jax"] == jax.__version__
  tests = {row["step"]: row for row in lines(directory) if row["split"] == "test"}
  assert (result["test_accuracy"], result["test_loss"]) == (tests[STEPS]["accuracy"], tests[STEPS]["loss"])
  assert result["best_test_accuracy"] == max(row["accuracy"] for row in tests.values())
  assert result["best_test_accuracy"] == tests[result["best_step"]]["accuracy"]
  assert result["images_per_second"] > 0
  assert result["wall_seconds"] >= tests[STEPS]["wall_seconds"]


def test_what_lies_in_the_workdir(unbroken):
  directory, result = unbroken
  there = {path.name for path in directory.iterdir()}
  assert there == {".lock", "config.json", "metrics.jsonl", "checkpoints", "result.json", "tensorboard"}
  assert json.loads((directory / "config.json").read_text()) == json.loads(json.dumps(tiny().to_dict()))
  assert any((directory / "tensorboard").iterdir())
  assert {int(path.name) for path in (directory / "checkpoints").iterdir()} == {8, STEPS, result["best_step"]}


def test_the_average_is_what_is_evaluated(unbroken, like):
  """With batch statistics of its own: those of the latest parameters do not fit it."""
  directory, result = unbroken
  state = jax.tree.map(np.asarray, final_state(directory, like))
  config = tiny()
  network = models.build(config.model, (8, 8, 1))
  pipeline = data.open(config.data, config.seed)
  arrays, labels = jax.tree.map(np.asarray, pipeline.arrays), pipeline.arrays["test"]["labels"]
  images, _, _ = pipeline.load_eval(arrays, "test", np.arange(360))

  def loss(params, batch_stats):
    logits = np.asarray(network.apply({"params": params, "batch_stats": batch_stats}, images)[0], np.float64)
    return (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(360), labels]).mean()

  evaluated = setup.set_up(config).evaluated(state)
  own = jax.tree.map(np.asarray, evaluated["batch_stats"])
  assert loss(state.average, own) == pytest.approx(result["test_loss"], rel=1e-4)
  assert abs(loss(state.average, state.batch_stats) - result["test_loss"]) > 1e-3
  assert abs(loss(state.params, state.batch_stats) - result["test_loss"]) > 1e-3
  # The first layer's statistics are those of its convolution's output over the sampled images, shifted as in training.
  kernel = state.average["stem"]["mlpconv"]["conv"]["kernel"]
  first = own["stem"]["mlpconv"]["conv"]["norm"]
  chosen = np.concatenate([pipeline.sample_batch(number) for number in range(32)])
  sampled, _ = pipeline.load_train(arrays, chosen, np.arange(len(chosen)), jax.random.key(0))
  outputs = np.asarray(ops.conv(sampled, kernel))
  np.testing.assert_allclose(first["mean"], outputs.mean(axis=(0, 1, 2)), atol=0.05)
  np.testing.assert_allclose(first["var"], outputs.var(axis=(0, 1, 2)), rtol=0.15)


def test_a_run_that_is_stopped_goes_on_bit_for_bit(unbroken, like, monkeypatch, tmp_path):
  original = data.Resident.train_batch

  def train_batch(self, step):
    if step + 1 == 5:  # neither a log line nor an evaluation
      os.kill(os.getpid(), signal.SIGTERM)
    return original(self, step)

  with monkeypatch.context() as patch:
    patch.setattr(data.Resident, "train_batch", train_batch)
    with pytest.raises(Interrupted) as stopped:
      train_and_evaluate(tiny(), tmp_path)
  assert (stopped.value.signal, stopped.value.step) == (signal.SIGTERM, 5)
  assert not (tmp_path / "result.json").exists()
  assert final_state(tmp_path, like).step == 5
  assert [row["step"] for row in lines(tmp_path)] == [3, 4]

  # A write that was cut short, and a line after the checkpoint, are of no account.
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write(json.dumps(lines(tmp_path)[0] | {"step": 6}) + '\n{"step": 7, "lo')
  train_and_evaluate(tiny(), tmp_path)
  assert_ended_the_same(tmp_path, unbroken[0], like)


def test_an_older_checkpoint_leads_to_the_same_end(unbroken, like, trained_steps, tmp_path):
  directory = shutil.copytree(unbroken[0], tmp_path / "copy")
  shutil.rmtree(directory / "checkpoints" / str(STEPS))
  (directory / "result.json").unlink()
  train_and_evaluate(tiny(), directory)
  assert trained_steps == [8, 9]
  assert_ended_the_same(directory, unbroken[0], like)


def test_a_result_that_is_missing_is_written_without_training(unbroken, like, trained_steps, tmp_path):
  directory = shutil.copytree(unbroken[0], tmp_path / "copy")
  (directory / "result.json").unlink()
  result = train_and_evaluate(tiny(), directory, overrides={"seed": 7}, trial="a")
  assert trained_steps == []
  assert_ended_the_same(directory, unbroken[0], like)
  assert result == unbroken[1]  # times too: they are the run's


def test_a_run_that_has_ended_is_not_run_again(unbroken, monkeypatch):
  directory, result = unbroken
  before = (directory / "metrics.jsonl").read_bytes()

  def never(*_):
    raise AssertionError

  monkeypatch.setattr(steps, "train_step", never)
  monkeypatch.setattr(loop, "set_up", never)
  assert train_and_evaluate(tiny(), directory) == result
  assert (directory / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_is_evaluated_on_devices_that_do_not_divide_its_batch(unbroken, monkeypatch):
  directory, result = unbroken
  three = jax.local_devices()[:3]
  monkeypatch.setattr(jax, "devices", lambda *_: three)
  config = tiny()
  config.eval.batch_size = 100
  measured = evaluate_checkpoint(config, directory)
  assert (measured["step"], measured["split"], measured["count"]) == (STEPS, "test", 360)
  assert measured["accuracy"] == measured["correct"] / 360 == result["test_accuracy"]
  assert measured["loss"] == pytest.approx(result["test_loss"], rel=1e-6)


@pytest.mark.parametrize("images", [1, 33, 64, 100, 360])
def test_the_first_training_images_are_counted_exactly(images):
  run = setup.set_up(tiny())
  assert run.evaluate(run.replicate(run.first_state()), "train", images)["count"] == images


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
  config = tiny_nin(init="he")
  config.optimizer.learning_rate = 1e38
  with pytest.raises(TrainingStopped, match=r"at step 2 \(it was finite up to step 1\)"):
    train_and_evaluate(config, tmp_path)
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
  assert not (tmp_path / "result.json").exists()


def test_a_dead_network_stops_the_run(tmp_path):
  config = tiny_nin(init_bias=-10.0, last_relu=True)
  config.train.dead_steps = 3
  with pytest.raises(TrainingStopped, match=r"dead: in steps 1 to 3 .* the loss is 2\.302585"):
    train_and_evaluate(config, tmp_path / "stops")
  config.train.dead_steps = 0
  assert train_and_evaluate(config, tmp_path / "goes on")["test_loss"] == pytest.approx(np.log(10), rel=1e-6)


def test_the_learning_rate_of_a_line_is_that_of_its_step(unbroken):
  rate = setup.set_up(tiny()).rate
  for row in numbers(unbroken[0]):
    if row["split"] == "train":
      assert row["learning_rate"] == pytest.approx(float(rate(row["step"] - 1)), rel=1e-5)
