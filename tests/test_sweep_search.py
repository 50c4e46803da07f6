"""Searches: what is asked for, what is told, and that a search that was killed goes on as if it had not been."""

import json
import statistics
import sys
import warnings

import pytest
from searches import AXES, RATES, Fake, Silent, accuracy, base, planned, searched, start, states, trials
from test_sweep_commands import files

from configs import inception_cifar10
from nin_jax.errors import ConfigError
from nin_jax.sweep import distributions, plan_file, plan_table, ranges, run, search, space


def test_it_finds_better_points_than_a_sample_of_the_same_size(tmp_path):
  found, drawn = [], []
  for seed in range(5):
    _, _, rows = searched(tmp_path / str(seed), space.sample(24, AXES), changes={"seed": seed})
    assert len(rows) == 24
    found.append(max(row["test_accuracy"] for row in rows))
    drawn.append(max(map(accuracy, space.sample(24, AXES, seed=seed))))
  assert statistics.fmean(found) > statistics.fmean(drawn) + 0.03


def test_values_lie_in_their_ranges_and_are_typed(tmp_path):
  axes = {
    **AXES,
    "model.stem_features": space.choice([(8,), (16,), (8, 8)]),
    "train.epochs": space.integers(1, 3),  # a float in the config
    "optimizer.nesterov": space.choice([True, False]),
  }
  searched(tmp_path, space.sample(12, axes))
  for overrides in planned(tmp_path):
    assert list(overrides) == list(axes)
    assert 1e-4 <= overrides["optimizer.learning_rate"] <= 1.0
    assert overrides["model.inception_1a.reduce3x3"] in (2, 4, 8, 16, 32, 64)
    assert overrides["model.stem_features"] in ((8,), (16,), (8, 8))
    assert type(overrides["train.epochs"]) is float
    assert type(overrides["optimizer.nesterov"]) is bool
  read = plan_file.read(tmp_path)
  assert search.ranges(read) == axes
  again = [distributions.point(axes, trial.params) for trial in trials(tmp_path) if trial.state.name == "COMPLETE"]
  assert all(point in planned(tmp_path) for point in again)
  numbers = [trial.config.model.inception_1a.reduce3x3 for trial in read.trials]
  assert numbers == [overrides["model.inception_1a.reduce3x3"] for overrides in planned(tmp_path)]


def test_what_costs_too_much_is_not_trained_but_learnt_from(tmp_path):
  widths = {**RATES, "model.inception_1a.reduce3x3": space.power_of_two(1, 256)}
  most = 600_000
  engine, _, rows = searched(tmp_path, space.sample(30, widths), max_macs=most)
  assert len(rows) == len(engine.trained) == 30
  assert max(trial.macs for trial in plan_file.read(tmp_path).trials) <= most
  refused = [trial for trial in trials(tmp_path) if trial.constraints.get("macs", 0) > 0]
  assert refused
  assert {trial.state.name for trial in refused} == {"PRUNED"}
  assert len(trials(tmp_path)) == 30 + len(refused)
  over = [trial.constraints["macs"] > 0 for trial in trials(tmp_path)]
  tenth = [place for place, refused in enumerate(over) if not refused][9]
  assert statistics.fmean(over[tenth + 1 :]) < 0.4  # by chance it is 5 of 9


def test_limits_that_nothing_keeps(tmp_path):
  with pytest.raises(ConfigError, match=r"--max_params=10: accepted is \d{4,} or more, the least of 100 points"):
    searched(tmp_path, max_params=10)
  assert planned(tmp_path) == []
  _, _, rows = searched(tmp_path, max_params=10**9)  # nothing has come of the first one: its directory serves
  assert len(rows) == 20


def test_what_is_impossible_is_left_out(tmp_path):
  engine, _, rows = searched(tmp_path, space.sample(10, {**RATES, "data.crop": space.choice([0, 8, 99])}))
  assert len(rows) == len(engine.trained) == 10
  assert 99 not in [overrides["data.crop"] for overrides in planned(tmp_path)]
  errors = [trial.user_attrs["error"] for trial in trials(tmp_path) if "error" in trial.user_attrs]
  assert errors
  assert "data.crop=99: accepted is" in errors[0]
  with pytest.raises(ConfigError, match=r"data\.crop=99"):
    searched(tmp_path / "none", space.sample(10, {**RATES, "data.crop": space.choice([99])}))


def test_a_point_is_not_trained_twice(tmp_path):
  engine, source, rows = searched(
    tmp_path,
    {"model.inception_1a.reduce3x3": [2, 4, 8]} | {"optimizer.nesterov": [True]},
    Fake(accuracy=lambda overrides: 0.5),
    points=9,
  )
  assert len(engine.trained) == len(rows) == 3  # there are no more
  assert source.to_come == 0
  assert source.next() is None
  told = trials(tmp_path)
  assert 3 + 100 <= len(told) <= 3 + 2 * 100
  assert {trial.value for trial in told} == {0.5}


def test_the_bad_ones_are_ended_early(tmp_path):
  engine, _, rows = searched(tmp_path, space.sample(30, AXES))
  done = [row["test_accuracy"] for row in rows if row["status"] == "done"]
  pruned = [row for row in rows if row["status"] == "pruned"]
  assert len(done) + len(pruned) == 30
  assert len(pruned) >= 5
  assert engine.evaluated < 30 * 10 * 0.9
  whole = [accuracy(row["overrides"]) for row in pruned]
  assert max(whole) < max(done)
  assert statistics.fmean(whole) < statistics.fmean(done)
  assert all(row["steps"] >= 40 for row in pruned)
  assert states(tmp_path).count("PRUNED") == len(pruned)


def test_a_pruner_compares_equal_parts_of_trainings(tmp_path):
  axes = {**AXES, "train.steps": space.choice([100, 200])}
  searched(tmp_path, space.sample(5, axes), changes={"seed": 1})
  lengths = {row.config.train.steps for row in plan_file.read(tmp_path).trials}
  assert lengths == {100, 200}
  reported = [set(trial.intermediate_values) for trial in trials(tmp_path)]
  assert set(range(10, 100, 10)) in reported
  assert set(range(5, 51, 5)) in reported  # of 200 steps, of which the fake makes 100


def test_seeds_are_trained_together_and_count_by_their_mean(tmp_path):
  sweep = space.product(space.sample(6, AXES), space.values("seed", range(3)))
  engine, _, rows = searched(tmp_path, sweep)
  assert len(rows) == 18
  assert [row["overrides"]["seed"] for row in rows] == [0, 1, 2] * 6
  assert [row["trial"] for row in rows] == engine.trained
  assert len({json.dumps({**row["overrides"], "seed": None}) for row in rows}) == 6
  by_id = {row["trial"]: row for row in rows}
  for trial in trials(tmp_path):
    group = [by_id[name] for name in trial.user_attrs["trials"]]
    if trial.state.name == "COMPLETE":
      assert trial.value == pytest.approx(statistics.fmean(row["test_accuracy"] for row in group))
      assert trial.value == pytest.approx(accuracy({**group[0]["overrides"], "seed": 1}))


def test_a_training_that_cannot_go_on_is_a_bad_one_and_a_fault_is_none(tmp_path):
  diverges = lambda overrides: ("not finite", True) if overrides["optimizer.learning_rate"] > 0.03 else None
  _, _, rows = searched(tmp_path / "1", engine=Fake(fails=diverges))
  failed = [row for row in rows if row["status"] == "failed"]
  assert failed
  by_id = {name: trial for trial in trials(tmp_path / "1") for name in trial.user_attrs["trials"]}
  assert {by_id[row["trial"]].state.name for row in failed} == {"PRUNED"}
  assert {by_id[row["trial"]].user_attrs["error"] for row in failed} == {"not finite"}
  late = [row["overrides"]["optimizer.learning_rate"] > 0.03 for row in rows[-6:]]
  assert sum(late) <= 2  # the sampler keeps away
  engine, _, rows = searched(tmp_path / "2", space.sample(3, AXES), Fake(fails=lambda overrides: ("a fault", False)))
  assert states(tmp_path / "2") == ["FAIL"] * 3
  assert len(engine.trained) == 6  # each was tried again


def test_what_was_found_is_said(tmp_path):
  _, source, rows = searched(tmp_path, space.sample(8, RATES), max_macs=10**9)
  best = max(rows, key=lambda row: row["test_accuracy"])
  rate, percent = best["overrides"]["optimizer.learning_rate"], 100 * best["test_accuracy"]
  said = f"best: test accuracy {percent:.2f} %  learning_rate={rate:.4g}  (8 points trained of 8 drawn)"
  assert source.summary() == said
  _, source, _ = searched(tmp_path / "few", {"optimizer.learning_rate": [0.1, 0.2]}, points=3)
  assert "(2 points trained of 1" in source.summary()
  assert source.summary().endswith("; the last 100 had been tried before or can't be trained)")


def test_it_is_reproducible(tmp_path):
  searched(tmp_path / "1")
  searched(tmp_path / "2")
  searched(tmp_path / "3", changes={"seed": 1})
  assert planned(tmp_path / "1") == planned(tmp_path / "2")
  assert planned(tmp_path / "1")[0] != planned(tmp_path / "3")[0]


def test_workers_spread(tmp_path):
  engine, _, rows = searched(tmp_path, space.sample(16, AXES), Fake(workers=4))
  assert len(rows) == len(set(engine.trained)) == 16
  assert len({json.dumps(overrides) for overrides in planned(tmp_path)}) == 16


def test_files_that_were_taken_away_are_made_again(tmp_path):
  searched(tmp_path, points=4)
  gone = plan_file.read(tmp_path).trials[1].id
  (tmp_path / "trials" / gone / "result.json").unlink()
  engine, _, rows = searched(tmp_path, points=4)
  assert engine.trained == [gone]
  assert len(rows) == len(trials(tmp_path)) == 4


def test_another_search_or_other_limits_need_another_directory(tmp_path):
  searched(tmp_path, space.sample(3, RATES))
  for options, said in (
    ({"sweep": space.sample(3, {"optimizer.learning_rate": space.log_uniform(1e-3, 1.0)})}, "search ranges"),
    ({"sweep": space.product(space.sample(3, RATES), {"seed": [1]})}, r"search seeds None → \[1\]"),
    ({"sweep": space.sample(3, RATES), "max_macs": 10**9}, "--max_macs None → 1000000000"),
    ({"sweep": space.sample(3, RATES), "changes": {"train.steps": 50}}, "train.steps 100 → 50"),
  ):
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=said):
      start(tmp_path, **options)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
  ("sweep", "said"),
  [
    (inception_cifar10.sweep_bottleneck(), "--search='optuna': .*; a chain has no independent axes"),
    (space.zip({"seed": [1, 2], "data.crop": [0, 8]}), "a zip has no independent axes"),
    ([{"data.crop": 8}], "a list of overrides has no independent axes"),
    ({"seed": range(3)}, "that varies more than the seed"),
    ({"data.crop": [0, 8]}, "--trials=None: accepted is a number of points"),
    (space.sample(3, {**RATES, "seed": space.integers(0, 5)}), "seed=.*: a search draws none"),
    (space.sample(3, {"optimizer.learning_rat": space.uniform(0, 1)}), "did you mean learning_rate"),
    (space.sample(3, {"train.steps": space.uniform(0, 1)}), "train.steps=0.*: accepted is a whole number"),
  ],
)
def test_what_cannot_be_searched(sweep, said, tmp_path):
  with pytest.raises(ConfigError, match=said):
    start(tmp_path / "new", sweep)
  assert not (tmp_path / "new").exists()


def test_held_fields_are_not_searched(tmp_path):
  plan, _, source = start(
    tmp_path, space.product(space.sample(5, AXES), {"seed": [1, 2]}), held=["optimizer.weight_decay", "seed"]
  )
  assert plan.held == ("optimizer.weight_decay", "seed")
  (trial,) = source.next()
  assert list(trial.overrides) == ["optimizer.learning_rate", "model.inception_1a.reduce3x3"]


def test_the_plan_says_what_is_searched():
  sweep = space.product(space.sample(5, AXES), {"seed": [1, 2]})
  plan = search.plan(sweep, base(), max_macs=3_000_000)
  table = plan_table.table(plan)
  assert "learning_rate  log uniform: 0.0001 to 1" in table
  assert table.endswith("a search of 5 points; each with the seeds 1, 2; none over --max_macs=3M")
  assert plan_file.to_json(plan)["search"]["ranges"]["model.inception_1a.reduce3x3"] == {"power_of_two": [2, 64]}


def test_without_optuna(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "optuna", None)
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r"--search='optuna': .*pip install -r requirements-search\.txt"):
    start(tmp_path)


def test_optuna_says_nothing(tmp_path, capfd):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    searched(tmp_path, points=12, max_macs=900_000)
  assert [warning for warning in caught if "optuna" in str(warning.message).lower()] == []
  assert capfd.readouterr() == ("", "")


def test_ranges_keep_their_bounds_as_distributions():
  axes = {
    "a": space.log_uniform(0.1, 0.3),
    "b": ranges.PowerOfTwo(4, 4 << 3),
    "c": space.choice([1]),
  }
  low = {"a": 0.1, "log2 b": 2, "c": "1"}
  assert distributions.point(axes, low) == {"a": 0.1, "b": 4, "c": 1}
  assert distributions.of(axes)["log2 b"].high == 5


def test_one_group_at_a_time_is_handed_out_until_enough_are(tmp_path):
  _, record, source = start(tmp_path, points=2)
  assert source.to_come == 2
  first, second = source.next(), source.next()
  assert first[0].id[:3] == "000"
  assert second[0].id[:3] == "001"
  assert source.next() is None
  assert source.to_come == 0
  run.run(tmp_path, source, record, Fake(), Silent())  # nothing is left to hand out
