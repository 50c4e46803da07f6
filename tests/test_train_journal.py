"""The run's record: what stands in the files after writing, breaking off and going on."""

import json
import math
import os
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.config import default
from nin_jax.train import journal
from nin_jax.train.journal import Journal
from nin_jax.train.storage import WorkdirError, write_json

KEYS = [
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
]


def open_journal(workdir, resume_step=0, tensorboard=False):
  c = default().log
  c.tensorboard = tensorboard
  return Journal(workdir, c, steps_per_epoch=40, resume_step=resume_step)


def rows(workdir):
  def refuse(name):
    raise AssertionError(f"{name} is not JSON")

  text = (workdir / "metrics.jsonl").read_text()
  assert not text or text.endswith("\n")
  return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_a_line_has_the_contracts_keys_in_order_and_is_there_at_once(tmp_path):
  with open_journal(tmp_path) as record:
    returned = record.write(
      "train",
      50,
      loss=jnp.float32(0.5),
      accuracy=np.float32(0.25),
      learning_rate=0.1,
      images_per_second=1e3,
      step_seconds=0.1,
      train_flops=10**18,
      flops_per_second=1e12,
      mfu=None,
      wall_seconds=7,
    )
    (row,) = rows(tmp_path)
    assert row == returned
    assert list(row) == KEYS
    assert row["train_flops"] == 10**18
    assert (row["step"], row["epoch"], row["split"]) == (50, 1.25, "train")
    assert (row["loss"], row["accuracy"], row["mfu"]) == (0.5, 0.25, None)
    record.write("test", jnp.int32(60), loss=0.4, accuracy=0.9)
    row = rows(tmp_path)[1]
    assert list(row) == KEYS
    assert (row["split"], row["step"], row["learning_rate"], row["images_per_second"]) == ("test", 60, None, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), jnp.float32("inf")])
def test_what_is_not_finite_is_null(tmp_path, value):
  with open_journal(tmp_path, tensorboard=True) as record:
    record.write("train", 1, loss=value)
  assert rows(tmp_path)[0]["loss"] is None
  assert [event for event in scalars(tmp_path) if event[0] == "train/loss"] == []


def test_an_unknown_number_is_refused(tmp_path):
  with open_journal(tmp_path) as record, pytest.raises(TypeError, match="los"):
    record.write("train", 1, los=1.0)


def test_each_line_is_one_write_and_a_short_one_is_an_error(tmp_path):
  record = open_journal(tmp_path)
  file, writes = record._file, []

  class Full:
    name, tell = file.name, file.tell

    def write(self, content):
      writes.append(content)
      return file.write(content) - (len(writes) > 1)

  record._file = Full()
  record.write("train", 1, loss=1.0)
  assert len(writes) == 1
  with pytest.raises(WorkdirError, match="whole"):
    record.write("train", 2, loss=1.0)
  file.close()


@pytest.mark.parametrize("evaluated", [True, False])
def test_an_evaluation_that_is_to_be_done_again_is_dropped(tmp_path, evaluated):
  with open_journal(tmp_path) as record:
    for step in range(1, 4):
      record.write("train", step, loss=1.0)
      record.write("test", step, loss=1.0)
  c = default().log
  c.tensorboard = False
  Journal(tmp_path, c, 10.0, 2, evaluated).close()
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [(row["split"], row["step"]) for row in rows] == [("train", 1), ("test", 1), ("train", 2)] + [
    ("test", 2)
  ] * evaluated


@pytest.mark.parametrize("torn", ["", '{"step": 3', '{"step": 3}', "null\n", "\n", "\0\0\0"])
def test_resuming_drops_later_lines_and_a_torn_one(tmp_path, torn):
  with open_journal(tmp_path) as record:
    for step in range(6):
      record.write("train", step, loss=float(step))
      record.write("test", step, loss=float(step))
  before = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write(torn)
  with open_journal(tmp_path, resume_step=3) as record:
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(before[:8])
    record.write("train", 4, loss=-4.0)
  assert [(row["step"], row["split"]) for row in rows(tmp_path)[-3:]] == [(3, "train"), (3, "test"), (4, "train")]
  assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl"]


def test_starting_afresh_drops_everything(tmp_path):
  with open_journal(tmp_path) as record:
    record.write("test", 0, loss=1.0)
  open_journal(tmp_path).close()
  assert rows(tmp_path) == []


def test_a_journal_with_nothing_to_drop_is_left_alone(tmp_path):
  with open_journal(tmp_path) as record:
    record.write("train", 3, loss=1.0)
  inode = (tmp_path / "metrics.jsonl").stat().st_ino
  open_journal(tmp_path, resume_step=3).close()
  assert (tmp_path / "metrics.jsonl").stat().st_ino == inode


def events(workdir):
  """The events of each TensorBoard file (a TFRecord file), oldest first."""
  from tensorboardX.proto.event_pb2 import Event

  for path in sorted((workdir / "tensorboard").iterdir()):
    content = path.read_bytes()
    while content:
      (length,) = struct.unpack("<Q", content[:8])
      yield Event.FromString(content[12 : 12 + length])
      content = content[16 + length :]


def scalars(workdir):
  return [(v.tag, e.step, v.simple_value) for e in events(workdir) for v in e.summary.value]


def test_tensorboard_has_the_same_numbers_and_hides_what_a_resumed_run_does_again(tmp_path):
  with open_journal(tmp_path, tensorboard=True) as record:
    record.write("train", 2, loss=0.5, learning_rate=0.25)
    record.write("test", 2, loss=0.75, accuracy=0.5)
  with open_journal(tmp_path, resume_step=2, tensorboard=True) as record:
    record.write("train", 3, loss=0.125)
  want = [("train/loss", 2, 0.5), ("train/learning_rate", 2, 0.25), ("test/loss", 2, 0.75), ("test/accuracy", 2, 0.5)]
  assert sorted(scalars(tmp_path)) == sorted([*want, ("train/loss", 3, 0.125)])
  starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
  assert sorted(starts) == [0, 3]


def test_tensorboard_only_where_it_is_asked_for(tmp_path):
  with open_journal(tmp_path) as record:
    record.write("train", 1, loss=1.0)
  assert not (tmp_path / "tensorboard").exists()


def test_write_json_writes_what_json_has_words_for(tmp_path):
  path = tmp_path / "result.json"
  value = {
    "a": np.float32(0.5),
    "b": (1, None, True),
    "c": {"d": math.nan},
    "e": jnp.int32(3),
    "f": [math.inf],
    "×": "",
  }
  write_json(path, value)
  assert json.loads(path.read_text()) == {
    "a": 0.5,
    "b": [1, None, True],
    "c": {"d": None},
    "e": 3,
    "f": [None],
    "×": "",
  }
  assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
  with pytest.raises(TypeError, match="set"):
    write_json(path, {"a": {1}})


def umask():
  mask = os.umask(0)
  os.umask(mask)
  return mask


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_write_json_that_breaks_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
  path = tmp_path / "result.json"
  write_json(path, {"step": 1})

  def fail(*_):
    raise OSError("disk")

  monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (journal.Path, "replace")), fail)
  with pytest.raises(OSError, match="disk"):
    write_json(path, {"step": 2})
  assert json.loads(path.read_text()) == {"step": 1}
  assert os.listdir(tmp_path) == ["result.json"]
