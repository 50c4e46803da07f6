"""Checkpoints: which stay, that what comes back is what was saved, and that nothing else ever does."""

import errno
import json
import logging
import math
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from nin_jax.errors import ConfigError
from nin_jax.train import steps
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.checkpoint_contents import check_progress
from nin_jax.train.storage import WorkdirError
from nin_jax.train.update import TrainState


def state_at(step, device_count=2):
  weights = np.random.default_rng(step).normal(size=(3, 4)).astype(np.float32)
  weights[0, 0] = -0.0
  state = TrainState(
    step=jnp.int32(step),
    params={"conv": {"kernel": weights, "bias": weights[0].astype(jnp.bfloat16)}},
    batch_stats={},
    opt_state=({"trace": -weights}, (), jnp.int32(step)),
    average=None,
  )
  return steps.replicate(state, jax.local_devices()[:device_count])


def progress_at(step, best=None):
  return {"step": step, "loss": 0.1 * step, "best": best and {"step": best, "accuracy": 0.9}}


def assert_same(actual, wanted):
  assert jax.tree.structure(actual) == jax.tree.structure(wanted)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save(directory, *saved, keep=3):
  with Checkpoints(directory, keep) as checkpoints:
    for step in saved:
      checkpoints.save(state_at(step), progress_at(step))


def newest(directory, **options):
  with Checkpoints(directory, 3, **options) as checkpoints:
    restored = checkpoints.restore(state_at(0))
  return restored and int(restored[0].step)


def test_the_last_few_and_the_best_stay(tmp_path):
  bests = {2: 2, 4: 4, 5: 4, 6: 4, 8: 8, 9: 8, 10: 8, 11: 8, 12: 8}
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.steps == []
    for step, best in bests.items():
      checkpoints.save(state_at(step), progress_at(step, best))
  assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"8", "11", "12"}
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.steps == [8, 11, 12]
    for step in checkpoints.steps:
      state, progress = checkpoints.restore(state_at(0), step)
      assert_same(state, state_at(step))
      assert progress == progress_at(step, 8)
    assert checkpoints.restore(state_at(0))[0].step == 12
    checkpoints.save(state_at(13), progress_at(13, 8))  # the best is known from what is saved
  assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"8", "12", "13"}


@pytest.mark.parametrize("part", ["state", "record", "commit_success.txt", None])
def test_a_checkpoint_whose_removal_was_cut_short_goes(part, tmp_path):
  """The last one of a training is followed by no other, whose writing would remove it."""
  save(tmp_path, 1, 2, keep=2)
  old = tmp_path / "checkpoints" / "1"
  if part:
    for path in old.iterdir():
      if path.name != part:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
  with Checkpoints(tmp_path, keep=1, read_only=True) as checkpoints:
    assert int(checkpoints.restore(state_at(0))[0].step) == 2
  assert old.exists()
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    assert int(checkpoints.restore(state_at(0))[0].step) == 2
    assert checkpoints.steps == [2]
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_a_state_may_be_donated_at_once_and_restored_elsewhere(tmp_path):
  state, progress = state_at(3), {"meter": {"loss": 0.1}, "test": None, "best": {"step": 3, "accuracy": 0.25}}
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(state, progress)
    written = json.loads(json.dumps(progress))
    progress["meter"]["loss"] = 99.0
    jax.tree.map(lambda leaf: leaf.delete(), state)
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    state, read = checkpoints.restore(state_at(0, device_count=8))
  assert read == written
  assert_same(state, state_at(3))


def test_steps_that_are_not_there_are_named(tmp_path):
  with Checkpoints(tmp_path, keep=3) as checkpoints:
    assert checkpoints.restore(state_at(0)) is None
    with pytest.raises(ConfigError, match=r"--step=3: .*: none yet"):
      checkpoints.restore(state_at(0), 3)
    for step in (2, 10):
      checkpoints.save(state_at(step), progress_at(step))
    checkpoints.wait()
    with pytest.raises(ConfigError, match=r"--step=3: .*: 2, 10"):
      checkpoints.restore(state_at(0), 3)


def test_a_reader_leaves_alone_what_a_running_training_is_writing(tmp_path):
  save(tmp_path, 1)
  unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  unfinished.mkdir()
  assert newest(tmp_path, read_only=True) == 1
  assert unfinished.exists()
  save(tmp_path, 3)  # the next training sweeps up what a broken one left
  assert not unfinished.exists()


def test_a_reader_makes_nothing(tmp_path):
  assert newest(tmp_path, read_only=True) is None
  assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  directory = tmp_path_factory.mktemp("written")
  save(directory, 2, 4, 6)
  return directory


def one_bit(data):
  middle = len(data) // 2
  return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


DAMAGES = {
  "emptied": lambda path: path.write_bytes(b""),
  "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  "one bit": lambda path: path.write_bytes(one_bit(path.read_bytes())),
  "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_the_newest_may_be_damaged(written, tmp_path, damage, caplog, capfd):
  """What is used is either the newest, with each byte as it was saved, or the one before, with a warning."""
  files = [path.relative_to(written) for path in (written / "checkpoints" / "6").rglob("*") if path.is_file()]
  assert len(files) > 8
  fell_back = 0
  for number, file in enumerate(files):
    directory = shutil.copytree(written, tmp_path / str(number))
    DAMAGES[damage](directory / file)
    caplog.clear()
    with Checkpoints(directory, 3) as checkpoints:
      state, progress = checkpoints.restore(state_at(0))
      step = int(state.step)
      assert_same(state, state_at(step))
      assert progress == progress_at(step)
      warned = [record.message for record in caplog.records if "step 6 is damaged" in record.message]
      if step == 6:
        assert not warned
      else:
        assert step == 4
        assert len(warned) == 1
        fell_back += 1
        assert checkpoints.steps == [2, 4]
        assert (directory / "damaged_checkpoints" / "6").is_dir()
        checkpoints.save(state_at(6), progress_at(6))  # training gets there again
    assert newest(directory) == 6
  assert fell_back >= 3  # the record, the arrays, their index
  assert "Traceback" not in capfd.readouterr().err


def test_a_checkpoint_without_its_files(written, tmp_path):
  directory = shutil.copytree(written, tmp_path / "copy")
  for item in ("state", "record"):
    shutil.rmtree(directory / "checkpoints" / "6" / item)
  shutil.rmtree(directory / "checkpoints" / "4" / "state")
  assert newest(directory) == 2


def test_a_reader_goes_back_too_and_moves_nothing(written, tmp_path, caplog):
  directory = shutil.copytree(written, tmp_path / "copy")
  shutil.rmtree(directory / "checkpoints" / "6" / "state")
  with caplog.at_level(logging.WARNING):
    assert newest(directory, read_only=True) == 4
  assert "step 6 is damaged" in caplog.text
  assert (directory / "checkpoints" / "6").exists()
  with (
    Checkpoints(directory, 3, read_only=True) as checkpoints,
    pytest.raises(ConfigError, match="that of step 6 is not"),
  ):
    checkpoints.restore(state_at(0), 6)  # asked for by its number, no other one will do


def test_where_all_are_damaged_training_does_not_begin_again(written, tmp_path):
  directory = shutil.copytree(written, tmp_path / "copy")
  for step in (2, 4, 6):
    shutil.rmtree(directory / "checkpoints" / str(step) / "record")
  with Checkpoints(directory, 3) as checkpoints, pytest.raises(ConfigError, match=r"--workdir=.*step 6 is not"):
    checkpoints.restore(state_at(0))
  assert {path.name for path in (directory / "checkpoints").iterdir()} == {"2", "4", "6"}


def test_another_network_s_state_is_not_taken(written):
  other = state_at(0)
  other.params["conv"]["kernel"] = jnp.zeros((3, 5))
  with Checkpoints(written, 3, read_only=True) as checkpoints, pytest.raises(ConfigError, match="step 6 is not"):
    checkpoints.restore(other)


def test_the_variables_alone(written):
  with Checkpoints(written, 3, read_only=True) as checkpoints:
    there = checkpoints.variables()
  assert_same(there["params"], jax.tree.map(np.asarray, state_at(6).params))
  assert "opt_state" not in there


def test_a_shortage_is_not_taken_for_damage(written, tmp_path, monkeypatch):
  directory = shutil.copytree(written, tmp_path / "copy")

  def too_many_files(*_):
    raise OSError(errno.EMFILE, "Too many open files")

  with Checkpoints(directory, 3) as checkpoints:
    monkeypatch.setattr(checkpoints, "_load", too_many_files)
    with pytest.raises(WorkdirError, match="Too many open files"):
      checkpoints.restore(state_at(0))
  assert not (directory / "damaged_checkpoints").exists()


def test_what_cannot_be_written_is_told_of(tmp_path):
  (tmp_path / "checkpoints").write_text("a file in its place")
  with pytest.raises(WorkdirError, match=r"checkpoints can't be written"):
    Checkpoints(tmp_path, 3)


def claim(directory, key, **changes):
  """Rewrites what the newest checkpoint says of an array."""
  step = max(int(path.name) for path in (directory / "checkpoints").iterdir())
  base = f"file://{directory}/checkpoints/{step}/state/"
  store = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
  described = json.loads(store.read(f"{key}/.zarray").result().value)
  store.write(f"{key}/.zarray", json.dumps(described | changes)).result()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"shape": [3, 2**40]}, r"params/conv/kernel has float32\(3, 1099511627776\) where"),
    ({"shape": [2**30, 2**30], "chunks": [2**30, 2**30]}, "has float32"),
    ({"chunks": [3, 2**40]}, r"is stored in chunks of \(3, 1099511627776\)"),
    ({"dtype": "<f8"}, "has float64"),
  ],
)
def test_arrays_of_other_sizes_are_not_read(written, tmp_path, caplog, changes, said):
  directory = shutil.copytree(written, tmp_path / "copy")
  claim(directory, "params.conv.kernel", **changes)
  with caplog.at_level(logging.WARNING):
    assert newest(directory, read_only=True) == 4
  assert re.search(said, caplog.text)


def test_arrays_that_the_files_cannot_hold_are_not_read(written, tmp_path, caplog):
  directory = shutil.copytree(written, tmp_path / "copy")
  claim(directory, "params.conv.kernel", shape=[2**20, 2**20], chunks=[1, 1])
  with Checkpoints(directory, 3, read_only=True) as checkpoints, caplog.at_level(logging.WARNING):
    assert_same(checkpoints.variables()["params"], jax.tree.map(np.asarray, state_at(4).params))
  assert "bytes of files can hold" in caplog.text


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "manifest.ocdbt"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(written, tmp_path, name):
  directory = shutil.copytree(written, tmp_path / "copy")
  path = next((directory / "checkpoints" / "6").rglob(name))
  path.unlink()
  os.mkfifo(path)
  for read_only in (True, False):
    with pytest.raises(ConfigError, match=f"--workdir=.*{name} is no regular file"):
      newest(directory, read_only=read_only)


def test_metadata_of_another_type_are_named(written, tmp_path):
  directory = shutil.copytree(written, tmp_path / "copy")
  path = directory / "checkpoints" / "4" / "_CHECKPOINT_METADATA"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"init_timestamp_nsecs": [1]}))
  with pytest.raises(ConfigError, match=r"--workdir=.*_CHECKPOINT_METADATA is whole \(ValueError"):
    newest(directory)


PROGRESS = {
  "meter": {
    "steps": 1, "loss": math.inf, "accuracy": 0.5, "dead": 0, "seconds": 0.1, "measured_steps": 3, "wall_seconds": 0.5,
  },
  "test": {"loss": 2.0, "accuracy": 0.5, "count": 10, "correct": 5},
  "best": None,
  "to_evaluate": False,
  "broken": ["a.png"],
  "data": {"class_names": ["a", "b"], "training images": 8, "test images": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRESS)
@pytest.mark.parametrize("value", ["missing", "text", 1, [1], {"accuracy": "high"}])
def test_a_resealed_record_without_what_a_run_needs_is_damage(name, value):
  check_progress(PROGRESS)
  damaged = PROGRESS | {name: value}
  if value == "missing":
    del damaged[name]
  with pytest.raises(ValueError, match=f"'{name}' in its record is missing or of another type"):
    check_progress(damaged)


def test_a_progress_that_is_refused_is_damage(written, caplog):
  def check(progress):
    if progress["step"] == 6:
      raise ValueError("no state to resume")

  with Checkpoints(written, 3, read_only=True) as checkpoints:
    assert checkpoints.restore(state_at(0), check=check)[0].step == 4
  assert "no state to resume" in caplog.text
