"""The running of a sweep, with an engine that trains nothing: what is retried, what is counted, what is written."""

import json
import signal
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from nin_jax import crashes
from nin_jax.sweep import events, pool, run
from nin_jax.sweep.record import Record
from nin_jax.sweep.trial import Trial
from nin_jax.sweep.work import directory
from nin_jax.train import Interrupted, WorkdirError

RESULT = {"test_accuracy": 0.5, "train_accuracy": 0.5, "steps": 3, "params": 1, "macs": 2, "flops": 4, "train_flops": 8}
RESULT |= {"device": "cpu", "devices": 1}


def trial(number, flops=1):
  overrides = {"model.width": flops, "seed": number}
  return Trial(f"{number:03d}", overrides, ConfigDict({"seed": number}), 1, 2, flops, None)


class Engine:
  """Does at each submission what the trials' script says next; (kind, …) or nothing, for an end in success."""

  def __init__(self, workdir, script, size=2):
    self.workdir, self.script, self.size = workdir, script, size
    self.submitted, self.answers, self.at = [], [], {}

  def free(self):
    return self.size - len(self.at)

  def submit(self, task):
    going = tuple(trial["trial"] for trial in task["trials"] if not trial["left_out"])
    self.submitted.append(going)
    self.at[going] = [events.Started(going, "worker 1"), *self._outcome(going)]

  def _outcome(self, going):
    lost = next((step for name in going for step in self.script.get(name, [])[:1] if step[0] == "lost"), None)
    if lost:
      for name in going:
        self.script.get(name, [None]).pop(0)
        if lost[1]:
          (directory(self.workdir, name) / "checkpoints" / str(lost[1])).mkdir(parents=True)
      return [events.Lost(going, "worker 1 ended with signal SIGKILL")]
    told = []
    for name in going:
      step = self.script[name].pop(0) if self.script.get(name) else ("end",)
      if step[0] == "end":
        told.append(self._ended(name))
      elif step[0] == "fail":
        told.append(events.Failed(name, step[1], final=step[2]))
      else:
        told.append(step[1])
    return told

  def _ended(self, name):
    place = directory(self.workdir, name)
    place.mkdir(parents=True, exist_ok=True)
    (place / "result.json").write_text(json.dumps(RESULT))
    (place / "config.json").write_text(json.dumps({"seed": int(name)}))
    return events.Ended(name, RESULT)

  def happened(self, timeout):
    return self.at.pop(next(iter(self.at))) if self.at else []

  def answer(self, trials, go):
    self.answers.append((trials, go))

  def stop(self):
    saved, self.at = [events.Saved(going) for going in self.at], {}
    return saved


class Seen(list):
  def show(self, event):
    self.append(event)


def sweep(workdir, groups, script, retries=2, **engine):
  workdir.mkdir(exist_ok=True)
  record = Record(workdir, [trial for group in groups for trial in group], retries)
  engine = Engine(workdir, script, **engine)
  run.run(workdir, run.Planned(groups), record, engine, Seen())
  return engine, record


def rows(workdir):
  return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def pairs(*flops):
  return [[trial(2 * place, flops), trial(2 * place + 1, flops)] for place, flops in enumerate(flops)]


def test_the_most_expensive_come_first_and_results_are_in_the_order_of_the_plan(tmp_path):
  engine, _ = sweep(tmp_path, pairs(1, 3, 2), {})
  assert engine.submitted == [("002", "003"), ("004", "005"), ("000", "001")]
  assert [row["trial"] for row in rows(tmp_path)] == [f"{number:03d}" for number in range(6)]
  assert {row["status"] for row in rows(tmp_path)} == {"done"}


def test_started_again_it_skips_what_is_done(tmp_path):
  sweep(tmp_path, pairs(1), {})
  engine, _ = sweep(tmp_path, pairs(1, 2), {})
  assert engine.submitted == [("002", "003")]
  assert [row["trial"] for row in rows(tmp_path)] == ["000", "001", "002", "003"]


def test_a_trial_that_fails_is_tried_again_up_to_the_limit_without_the_others(tmp_path):
  script = {"001": [("fail", "out of memory", False)] * 9}
  engine, record = sweep(tmp_path, pairs(1), script, retries=2)
  assert engine.submitted == [("000", "001"), ("001",), ("001",)]
  done, failed = rows(tmp_path)
  assert (done["status"], done["error"], done["attempts"]) == ("done", None, 1)
  assert (failed["status"], failed["error"], failed["attempts"]) == ("failed", "out of memory", 3)
  assert failed["test_accuracy"] is None
  assert (failed["params"], failed["macs"], failed["flops"], failed["train_flops"]) == (1, 2, 4, 1)
  assert record.faults() == ["001"]
  # The limit holds for later starts too; a higher one gives it another chance.
  assert sweep(tmp_path, pairs(1), {}, retries=2)[0].submitted == []
  assert sweep(tmp_path, pairs(1), {}, retries=3)[0].submitted == [("001",)]
  assert [(row["status"], row["attempts"]) for row in rows(tmp_path)] == [("done", 1), ("done", 4)]


def test_what_would_fail_again_is_not_tried_again(tmp_path):
  engine, record = sweep(tmp_path, pairs(1), {"000": [("fail", "the loss is nan", True)]})
  assert engine.submitted == [("000", "001")]
  assert record.failures() == {"000": "the loss is nan"}
  assert record.faults() == []


def test_lost_workers_count_only_where_nothing_was_gained(tmp_path):
  gains = [("lost", 10), ("lost", 20), ("lost", 30), ("lost", 40)]
  engine, _ = sweep(tmp_path / "gains", pairs(1), {"000": list(gains), "001": list(gains)}, retries=1)
  assert len(engine.submitted) == 5
  assert {row["status"] for row in rows(tmp_path / "gains")} == {"done"}
  stuck = [("lost", 10)] + [("lost", 0)] * 9
  engine, _ = sweep(tmp_path / "stuck", pairs(1), {"000": list(stuck), "001": list(stuck)}, retries=1)
  assert len(engine.submitted) == 2
  assert {row["status"] for row in rows(tmp_path / "stuck")} == {"failed"}


def test_workers_lost_in_one_moment_are_taken_up_once_each(tmp_path):
  class AtOnce(Engine):
    def happened(self, timeout):
      told, self.at = [event for group in self.at.values() for event in group], {}
      return told

  groups = pairs(1, 2)
  record = Record(tmp_path, [trial for group in groups for trial in group], 2)
  engine = AtOnce(tmp_path, {trial.id: [("lost", 10)] for group in groups for trial in group})
  run.run(tmp_path, run.Planned(groups), record, engine, Seen())
  assert sorted(engine.submitted) == [("000", "001")] * 2 + [("002", "003")] * 2
  assert [row["attempts"] for row in rows(tmp_path)] == [2] * 4


def test_a_result_that_a_lost_worker_could_not_tell_of_counts(tmp_path):
  class Silent(Engine):
    def submit(self, task):
      super().submit(task)
      for going in self.at:
        self.at[going] = [events.Lost(going, "worker 1 ended with signal SIGKILL")]

  [group] = pairs(1)
  record = Record(tmp_path, group, 0)
  run.run(tmp_path, run.Planned([group]), record, Silent(tmp_path, {}), Seen())
  assert {row["status"] for row in rows(tmp_path)} == {"done"}


def test_a_disk_that_is_full_ends_the_sweep(tmp_path):
  broken = events.Broken(("000", "001"), "results.jsonl can't be written: No space left on device")
  with pytest.raises(WorkdirError, match="No space left"):
    sweep(tmp_path, pairs(1), {"000": [("tell", broken)]})


def test_a_signal_has_everything_saved(tmp_path):
  class Signalled(Engine):
    def happened(self, timeout):
      signal.raise_signal(signal.SIGTERM)
      return []

  groups = pairs(1, 2, 3)
  record, shown = Record(tmp_path, [trial for group in groups for trial in group], 0), Seen()
  engine = Signalled(tmp_path, {})
  with pytest.raises(Interrupted) as interrupted:
    run.run(tmp_path, run.Planned(groups), record, engine, shown)
  assert interrupted.value.signal == signal.SIGTERM
  assert shown == [events.Saved(("004", "005")), events.Saved(("002", "003"))]
  assert rows(tmp_path) == []
  assert all(record.is_open(trial.id) for group in groups for trial in group)


def test_events_travel_as_json():
  told = [
    events.Started(("a", "b"), "worker 1"),
    events.Evaluated(("a",), 3, (0.25,)),
    events.Ended("a", {"test_accuracy": 0.5}),
    events.Failed("a", "so", True),
  ]
  assert [events.from_json(json.loads(json.dumps(events.to_json(event)))) for event in told] == told


@pytest.mark.parametrize(("number", "submissions"), [(signal.SIGSEGV, 1), (signal.SIGABRT, 1), (signal.SIGKILL, 3)])
def test_a_worker_that_crashes_in_native_code_fails_its_trials_at_once(tmp_path, number, submissions):
  """A crash may follow wrong results, so it is final; SIGKILL comes from outside, so it is retried."""
  submitted = []

  class Crashing(pool.Pool):
    def submit(self, task):
      submitted.append([trial["trial"] for trial in task["trials"] if not trial["left_out"]])
      super().submit(task)

  class Dying(subprocess.Popen):
    def __init__(self, words, **more):
      code = f"import os, sys; sys.stdin.readline(); os.kill(os.getpid(), {number:d})"
      super().__init__([sys.executable, "-c", code], **more)

  def lower(lowering):
    for trial in group:
      with trial.config.unlocked():
        trial.config.lowering = lowering

  [group] = pairs(1)
  lower("auto")
  record = Record(tmp_path, group, 2)
  with pytest.MonkeyPatch.context() as patch, Crashing(tmp_path, workers=1) as engine:
    patch.setattr(subprocess, "Popen", Dying)
    run.run(tmp_path, run.Planned([group]), record, engine, Seen())
  assert submitted == [["000", "001"]] * submissions
  log = tmp_path / "workers" / "1.log"
  crash = "" if number == signal.SIGKILL else f", a crash in native code ({crashes.ADVICE})"
  for row in rows(tmp_path):
    assert (row["status"], row["attempts"]) == ("failed", submissions)
    assert row["error"] == f"worker 1 ended with signal {number.name}{crash}; see {log}"
  assert record.faults() == ["000", "001"]  # the sweep ends with status 1
  again = Record(tmp_path, group, 2)
  assert again.faults() == ["000", "001"]
  assert not any(again.is_open(trial.id) for trial in group)
  lower("xla")
  with_another_lowering = Record(tmp_path, group, 2)
  assert all(with_another_lowering.is_open(trial.id) for trial in group) == (number != signal.SIGKILL)
