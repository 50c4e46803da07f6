"""Means, intervals, the front and the knee: published values, and a front found by brute force."""

import json
import math

import pytest
import sweep_files
from hypothesis import given
from hypothesis import strategies as st

from nin_jax.errors import ConfigError
from nin_jax.report import markdown, read, summarize, table
from nin_jax.report.results import metrics
from nin_jax.report.statistics import Setting, estimate, front, front_of, knee, settings

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def lines(scale, seed, accuracy, macs, **more):
  trial = f"{scale}-{seed}"
  about = {"trial": trial, "overrides": {"model.reduce_scale": scale, "seed": seed}, "seed": seed, "macs": macs}
  return about | {"params": macs // 10, "status": "done", "error": None, "test_accuracy": accuracy} | more


def found(tmp_path, rows):
  """The summary of a sweep of these lines."""
  plan = [{name: row[name] for name in ("trial", "overrides", "seed", "macs", "params")} for row in rows]
  (tmp_path / "sweep.json").write_text(json.dumps({"sweep": "widths", "config": "c.py", "trials": plan}))
  sweep_files.rewrite(tmp_path, rows)
  return summarize(read(tmp_path))


def test_the_interval_is_students_t():
  # t(0.975, 2) = 4.302653, t(0.975, 9) = 2.262157: the tables' values.
  three = estimate([0.9, 0.92, 0.97])
  assert three.mean == pytest.approx(0.93)
  assert three.sd == pytest.approx(math.sqrt(0.0013))
  assert three.error == pytest.approx(math.sqrt(0.0013 / 3))
  assert three.half == pytest.approx(4.302653 * math.sqrt(0.0013 / 3), rel=1e-6)
  ten = estimate(list(range(10)))
  assert ten.half == pytest.approx(2.262157 * math.sqrt(55 / 6) / math.sqrt(10), rel=1e-6)


def test_one_seed_has_no_interval_and_equal_seeds_one_of_exactly_zero():
  alone = estimate([0.9])
  assert (alone.n, alone.mean, alone.sd, alone.error, alone.half) == (1, 0.9, None, None, None)
  equal = estimate([358 / 360] * 3)
  assert (equal.mean, equal.error, equal.half) == (358 / 360, 0.0, 0.0)
  with pytest.raises(ValueError, match="at least 1"):
    estimate([])


@given(POINTS, st.booleans())
def test_the_front_is_what_brute_force_finds(points, larger):
  sign = -1 if larger else 1

  def dominates(a, b):
    return sign * a[0] <= sign * b[0] and a[1] >= b[1] and a != b

  expected = {i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)}
  got = front(points, larger)
  assert set(got) == expected
  assert len(got) == len(expected)
  assert [points[i][0] for i in got] == sorted(points[i][0] for i in got)


def test_the_knee_is_the_cheapest_within_one_standard_error_of_the_best(tmp_path):
  best = [0.98, 0.99, 1.00]  # standard error 0.00577: the least that is as good is 0.98423
  rows = [lines(1.0, seed, accuracy, 4000) for seed, accuracy in enumerate(best)]
  rows += [lines(0.5, seed, 0.9843, 2000) for seed in range(3)]
  rows += [lines(0.25, seed, 0.9841, 1000) for seed in range(3)]
  summary = found(tmp_path, rows)
  assert summary.knee.setting.overrides == {"model.reduce_scale": 0.5}
  assert summary.knee.best.overrides == {"model.reduce_scale": 1.0}
  assert "model.reduce_scale=0.5: 98.43 ± 0.00 % at 2.000K MACs, 50 % of the best's" in " ".join(table(summary).split())


@given(
  st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(90, 100), min_size=1, max_size=3)), min_size=1, max_size=6)
)
def test_the_knee_is_on_the_front_and_never_dearer_than_the_best(drawn):
  made = [Setting({"n": i}, (), estimate(values), {"macs": macs}) for i, (macs, values) in enumerate(drawn)]
  there = knee(made)
  assert any(there.setting is member for member in front_of(made))
  assert there.setting.numbers["macs"] <= there.best.numbers["macs"]
  assert there.best.accuracy.mean == max(setting.accuracy.mean for setting in made)


def test_with_one_seed_the_best_is_the_knee_and_it_is_said(tmp_path):
  summary = found(tmp_path, [lines(1.0, 0, 0.99, 4000), lines(0.5, 0, 0.9899, 2000)])
  assert summary.knee.setting is summary.knee.best
  text = " ".join(table(summary).split())
  assert "model.reduce_scale=1.0: 99.00 % at" in text
  assert "one seed, so there is no standard error" in text
  assert "± 0" not in text


def test_only_trials_that_are_done_count(tmp_path):
  rows = [lines(1.0, 0, 0.99, 4000), lines(1.0, 1, 0.98, 4000), lines(1.0, 2, 0.10, 4000, status="pruned")]
  rows += [lines(1.0, 3, None, 4000, status="failed", error="not finite"), lines(0.5, 0, None, 2000, status="failed")]
  summary = found(tmp_path, rows)
  half, full = settings(summary.results)
  assert (full.accuracy.n, full.accuracy.mean) == (2, pytest.approx(0.985))
  assert half.accuracy is None
  assert summary.results.progress == "5 trials, 2 failed, 1 pruned"
  assert "2 of 4" in table(summary)
  assert "0 of 1" in table(summary)


def test_the_tables_of_a_sweep(tmp_path):
  sweep_files.write(tmp_path, trials=False)
  summary = summarize(read(tmp_path))
  text = table(summary)
  assert max(map(len, text.splitlines())) <= 100
  rows = text.splitlines()[2:8]
  assert [row.split()[0] for row in rows] == [f"reduce_scale={scale}" for scale in sweep_files.SCALES]
  assert rows[2].split()[1:] == ["99.07", "±", "0.40", "51.41K", "1.343M", "226.8G", "653.3", "3", "●", "knee"]
  assert rows[3].endswith("3")  # 0.5 is dearer than 0.25 and no better
  assert "17 of 18 trials, 1 failed" in text
  marked = markdown(summary).splitlines()
  assert all(line.count("|") == 9 for line in marked[:8])
  assert "| reduce_scale=0.25 | 99.07 ± 0.40 | 51.41K |" in marked[4]


def test_names_that_are_too_long_stand_above_their_values(tmp_path):
  fields = {"model.reduce_scale": 0.5, "optimizer.learning_rate": 0.01, "optimizer.weight_decay": 0.0005}
  rows = [lines(i, 0, 0.99, 4000 + i, overrides={**fields, "train.epochs": i, "seed": 0}) for i in range(3)]
  text = table(found(tmp_path, rows)).splitlines()
  assert text[0] == "setting: reduce_scale, learning_rate, weight_decay, epochs"
  assert [line.partition("  ")[0] for line in text[4:7]] == [f"0.5, 0.01, 0.0005, {i}" for i in range(3)]
  assert max(map(len, text)) <= 100


def test_names_that_markdown_or_a_terminal_would_read_are_shown_as_they_are(tmp_path):
  rows = [lines(1.0, 0, 0.99, 4000, overrides={"model.name": "a|b<i>\n\x1b[31m" + "x" * 200, "seed": 0})]
  summary = found(tmp_path, rows)
  assert "\x1b" not in table(summary)
  assert max(map(len, table(summary).splitlines()[:4])) <= 100
  row = markdown(summary).splitlines()[2]
  assert "a\\|b&lt;i>" in row


@pytest.mark.parametrize(
  ("break_it", "said"),
  [
    (lambda w: (w / "sweep.json").unlink(), "has a sweep.json"),
    (lambda w: (w / "sweep.json").write_text("{"), "sweep.json is whole"),
    (lambda w: (w / "sweep.json").write_text('{"trials": []}'), "sweep.json is whole"),
    (
      lambda w: (w / "sweep.json").write_text('{"trials": [{"trial": "../up", "overrides": {}}]}'),
      "sweep.json is whole",
    ),
    (lambda w: (w / "sweep.json").write_text('{"trials": [{"trial": "..", "overrides": {}}]}'), "sweep.json is whole"),
    (lambda w: (w / "results.jsonl").unlink(), "none is yet"),
    (lambda w: (w / "results.jsonl").write_text(""), "none is yet"),
    (lambda w: (w / "results.jsonl").write_bytes(b"\xff\xfe"), "results.jsonl is whole"),
    (lambda w: (w / "results.jsonl").write_text("\n[1]\n"), "results.jsonl is whole (line 2"),
    (
      lambda w: (w / "results.jsonl").write_text('{"trial": "000", "status": "done"}'),
      "results.jsonl is whole (line 1",
    ),
    (lambda w: (w / "results.jsonl").write_text((w / "results.jsonl").read_text()[:-9]), "(line 17"),
  ],
)
def test_files_that_are_not_whole_are_the_users_to_mend(tmp_path, break_it, said):
  sweep_files.write(tmp_path, trials=False)
  break_it(tmp_path)
  with pytest.raises(ConfigError) as caught:
    read(tmp_path)
  assert said in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["high", True, float("nan"), [1]])
def test_a_number_that_is_none_is_refused(tmp_path, value):
  rows = sweep_files.write(tmp_path, trials=False)
  sweep_files.rewrite(tmp_path, [rows[0] | {"test_accuracy": value}])
  said = (
    "results.jsonl is whole .line 1 is not"
    if value != value
    else "a number from 0 to 1 or null as test_accuracy of 000"
  )
  with pytest.raises(ConfigError, match=said):
    read(tmp_path)


def test_a_sweep_all_of_whose_trials_failed_says_how_many(tmp_path):
  rows = sweep_files.write(tmp_path, trials=False)
  sweep_files.rewrite(tmp_path, [row | {"status": "failed"} for row in rows])
  with pytest.raises(ConfigError, match=r"17 of 18 trials failed"):
    read(tmp_path)


def test_a_line_that_is_still_written_is_no_mistake(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "epoch": 0.5}\n{"step": 2, "ep')
  assert [row["step"] for row in metrics(path)] == [1]
  path.write_text('{"step": 1, "ep\n{"step": 2, "epoch": 1}\n')
  with pytest.raises(ConfigError, match=r"metrics\.jsonl is whole"):
    metrics(path)
