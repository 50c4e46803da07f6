import errno
import json
import logging
import os
import stat
import time

import numpy as np
import pytest

from nin_jax.data import cache

ARRAYS = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "labels": np.array([3, 1], np.int32)}


class Maker:
  """Makes ARRAYS and counts how often."""

  def __init__(self):
    self.calls = 0

  def __call__(self):
    self.calls += 1
    return ARRAYS


def load(root, make, **key):
  arrays = cache.load_or_make(root, "set", {"split": "train", **key}, make)
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(arrays[name], array)
    assert arrays[name].dtype == array.dtype
  return arrays


def test_arrays_are_made_once_and_read_back(tmp_path, caplog):
  make = Maker()
  load(tmp_path / "new" / "dir", make)
  arrays = load(tmp_path / "new" / "dir", make)
  assert make.calls == 1
  assert not arrays["images"].flags.writeable
  assert not caplog.records
  assert [path.name[:4] for path in (tmp_path / "new" / "dir").iterdir()] == ["set-"]


def test_each_key_has_its_entry(tmp_path):
  make = Maker()
  load(tmp_path, make)
  load(tmp_path, make, split="test")
  assert make.calls == 2


def truncate(entry):
  path = entry / "images.npy"
  path.write_bytes(path.read_bytes()[:-5])


def flip_bit(entry):
  data = bytearray((entry / "images.npy").read_bytes())
  data[-1] ^= 1
  (entry / "images.npy").write_bytes(data)


def empty(entry):
  (entry / "labels.npy").write_bytes(b"")


def pickle(entry):
  np.save(entry / "labels.npy", np.array([{}, None], object), allow_pickle=True)


def remove(entry):
  (entry / "images.npy").unlink()


def byte_order(entry):
  """One bit of the description of an array whose values stay: '<i4' becomes '>i4'."""
  content = (entry / "labels.npy").read_bytes()
  assert content.count(b"<i4") == 1
  (entry / "labels.npy").write_bytes(content.replace(b"<i4", b">i4"))


def strip(entry):
  (entry / cache.CHECKSUMS).write_text("[]")


def of_nothing(entry):
  content = json.loads((entry / cache.CHECKSUMS).read_text())
  (entry / cache.CHECKSUMS).write_text(json.dumps({**content, "files": {}}))


def of_an_earlier_version(entry):
  (entry / cache.CHECKSUMS).rename(entry / "entry.json")


@pytest.mark.parametrize(
  "damage",
  [truncate, flip_bit, empty, pickle, remove, byte_order, strip, of_nothing, of_an_earlier_version],
)
def test_a_damaged_entry_is_made_anew(tmp_path, caplog, damage):
  make = Maker()
  load(tmp_path, make)
  damage(next(tmp_path.iterdir()))
  load(tmp_path, make)
  assert make.calls == 2
  assert "damaged" in caplog.text
  caplog.clear()
  load(tmp_path, make)
  assert make.calls == 2
  assert not caplog.records


def test_an_entry_that_cannot_be_read_for_now_stays(tmp_path, caplog, monkeypatch):
  make = Maker()
  load(tmp_path, make)

  def out_of_descriptors(path, _key):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

  with monkeypatch.context() as patch:
    patch.setattr(cache, "_check", out_of_descriptors)
    load(tmp_path, make)
  assert "cannot be read" in caplog.text
  load(tmp_path, make)
  assert make.calls == 2


def test_without_a_directory_to_write_in_it_works_all_the_same(tmp_path, caplog):
  (tmp_path / "file").write_text("")
  make = Maker()
  with caplog.at_level(logging.WARNING):
    load(tmp_path / "file" / "cache", make)
  assert "cannot be written" in caplog.text
  assert make.calls == 1


def test_a_failed_write_leaves_nothing(tmp_path, caplog, monkeypatch):
  def full(*args, **kwargs):
    raise OSError("No space left on device")

  monkeypatch.setattr(cache.np, "save", full)
  load(tmp_path, Maker())
  assert "No space left" in caplog.text
  assert not list(tmp_path.iterdir())


def test_who_comes_second_leaves_the_first_ones_work(tmp_path, caplog):
  def make():  # while this one is busy, another finishes
    load(tmp_path, Maker())
    return ARRAYS

  load(tmp_path, make)
  assert len(list(tmp_path.iterdir())) == 1
  assert not caplog.records


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
  done = []
  monkeypatch.setattr(cache, "sync", lambda path: done.append(path.name))
  rename = cache.os.rename
  monkeypatch.setattr(cache.os, "rename", lambda source, target: (done.append("rename"), rename(source, target)))
  load(tmp_path, Maker())
  *files, directory, renamed, parent = done
  assert sorted(files) == [cache.CHECKSUMS, "images.npy", "labels.npy"]
  assert directory.startswith(cache.WRITING)
  assert (renamed, parent) == ("rename", tmp_path.name)


def test_a_file_system_that_does_not_sync_directories(tmp_path, caplog, monkeypatch):
  sync = os.fsync

  def refuse(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
      raise OSError(errno.EINVAL, "Invalid argument")
    sync(descriptor)

  monkeypatch.setattr(os, "fsync", refuse)
  make = Maker()
  for _ in range(2):
    load(tmp_path, make)
  assert (make.calls, caplog.text) == (1, "")


def test_what_a_killed_process_left_goes_after_a_day(tmp_path):
  for name, age in (("old", 90_000), ("new", 80_000)):
    (tmp_path / f"{cache.WRITING}{name}").mkdir()
    os.utime(tmp_path / f"{cache.WRITING}{name}", (time.time() - age,) * 2)
  load(tmp_path, Maker())
  assert [path.name for path in tmp_path.glob(cache.WRITING + "*")] == [f"{cache.WRITING}new"]


def test_without_a_home(monkeypatch):
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setattr(cache.Path, "home", lambda: raise_(RuntimeError("no home")))
  assert cache.directory("").parent == cache.process_directory()


def raise_(error):
  raise error


def test_the_directory(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert cache.directory("") == tmp_path / "nin_jax"
  assert cache.directory("/x") == cache.Path("/x")
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert cache.directory("") == tmp_path / ".cache" / "nin_jax"
