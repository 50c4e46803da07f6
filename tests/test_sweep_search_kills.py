"""A search that was stopped, however abruptly, goes on as if it had not been."""

import io
import os
import statistics

import optuna
import pytest
from searches import RATES, Fake, Killed, planned, searched, start, states, trials

from nin_jax.sweep import plan_file, run, space, study
from nin_jax.sweep.display import Display
from nin_jax.sweep.pool import Pool
from nin_jax.train import storage


def killed(patch, after, late):
  """Has the process end at a write to the disk, before it or after it."""
  left = [after]

  def counted(real):
    def write(*args, **kwargs):
      left[0] -= 1
      if left[0] == 0 and not late:
        raise Killed
      result = real(*args, **kwargs)
      if left[0] == 0:
        raise Killed
      return result

    return write

  patch.setattr(
    optuna.storages.journal.JournalFileBackend,
    "append_logs",
    counted(optuna.storages.journal.JournalFileBackend.append_logs),
  )
  patch.setattr(plan_file, "write_json", counted(storage.write_json))
  patch.setattr("searches.write_json", counted(storage.write_json))
  patch.setattr("nin_jax.sweep.record.write_json", counted(storage.write_json))
  patch.setattr("nin_jax.sweep.record.replace", counted(storage.replace))
  return left


SMALL = {**RATES, "model.inception_1a.reduce3x3": space.power_of_two(4, 64)}


@pytest.mark.slow
def test_it_goes_on_wherever_it_was_killed(tmp_path):
  """As if it had not been: the same points in the same order, each trained to its end once, each told once."""
  sweep = space.product(space.sample(9, SMALL), space.values("seed", range(2)))
  options = {"max_macs": 900_000}
  _, _, whole = searched(tmp_path / "whole", sweep, **options)
  assert {row["status"] for row in whole} == {"done", "pruned"}
  told = [(trial.state, trial.value) for trial in trials(tmp_path / "whole")]
  ended, moments = False, 0
  while not ended:
    moments += 1
    directory = tmp_path / f"killed-{moments}"
    after, late = 11 * moments - 10 + moments % 5, bool(moments % 2)
    with pytest.MonkeyPatch.context() as patch:
      left = killed(patch, after, late)
      try:
        searched(directory, sweep, **options)
        ended = left[0] > 0
      except Killed:
        pass
    engine, _, rows = searched(directory, sweep, **options)
    assert rows == whole, (after, late)
    finished = [trial for trial in trials(directory) if trial.params.keys() == SMALL.keys() or len(trial.params) == 2]
    assert [(trial.state, trial.value) for trial in finished] == told, (after, late)
    assert len(set(engine.trained)) == len(engine.trained)
  assert moments > 12


def test_it_goes_on_with_more_points_and_with_the_rest_of_a_stopped_one(tmp_path):
  _, record, source = start(tmp_path, points=7)
  engine = Fake(workers=3)
  for _ in range(3):
    group = source.next()
    engine.submit({"trials": [], "asks": True})
    assert record.is_open(group[0].id)
  first = planned(tmp_path)
  engine, source, rows = searched(tmp_path, points=7)
  assert len(rows) == 7
  assert planned(tmp_path)[:3] == first
  assert states(tmp_path).count("RUNNING") == 0
  assert len(trials(tmp_path)) == 7
  engine, _, rows = searched(tmp_path, points=9)
  assert (len(rows), len(engine.trained)) == (9, 2)
  engine, _, rows = searched(tmp_path, points=9)
  assert (len(rows), len(engine.trained)) == (9, 0)


def test_a_torn_line_of_the_journal_is_cut_off(tmp_path):
  searched(tmp_path, points=4)
  with (tmp_path / "search.journal").open("a") as journal:
    journal.write('{"op_code": 6, "wor')
  _, _, rows = searched(tmp_path, points=6)
  assert len(rows) == 6
  assert len(trials(tmp_path)) == 6


@pytest.mark.slow
def test_a_search_of_trainings(tmp_path, monkeypatch):
  """On two workers; it is stopped once and goes on."""
  monkeypatch.setattr(study, "FEWEST_FINISHED", 2)
  axes = {"optimizer.learning_rate": space.log_uniform(1e-5, 0.3)}
  sweep = space.product(space.sample(5, axes), {"seed": [0, 1]})
  changes = {"train.steps": 60, "eval.every_steps": 20, "data.batch_size": 32, "optimizer.warmup": 0.0}
  display = Display([], io.StringIO())

  def go_on(record, source):
    source.added = lambda group: display.add(group, source.to_come)
    with Pool(tmp_path, 2) as pool:
      run.run(tmp_path, source, record, pool, display)

  _, record, source = start(tmp_path, sweep, changes=changes)
  stopped = source.settled

  def stop(group, record):
    stopped(group, record)
    raise Killed

  source.settled = stop
  with pytest.raises(Killed):
    go_on(record, source)
  first = planned(tmp_path)
  assert "COMPLETE" in states(tmp_path)
  _, record, source = start(tmp_path, sweep, changes=changes)
  display.add(plan_file.read(tmp_path).trials, source.to_come)
  go_on(record, source)
  assert planned(tmp_path)[: len(first)] == first
  rows = record.rows()
  assert len(rows) == len({row["trial"] for row in rows}) == 10
  assert {row["status"] for row in rows} <= {"done", "pruned"}
  assert max(row["test_accuracy"] for row in rows) > 0.3
  assert set(states(tmp_path)) <= {"COMPLETE", "PRUNED"}
  for trial in trials(tmp_path):
    reached = [row["test_accuracy"] for row in rows if row["trial"] in trial.user_attrs["trials"]]
    assert trial.value == pytest.approx(statistics.fmean(reached))
  names = set(os.listdir(tmp_path / "trials"))
  assert names == {row["trial"] for row in rows}
