"""Runs with several steps in a call: what they write is what runs of single steps write."""

import os
import signal

import jax
import pytest
from test_train_loop import STEPS, assert_ended_the_same, numbers, tiny, tiny_nin

from nin_jax import data
from nin_jax.train import Interrupted, TrainingStopped, program, setup, train_and_evaluate

pytestmark = pytest.mark.usefixtures("two_devices")


def several():
  config = tiny()
  config.train.steps_per_call = 3
  return config


@pytest.fixture
def calls(monkeypatch):
  """How many steps each call makes."""
  made, original = [], program.Alone.step

  def step(self, state, batches, signal):
    made.append(len(batches))
    return original(self, state, batches, signal)

  monkeypatch.setattr(program.Alone, "step", step)
  return made


@pytest.mark.parametrize(("devices", "pipeline"), [(1, "resident"), (8, "resident"), (2, "stream")])
def test_several_steps_in_a_call_are_those_of_single_ones(devices, pipeline, calls, monkeypatch, tmp_path):
  some = jax.local_devices()[:devices]
  monkeypatch.setattr(jax, "devices", lambda *_: some)
  for name, config in (("single", tiny()), ("several", several())):
    config.data.pipeline = pipeline
    config.log.every_steps = 1
    train_and_evaluate(config, tmp_path / name)
  assert calls == [1] * STEPS + [3, 1, 3, 1, 1, 1]  # evaluations come after steps 4, 8 and 10
  single, together = numbers(tmp_path / "single"), numbers(tmp_path / "several")
  assert [(row["step"], row["split"]) for row in together] == [(row["step"], row["split"]) for row in single]
  for mine, other in zip(together, single, strict=True):
    for name in ("loss", "accuracy", *(["learning_rate"] if other["split"] == "train" else [])):
      assert mine[name] == pytest.approx(other[name], rel=1e-3)
  checkpoints = [
    sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir()) for name in ("single", "several")
  ]
  assert checkpoints[0] == checkpoints[1]


def test_a_run_of_calls_that_is_stopped_goes_on_bit_for_bit(monkeypatch, tmp_path):
  train_and_evaluate(several(), tmp_path / "unbroken")
  original = data.Resident.train_batch

  def train_batch(self, step):
    if step + 1 == 6:
      os.kill(os.getpid(), signal.SIGTERM)
    return original(self, step)

  with monkeypatch.context() as patch:
    patch.setattr(data.Resident, "train_batch", train_batch)
    with pytest.raises(Interrupted) as stopped:
      train_and_evaluate(several(), tmp_path / "stopped")
  assert stopped.value.step == 7  # the end of the call that the signal came into
  train_and_evaluate(several(), tmp_path / "stopped")
  like = setup.set_up(tiny()).first_state()
  assert_ended_the_same(tmp_path / "stopped", tmp_path / "unbroken", like)


@pytest.mark.parametrize(
  ("steps_per_call", "changes", "most"),
  [
    (4, {}, None),
    (5, {}, 4),
    (4, {"checkpoint.every_steps": 3}, 3),
    (STEPS + 1, {"eval.every_steps": 0, "eval.every_epochs": 0.0}, STEPS),  # never
  ],
)
def test_calls_that_no_pause_leaves_room_for_are_told_of(steps_per_call, changes, most, calls, capsys, tmp_path):
  config = tiny()
  config.train.steps_per_call = steps_per_call
  config.update_from_flattened_dict(changes)
  train_and_evaluate(config, tmp_path)
  said = f"train.steps_per_call={steps_per_call}: steps are made one by one, as there are at most {most} between"
  shown = capsys.readouterr().err
  assert (said in shown) if most else ("train.steps_per_call" not in shown)
  assert (max(calls) == 1) == (most is not None)


@pytest.mark.parametrize("steps_per_call", [2, 4])
def test_within_a_call_the_step_that_went_wrong_is_named(steps_per_call, tmp_path):
  config = tiny_nin(init="he")
  config.optimizer.learning_rate = 1e38
  config.train.update(steps=50, steps_per_call=steps_per_call)
  config.checkpoint.every_steps = 0
  with pytest.raises(TrainingStopped, match=r"at step 2 \(it was finite up to step 1\)"):
    train_and_evaluate(config, tmp_path / "infinite")
  config = tiny_nin(init_bias=-10.0, last_relu=True)
  config.train.update(dead_steps=3, steps=50, steps_per_call=steps_per_call)
  config.checkpoint.every_steps = 0
  with pytest.raises(TrainingStopped, match=r"dead: in steps 1 to 3 "):
    train_and_evaluate(config, tmp_path / "dead")
