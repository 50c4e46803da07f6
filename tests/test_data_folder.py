"""Directories as data sets: layouts, divisions, order, and what is refused."""

import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nin_jax import config, data
from nin_jax.data.folder import Folder
from nin_jax.errors import ConfigError


def fill(directory, n, suffix="png", start=0):
  directory.mkdir(parents=True, exist_ok=True)
  for i in range(start, start + n):
    Image.fromarray(np.full((4, 4), i % 256, np.uint8)).save(directory / f"{i:03}.{suffix}")


def folder(root, **changes):
  section = config.default().data
  section.update({"name": f"folder:{root}", **changes})
  return Folder(section)


def names(records):
  return [records.name(i) for i in range(len(records))]


@pytest.fixture
def classes(tmp_path):
  fill(tmp_path / "b" / "deep" / "er", 7, "JPG")
  fill(tmp_path / "b", 13)
  fill(tmp_path / "A", 10)
  fill(tmp_path / "c", 3)
  (tmp_path / ".hidden").mkdir()
  (tmp_path / "c" / ".thumb.png").write_bytes(b"")
  (tmp_path / "c" / "notes.txt").write_text("")
  (tmp_path / "c" / ".git").mkdir()
  fill(tmp_path / "c" / ".git", 1)
  return tmp_path


def test_a_directory_per_class_is_divided_by_class(classes):
  found = folder(classes)
  train, test = found.records("train_split"), found.records("test_split")
  assert found.class_names == ("A", "b", "c")
  counts = lambda records: np.bincount([records[i]["label"] for i in range(len(records))]).tolist()
  assert counts(train) == [8, 16, 2]
  assert counts(test) == [2, 4, 1]
  assert not set(names(train)) & set(names(test))
  everything = folder(classes, train_split="all").records("train_split")
  assert sorted(names(everything)) == sorted(names(train) + names(test))
  for records in (train, test):
    for i, name in enumerate(names(records)):
      assert found.class_names[records[i]["label"]] == os.path.relpath(name, classes).split(os.sep)[0]
      assert records[i]["image"] == Path(name).read_bytes()


def test_added_images_move_few_of_the_others(classes):
  before = {split: set(names(folder(classes).records(split))) for split in ("train_split", "test_split")}
  fill(classes / "A", 10, start=10)
  after = {split: set(names(folder(classes).records(split))) for split in ("train_split", "test_split")}
  assert sum(map(len, after.values())) == 43
  moved = (before["train_split"] & after["test_split"]) | (before["test_split"] & after["train_split"])
  assert len(moved) <= 2


def test_the_order_is_the_names_own(classes, tmp_path, monkeypatch):
  expected = names(folder(classes).records("train_split"))
  assert expected != sorted(expected)
  scandir = os.scandir

  class Reversed(list):
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None

  monkeypatch.setattr(os, "scandir", lambda path: Reversed(list(scandir(path))[::-1]))
  assert names(folder(classes).records("train_split")) == expected


def test_accents_do_not_matter_to_the_order(tmp_path):
  for form in ("NFC", "NFD"):
    for name in ("é", "ö", "a", "b", "c", "ü"):
      fill(tmp_path / form / unicodedata.normalize(form, name), 1)
  orders = []
  for form in ("NFC", "NFD"):
    records = folder(tmp_path / form, train_split="all").records("train_split")
    orders.append([unicodedata.normalize("NFC", name.split("/")[-2]) for name in names(records)])
  assert orders[0] == orders[1]


def test_the_first_images_are_a_sample_of_all_classes(tmp_path):
  for name in "abcd":
    fill(tmp_path / name, 50)
  records = folder(tmp_path, train_split="all[:80]").records("train_split")
  counts = np.bincount([records[i]["label"] for i in range(len(records))])
  assert counts.sum() == 80
  assert counts.min() > 8


def test_directories_of_splits(tmp_path):
  fill(tmp_path / "train" / "cat", 4)
  fill(tmp_path / "train" / "dog", 3)
  fill(tmp_path / "extra" / "dog", 2)
  fill(tmp_path / "val" / "dog", 2)
  found = folder(tmp_path, test_split="val")
  assert found.class_names == ("cat", "dog")
  assert [len(found.records(field)) for field in ("train_split", "test_split")] == [7, 2]
  assert found.records("test_split")[0]["label"] == 1
  both = folder(tmp_path, train_split="train[:50%]+extra", test_split="val[1:]")
  assert [len(both.records(field)) for field in ("train_split", "test_split")] == [4 + 2, 1]


def test_links_are_followed_and_end(tmp_path):
  fill(tmp_path / "elsewhere", 5)
  (tmp_path / "set" / "a" / "sub").mkdir(parents=True)
  fill(tmp_path / "set" / "b", 5)
  (tmp_path / "set" / "a" / "link").symlink_to(tmp_path / "elsewhere")
  (tmp_path / "set" / "a" / "sub" / "loop").symlink_to(tmp_path / "set" / "a")
  (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere")
  found = folder(tmp_path / "set", train_split="all")
  assert found.class_names == ("a", "b", "c")
  assert len(found.records("train_split")) == 15


def test_where_the_path_starts(classes, monkeypatch):
  fields = {"name": f"folder:{classes.name}", "dir": str(classes.parent)}
  assert len(folder("", **fields).records("test_split")) == 7
  monkeypatch.chdir(classes.parent)
  assert len(folder(classes.name).records("test_split")) == 7
  monkeypatch.setenv("HOME", str(classes.parent))
  assert len(folder(f"~/{classes.name}").records("test_split")) == 7


def test_records_are_a_sequence_that_pickles(classes):
  records = folder(classes).records("test_split")
  copy = pickle.loads(pickle.dumps(records))
  assert names(copy) == names(records)
  assert copy.__getitems__([2, 0]) == [records[2], records[0]]
  assert [len(list(records)), len(records)] == [7, 7]
  with pytest.raises(IndexError):
    records[7]


def test_the_fingerprint_is_of_names_sizes_and_times(classes):
  prints = [folder(classes).fingerprint("train_split")]
  assert folder(classes).fingerprint("train_split") == prints[0]
  path = folder(classes).records("train_split").name(0)
  os.utime(path, ns=(1, 1))
  prints.append(folder(classes).fingerprint("train_split"))
  with open(path, "ab") as file:
    file.write(b"x")
  os.utime(path, ns=(1, 1))
  prints.append(folder(classes).fingerprint("train_split"))
  assert len({str(value) for value in prints}) == 3
  assert folder(classes).fingerprint("test_split") != prints[0]


def test_spec(classes, tmp_path):
  section = config.default().data
  section.update({"name": f"folder:{classes}", "image_size": 12, "crop": 10})
  spec = data.spec(section)
  assert spec == data.Spec(section.name, (10, 10, 3), 3, (None, None, 3))
  assert spec.class_names == ("A", "b", "c")


def files_only(root):
  fill(root, 3)


def empty_class(root):
  fill(root / "a", 3)
  (root / "b").mkdir()


def a_file(root):
  root.rmdir()
  root.write_text("")


MISTAKES = {
  "no path": (None, {"name": "folder:"}, "data.name='folder:'", "PATH/SPLIT/CLASS"),
  "not there": (lambda root: root.rmdir(), {}, "data.name='folder:", "is not there"),
  "a file": (a_file, {}, "data.name='folder:", "is a file"),
  "nothing": (lambda root: None, {}, "data.name='folder:", "has no directories"),
  "no classes": (files_only, {}, "data.name='folder:", "has no directories"),
  "an empty class": (empty_class, {}, "data.name='folder:", "b has no images (bmp, gif, jpeg, jpg"),
  "no such split": (lambda root: fill(root / "a", 9), {"train_split": "val"}, "data.train_split='val'", "train, test"),
  "an empty slice": (
    lambda root: fill(root / "a", 9),
    {"train_split": "train[:0]"},
    "data.train_split=",
    "train, test",
  ),
  "no slice": (lambda root: fill(root / "a", 9), {"train_split": "train[:x]"}, "data.train_split=", "train, test"),
  "too few to divide": (lambda root: fill(root / "a", 2), {}, "data.test_split='test'", "holds an image"),
  "no test split": (lambda root: fill(root / "train" / "a", 9), {}, "data.test_split='test'", "one of train"),
  "an unknown class": (
    lambda root: [fill(root / "train" / "a", 2), fill(root / "test" / "z", 2)],
    {},
    "data.test_split='test'",
    "'z' is not",
  ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_refused(mistake, tmp_path):
  make, changes, given, accepted = MISTAKES[mistake]
  root = tmp_path / "set"
  root.mkdir()
  if make:
    make(root)
  section = config.default().data
  section.update({"name": f"folder:{root}", "image_size": 8, "cache_dir": str(tmp_path / "cache"), **changes})
  with pytest.raises(ConfigError) as caught:
    data.open(section, seed=0)
  assert str(caught.value).startswith(given)
  assert accepted in str(caught.value)
  assert "\n" not in str(caught.value)
