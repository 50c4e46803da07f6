"""Trainings that differ in their seed alone, by one program: each is what it is alone, and outlives the others."""

import json
import shutil

import jax
import numpy as np
import pytest
from test_train_loop import tiny

from nin_jax.train import TrainingStopped, steps, train_and_evaluate
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.loop import Seed, train_seeds
from nin_jax.train.program import Alone, Together
from nin_jax.train.run import Run
from nin_jax.train.setup import set_up
from nin_jax.train.watch import Pruned, Watch

TIMES = {"images_per_second", "step_seconds", "flops_per_second", "mfu", "wall_seconds"}
STEPS = 10


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def two_devices(monkeypatch):
  devices = jax.devices()
  monkeypatch.setattr(jax, "devices", lambda *_: devices[:2])


def config(seed):
  config = tiny()
  config.seed = seed
  return config


def seeds(directory, numbers=(7, 8, 9), **fields):
  return [Seed(config(number), directory / str(number), {"seed": number}, f"t{number}", **fields) for number in numbers]


def losses(program, setups, count, together=1):
  """[steps, lanes], of `together` steps a call."""
  state = program.place({lane: setup.first_state() for lane, setup in enumerate(setups)})
  found = []
  with program.batches(0) as batches:
    for _ in range(count // together):
      state, metrics = program.step(state, [next(batches) for _ in range(together)], 0)
      found += [[numbers["loss"] for numbers in of_step] for of_step in program.numbers(metrics)]
  return np.array(found)


@pytest.mark.parametrize(("count", "device_count"), [(3, 1), (3, 2), (2, 8)])
def test_each_seed_has_the_losses_that_it_has_alone(count, device_count, monkeypatch):
  devices = jax.local_devices()[:device_count]
  monkeypatch.setattr(jax, "devices", lambda *_: devices)
  setups = [set_up(config(seed)) for seed in range(count)]
  alone = np.concatenate([losses(Alone(setup), [setup], 4) for setup in setups], axis=1)
  together = losses(Together([setups[0].of_seed(setup.config) for setup in setups]), setups, 4)
  assert np.ptp(alone, axis=1).min() > 0.001  # the seeds do differ
  np.testing.assert_allclose(together, alone, rtol=2e-5)


@pytest.mark.parametrize("device_count", [1, 2])
def test_several_steps_in_a_call_are_those_of_single_ones(device_count, monkeypatch):
  devices = jax.local_devices()[:device_count]
  monkeypatch.setattr(jax, "devices", lambda *_: devices)
  setups = [set_up(config(seed)) for seed in range(3)]
  single, several = (losses(Together(setups), setups, 6, together) for together in (1, 3))
  assert np.ptp(single, axis=0).min() > 0.001  # the steps do differ
  np.testing.assert_allclose(several, single, rtol=2e-5)


@pytest.mark.parametrize(("count", "device_count"), [(2, 1), (3, 2)])
def test_vmapped_seeds_have_the_losses_of_one_in_a_call(count, device_count, monkeypatch):
  devices = jax.local_devices()[:device_count]
  monkeypatch.setattr(jax, "devices", lambda *_: devices)
  setups = [set_up(config(seed)) for seed in range(count)]
  one = losses(Together(setups), setups, 3)
  monkeypatch.setattr(steps, "seeds_of_call", lambda count, devices: count)
  program = Together(setups)
  state = program.place({lane: setup.first_state() for lane, setup in enumerate(setups)})
  assert len(state) == 1  # all in one call
  for lane, setup in enumerate(setups):
    jax.tree.map(np.testing.assert_array_equal, program.take(state, lane), setup.first_state())
  np.testing.assert_allclose(losses(program, setups, 3), one, rtol=1e-4)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  patch, devices = pytest.MonkeyPatch(), jax.devices()
  patch.setattr(jax, "devices", lambda *_: devices[:2])
  directory = tmp_path_factory.mktemp("together")
  results = train_seeds(seeds(directory), Watch())
  patch.undo()
  return directory, results


def test_each_has_a_workdir_as_if_trained_alone(unbroken, tmp_path):
  directory, results = unbroken
  alone = train_and_evaluate(config(8), tmp_path, overrides={"seed": 8}, trial="t8")
  mine = json.loads((directory / "8" / "result.json").read_text())
  assert results[1] == mine
  assert mine.keys() == alone.keys()
  assert mine["trained_together"] == 3
  same = set(mine) - TIMES - {"trained_together", "test_accuracy", "test_loss", "train_accuracy", "train_loss"}
  same -= {"best_test_accuracy", "best_step"}
  assert {name: mine[name] for name in same} == {name: alone[name] for name in same}
  for name in ("test_loss", "train_loss"):
    assert mine[name] == pytest.approx(alone[name], rel=1e-3)
  for row, other in zip(rows(directory / "8"), rows(tmp_path), strict=True):
    assert (row["step"], row["split"], row["train_flops"]) == (other["step"], other["split"], other["train_flops"])
    assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)


def rows(directory):
  return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def timeless(directory):
  result = json.loads((directory / "result.json").read_text())
  return [{name: row[name] for name in row.keys() - TIMES} for row in [*rows(directory), result]]


class BreakingOff(Watch):
  """Ends it all in the middle, as a kill does, at a step."""

  def __init__(self, step):
    self.step, self.begun = step, None

  def begins(self, step, total_steps):
    self.begun = step

  def stepped(self, step):
    if step == self.step:
      raise KeyboardInterrupt


@pytest.mark.parametrize("left", [{}, {8: [4]}, {9: []}])
def test_broken_off_they_go_on_from_what_all_have(unbroken, left, tmp_path):
  with pytest.raises(KeyboardInterrupt):
    train_seeds(seeds(tmp_path), BreakingOff(9))  # checkpoints at 4 and 8
  for seed, kept in left.items():  # as if it had been killed while the others' last checkpoints were written
    for path in (tmp_path / str(seed) / "checkpoints").iterdir():
      if int(path.name) not in kept:
        shutil.rmtree(path)
  watch = BreakingOff(None)
  train_seeds(seeds(tmp_path), watch)
  assert watch.begun == min([max(kept, default=0) for kept in left.values()], default=8)
  for seed in (7, 8, 9):
    assert timeless(tmp_path / str(seed)) == timeless(unbroken[0] / str(seed))


def test_what_has_ended_stays_and_the_others_go_on_the_same(unbroken, tmp_path):
  shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
  (tmp_path / "8" / "result.json").unlink()
  with Checkpoints(tmp_path / "8", 2) as checkpoints:
    checkpoints.forget_after(4)
  before = (tmp_path / "7" / "metrics.jsonl").read_bytes()
  results = train_seeds(seeds(tmp_path), Watch())
  assert sorted(results) == [0, 1, 2]
  assert (tmp_path / "7" / "metrics.jsonl").read_bytes() == before
  assert timeless(tmp_path / "8") == timeless(unbroken[0] / "8")


def test_one_that_cannot_go_on_does_not_stop_the_others(unbroken, monkeypatch, tmp_path):
  read, told = Run.read, []

  def reads(self, step, numbers, ended):
    if self.setup.config.seed == 8 and step == 6:
      numbers = numbers | {"objective": np.nan}
    read(self, step, numbers, ended)

  class Notes(Watch):
    def stopped(self, lane, reason):
      told.append((lane, reason))

  monkeypatch.setattr(Run, "read", reads)
  results = train_seeds(seeds(tmp_path), Notes())
  assert sorted(results) == [0, 2]
  [(lane, reason)] = told
  assert lane == 1
  assert isinstance(reason, TrainingStopped)
  assert not (tmp_path / "8" / "result.json").exists()
  assert [path.name for path in (tmp_path / "8" / "checkpoints").iterdir()] == ["4"]
  for seed in (7, 9):
    assert timeless(tmp_path / str(seed)) == timeless(unbroken[0] / str(seed))
  # Left out, it does not hold the others back.
  shutil.rmtree(tmp_path / "9")
  again = [
    Seed(seed.config, seed.directory, seed.overrides, seed.trial, seed.trial == "t8") for seed in seeds(tmp_path)
  ]
  assert sorted(train_seeds(again, Watch())) == [0, 2]
  assert timeless(tmp_path / "9") == timeless(unbroken[0] / "9")


def test_a_watch_may_end_it_after_an_evaluation(tmp_path):
  class Ends(Watch):
    def evaluated(self, step, accuracies):
      self.accuracies = accuracies
      return step < 8

  watch = Ends()
  with pytest.raises(Pruned) as pruned:
    train_seeds(seeds(tmp_path, (7, 8)), watch)
  assert pruned.value.step == 8
  assert watch.accuracies == [rows(tmp_path / str(seed))[-1]["accuracy"] for seed in (7, 8)]


def test_one_seed_needs_no_program_for_several(unbroken, tmp_path):
  results = train_seeds(seeds(tmp_path, (7,)), Watch())
  assert results[0]["trained_together"] == 1
