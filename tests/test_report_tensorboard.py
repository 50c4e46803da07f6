"""The HParams of each trial, parsed back from its event file."""

import json
import struct

import pytest
import sweep_files

from nin_jax import report
from nin_jax.report import hparams


def events(path):
  from tensorboardX.proto.event_pb2 import Event

  content, place, found = path.read_bytes(), 0, []
  while place < len(content):
    (size,) = struct.unpack_from("<Q", content, place)
    found.append(Event.FromString(content[place + 12 : place + 12 + size]))
    place += size + 16
  return found


def plugin(path):
  """{tag: the HParams plugin's data} and {tag: (step, scalar)}."""
  from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

  data, scalars = {}, {}
  for event in events(path):
    for value in event.summary.value:
      if value.metadata.plugin_data.plugin_name == "hparams":
        data[value.tag] = HParamsPluginData.FromString(value.metadata.plugin_data.content)
      else:
        scalars[value.tag] = (event.step, value.simple_value)
  return data, scalars


@pytest.fixture
def sweep(tmp_path):
  rows = sweep_files.write(tmp_path, scales=(0.125, 0.25))
  return report.read(tmp_path), rows


def test_a_trial_has_its_overrides_and_what_it_reached(sweep):
  results, rows = sweep
  paths = hparams.write(results)
  assert len(paths) == 6
  data, scalars = plugin(paths[3])
  start = data["_hparams_/session_start_info"].session_start_info.hparams
  assert {name: value.number_value for name, value in start.items()} == {"model.reduce_scale": 0.25, "seed": 0.0}
  metrics = [info.name.tag for info in data["_hparams_/experiment"].experiment.metric_infos]
  assert metrics == list(hparams.METRICS)
  assert set(scalars) == set(metrics)
  assert scalars["test/accuracy"] == (440, pytest.approx(rows[3]["test_accuracy"]))
  assert scalars["cost/macs"] == (440, rows[3]["macs"])
  assert data["_hparams_/session_end_info"].session_end_info.status == 1  # STATUS_SUCCESS


def test_a_failed_trial_says_so_and_has_its_cost(sweep):
  data, scalars = plugin(hparams.write(sweep[0])[2])
  assert data["_hparams_/session_end_info"].session_end_info.status == 2  # STATUS_FAILURE
  assert set(scalars) == {"cost/params", "cost/macs", "cost/train_flops"}


def test_made_again_it_is_the_same_file(sweep):
  results, _ = sweep
  first = {path: path.read_bytes() for path in hparams.write(results)}
  assert {path: path.read_bytes() for path in hparams.write(results)} == first
  for path in first:
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "tfevents" in path.name


def test_values_of_every_kind_have_a_column(tmp_path):
  overrides = {"a": True, "b": "word", "c": [1, 2], "d": None, "seed": 0}
  rows = sweep_files.write(tmp_path, scales=(0.25,), seeds=(0,))
  plan = tmp_path / "sweep.json"
  values = json.loads(plan.read_text())
  values["trials"][0]["overrides"] = overrides
  plan.write_text(json.dumps(values))
  assert rows
  data, _ = plugin(hparams.write(report.read(tmp_path))[0])
  start = data["_hparams_/session_start_info"].session_start_info.hparams
  assert start["a"].bool_value is True
  assert [start[name].string_value for name in "bcd"] == ["word", "[1, 2]", "null"]
