"""Files that are removed, cut or moved while a run or a sweep writes them: it says so, and ends with status 1."""

import logging
import os
import shutil

import pytest
from test_sweep_run import RESULT, Engine, Seen, pairs, rows
from test_train_checkpoint import progress_at, state_at
from test_train_journal import open_journal
from test_train_loop import tiny

from nin_jax.sweep import events, run, sending
from nin_jax.sweep.record import Record
from nin_jax.sweep.work import directory
from nin_jax.train import WorkdirError, train_and_evaluate
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.profile import Profile, jax
from nin_jax.train.run import Run
from nin_jax.train.tensorboard import Events


def replace_by_a_copy(path):
  shutil.copy(path, path.with_name("copy"))
  os.replace(path.with_name("copy"), path)


def replace_by_another(path):
  """Longer than it will become."""
  path.with_name("other").write_bytes(b"{}\n" * 1000)
  os.replace(path.with_name("other"), path)


def move_away(path):
  path.parent.rename(path.parent.with_name("elsewhere"))


MEDDLED = {
  "removed": lambda path: path.unlink(),
  "truncated": lambda path: os.truncate(path, 0),
  "copied": replace_by_a_copy,
  "another": replace_by_another,
  "moved": move_away,
}


@pytest.mark.parametrize("meddled", MEDDLED)
def test_lines_that_would_go_nowhere_are_noticed_at_the_next_one(meddled, tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  with open_journal(workdir) as record:
    record.write("train", 1, loss=1.0)
    MEDDLED[meddled](workdir / "metrics.jsonl")
    with pytest.raises(WorkdirError, match=r"run/metrics\.jsonl"):
      record.write("train", 2, loss=1.0)


@pytest.mark.parametrize("meddled", ["removed", "truncated", "moved"])
def test_lines_that_are_gone_are_noticed_before_a_checkpoint(meddled, tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  with open_journal(workdir) as record:
    record.write("train", 1, loss=1.0)
  with open_journal(workdir, resume_step=1) as record:  # no line of its own yet
    record.sync()
    MEDDLED[meddled](workdir / "metrics.jsonl")
    with pytest.raises(WorkdirError, match=r"run/metrics\.jsonl"):
      record.sync()


def test_lines_that_are_missing_when_a_run_is_resumed_are_warned_of(tmp_path, caplog):
  for step in (0, 7):
    with open_journal(tmp_path, resume_step=step) as record:
      record.write("train", step + 1, loss=1.0)
    assert caplog.records == []
  (tmp_path / "metrics.jsonl").unlink()
  with open_journal(tmp_path, resume_step=7):
    assert "metrics.jsonl is missing: it begins anew after step 7" in caplog.text


def test_lines_that_others_append_are_no_loss(tmp_path):
  with open_journal(tmp_path) as record:
    for step in range(1, 4):
      record.write("train", step, loss=1.0)
      with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 0, "split": "mine"}\n')
    record.sync()


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_checkpoints_that_are_gone_are_noticed_before_the_next_one_is_written(how, tmp_path):
  """Orbax would make the directory anew."""
  made = tmp_path / "checkpoints"
  with Checkpoints(tmp_path, 3) as checkpoints:
    checkpoints.save(state_at(1), progress_at(1))
    checkpoints.wait()
    shutil.rmtree(made) if how == "removed" else made.rename(tmp_path / "elsewhere")
    with pytest.raises(WorkdirError, match=r"checkpoints/1 is gone"):
      checkpoints.save(state_at(2), progress_at(2))
    with pytest.raises(WorkdirError, match=r"checkpoints/1 is gone"):
      checkpoints.wait()
  assert not made.exists()


def test_a_workdir_that_goes_while_a_checkpoint_is_written_is_named(tmp_path):
  """Not what Orbax or TensorStore say of a file in it."""
  workdir = tmp_path / "run"
  workdir.mkdir()

  def write(checkpoints):
    with checkpoints._writing():
      workdir.rename(tmp_path / "elsewhere")
      raise ValueError("Checkpoint directory does not exist: x.")

  with Checkpoints(workdir, 3) as checkpoints, pytest.raises(WorkdirError, match=r"run is gone$"):
    write(checkpoints)


def test_an_older_checkpoint_may_be_removed_to_make_room(tmp_path):
  with Checkpoints(tmp_path, 2) as checkpoints:
    for step in (1, 2):
      checkpoints.save(state_at(step), progress_at(step))
    checkpoints.wait()
    shutil.rmtree(tmp_path / "checkpoints" / "1")
    for step in (3, 4):
      checkpoints.save(state_at(step), progress_at(step))
  assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"3", "4"}


@pytest.mark.usefixtures("two_devices")
@pytest.mark.parametrize("lost", [".", "config.json"])
def test_a_training_whose_files_go_at_its_last_evaluation_has_no_result(lost, tmp_path, monkeypatch):
  workdir, evaluated = tmp_path / "run", Run.evaluated

  def meddle(self, step, test):
    evaluated(self, step, test)
    if step == self.setup.total_steps:
      self.wait()
      (workdir / lost).rename(tmp_path / "elsewhere")

  monkeypatch.setattr(Run, "evaluated", meddle)
  with pytest.raises(WorkdirError, match="gone"):
    train_and_evaluate(tiny(), workdir)
  assert not (workdir / "result.json").exists()


def test_tensorboard_may_go_and_training_does_not_notice(tmp_path, caplog):
  with open_journal(tmp_path, tensorboard=True) as record:
    record.write("train", 1, loss=1.0)
    shutil.rmtree(tmp_path / "tensorboard")
    with caplog.at_level(logging.WARNING):
      record.write("train", 2, loss=1.0)
      record.write("train", 3, loss=1.0)
  assert [entry.levelname for entry in caplog.records] == ["WARNING"]
  assert "TensorBoard" in caplog.text
  assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize("when", ["before", "later"])
def test_tensorboard_on_a_full_disk_is_warned_of_once(when, tmp_path, caplog):
  made = tmp_path / "tensorboard"
  events = Events(made, 0)
  if when == "before":
    made.write_text("a file")
  else:
    events.open()
    with open("/dev/full", "wb") as full:
      os.dup2(full.fileno(), events._writer._py_recordio_writer._writer.fileno())
  with caplog.at_level(logging.WARNING):
    for step in range(1, 4):
      events.write(step, {"train/loss": 1.0})
    events.close()
  assert len(caplog.records) == 1
  assert {"before": "File exists", "later": "No space left on device"}[when] in caplog.text


@pytest.mark.parametrize("fails", ["start_trace", "stop_trace"])
def test_a_trace_that_cannot_be_written_ends_no_training(fails, tmp_path, caplog, monkeypatch):
  def full(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: profile; No space left on device")

  for name in ("start_trace", "stop_trace"):
    monkeypatch.setattr(jax.profiler, name, full if name == fails else lambda *_: None)
  with Profile(tmp_path, 0, 2) as profile:
    for step in range(1, 9):
      profile.step(step)
  assert len(caplog.records) == 1
  assert "No space left on device" in caplog.text


class Meddling(Engine):
  """Ends the first group, and then meddles with the sweep's files."""

  def __init__(self, workdir, meddle):
    super().__init__(workdir, {}, size=1)
    self._meddle, self.stopped = meddle, 0

  def happened(self, timeout):
    told = super().happened(timeout)
    if len(self.submitted) == 2:
      self._meddle(self.workdir)
    return told

  def stop(self):
    self.stopped += 1
    return super().stop()


SWEEPS = {
  "plan": lambda workdir: (workdir / "sweep.json").unlink(),
  "cut": lambda workdir: os.truncate(workdir / "sweep.json", 3),
  "journal": lambda workdir: (workdir / "search.journal").unlink(),
  "workdir": lambda workdir: workdir.rename(workdir.with_name("elsewhere")),
  "trial": lambda workdir: shutil.rmtree(directory(workdir, "002")),
  "result": lambda workdir: (directory(workdir, "003") / "result.json").unlink(),
}


@pytest.mark.parametrize("case", SWEEPS)
def test_a_sweep_whose_files_go_saves_what_runs_and_says_so(case, tmp_path):
  workdir, groups = tmp_path / "sweep", pairs(1, 2, 0)
  workdir.mkdir()
  for name in ("sweep.json", "search.journal"):
    (workdir / name).write_text("{...}")
  record, engine = Record(workdir, [trial for group in groups for trial in group], 2), Meddling(workdir, SWEEPS[case])
  with pytest.raises(WorkdirError, match="sweep/"):
    run.run(workdir, run.Planned(groups), record, engine, Seen())
  assert engine.submitted == [("002", "003"), ("000", "001")]  # and nothing after that
  assert engine.stopped == 1
  if case == "workdir":
    assert not workdir.exists()
  else:
    gone = {"trial": "002", "result": "003"}.get(case)
    assert gone not in [row["trial"] for row in rows(workdir)]
    assert gone is None or record.is_open(gone)


def test_a_search_whose_journal_goes_while_it_is_told_says_so(tmp_path):
  class Told(run.Planned):
    def settled(self, group, record):
      (tmp_path / "search.journal").read_bytes()

  groups = pairs(1, 2)
  record = Record(tmp_path, [trial for group in groups for trial in group], 2)
  engine = Meddling(tmp_path, lambda _: None)
  with pytest.raises(WorkdirError, match=r"search\.journal can't be used: No such file"):
    run.run(tmp_path, Told(groups), record, engine, Seen())
  assert engine.stopped == 1


def test_a_result_that_is_not_visible_here_yet_is_not_taken_for_lost(tmp_path):
  class Remote(Engine):
    """On another machine, whose new files a network file system shows here up to a minute later."""

    def _ended(self, name):
      return events.Ended(name, RESULT)

  [group] = pairs(1)
  record = Record(tmp_path, group, 2)
  run.run(tmp_path, run.Planned([group]), record, Remote(tmp_path, {}), Seen())
  assert [row["status"] for row in rows(tmp_path)] == ["done", "done"]


def test_results_that_are_removed_are_written_again(tmp_path):
  groups = pairs(1, 2)
  record = Record(tmp_path, [trial for group in groups for trial in group], 2)
  engine = Meddling(tmp_path, lambda workdir: (workdir / "results.jsonl").unlink())
  run.run(tmp_path, run.Planned(groups), record, engine, Seen())
  assert len(rows(tmp_path)) == 4


def test_files_of_a_trial_do_not_make_the_workdir_of_a_sweep_anew(tmp_path):
  [group] = pairs(1)
  record = Record(tmp_path / "gone", group, 0)
  with pytest.raises(WorkdirError):
    record.failed("000", "out of memory", final=False)
  with pytest.raises(WorkdirError):
    sending.unpack({}, directory(tmp_path / "gone", "000"), {}, None)
  assert list(tmp_path.iterdir()) == []
