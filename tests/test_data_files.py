"""Files that can't be read are broken images, named or skipped and counted; files left out of a folder are reported."""

import contextlib
import os
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nin_jax import config, data, whole_files
from nin_jax.data import files, opening
from nin_jax.errors import ConfigError

NOBODY = 65_534


def picture(path, kind=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(len(path.name)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(path, kind)


def classes(root, count=8):
  for name in "ab":
    for i in range(count):
      picture(root / name / f"{i}.png")
  return root


def opened(root, tmp_path, **changes):
  section = config.default().data
  section.update({"name": f"folder:{root}", "image_size": 8, "cache_dir": str(tmp_path / "cache"), "batch_size": 4})
  section.update({"train_split": "all", "test_split": "all", **changes})
  return data.open(section, seed=0)


def read_all(pipeline):
  """Trains on the images of a set and evaluates them."""
  for number in range(4):
    pipeline.train_batch(number)
  list(pipeline.eval_batches("train", 4))
  return pipeline.broken()


def dangling(path):
  path.symlink_to("nowhere.png")


def loop(path):
  path.symlink_to(path.name)


def pipe(path):
  os.mkfifo(path)


def device(path):
  path.symlink_to("/dev/zero")


def terminal(path):
  path.symlink_to("/dev/ptmx")


def in_use(path):
  """A socket."""
  with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):  # whose paths are short
    bound.bind(path.name)


def too_large(path):
  with open(path, "wb") as file:
    file.truncate(whole_files.MAX_BYTES + 1)


def postscript(path):
  path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n%%EOF\n")


UNREADABLE = {
  dangling: "No such file or directory",
  loop: "Too many levels of symbolic links",
  pipe: "not a regular file",
  device: "not a regular file",
  terminal: "not a regular file",
  in_use: "not a regular file",
  too_large: "1,073,741,825 bytes, more than the limit of 1,073,741,824",
  postscript: "not readable as JPEG, PNG",
}


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
@pytest.mark.parametrize("make", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_or_skipped_and_counted(make, pipeline, tmp_path):
  root = classes(tmp_path / "set")
  path = root / "a" / "unreadable.png"
  make(path)
  with pytest.raises(ConfigError) as caught:
    read_all(opened(root, tmp_path, pipeline=pipeline))
  assert caught.value.field == "data.broken_images"
  assert f"{path} cannot: {UNREADABLE[make]}" in str(caught.value)
  assert "\n" not in str(caught.value)
  for _ in range(2):  # from the cache too
    assert read_all(opened(root, tmp_path, pipeline=pipeline, broken_images="skip")) == [str(path)]


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
def test_a_file_that_vanishes_after_the_listing_is_broken(pipeline, tmp_path, monkeypatch):
  root = classes(tmp_path / "set")
  gone = root / "b" / "3.png"
  listed = {path: files.images(path) for path in (root / "a", root / "b")}
  monkeypatch.setattr(files, "images", listed.__getitem__)
  gone.unlink()
  assert read_all(opened(root, tmp_path, pipeline=pipeline, broken_images="skip")) == [str(gone)]


@contextlib.contextmanager
def without_rights():
  """Within it, permissions count, which root is above."""
  if os.geteuid():
    yield
    return
  os.setegid(NOBODY), os.seteuid(NOBODY)
  try:
    yield
  finally:
    os.seteuid(0), os.setegid(0)


@pytest.fixture
def public():
  """A directory that everyone reaches, as pytest's own is not."""
  with tempfile.TemporaryDirectory() as name:
    os.chmod(name, 0o777)
    yield Path(name)


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
def test_a_file_that_may_not_be_read_is_broken_until_it_may(pipeline, public):
  root = classes(public / "set")
  path = root / "a" / "0.png"
  os.chmod(path, 0)
  with without_rights():
    with pytest.raises(ConfigError, match=r"data.broken_images='error'.*a/0.png cannot: Permission denied"):
      read_all(opened(root, public, pipeline=pipeline))
    broken = read_all(opened(root, public, pipeline=pipeline, broken_images="skip"))
  assert broken == [str(path)]
  os.chmod(path, 0o644)
  with without_rights():
    assert read_all(opened(root, public, pipeline=pipeline)) == []


def test_directories_that_may_not_be_read(public):
  root = classes(public / "closed" / "set")
  for path, said in (
    (root / "a", "that can be read: .*Permission denied: '.*/set/a"),
    (root, "that can be read: .*Permission denied: '.*/set'"),
    (root.parent, r"closed/set is not to be read \(Permission denied\)"),
  ):
    os.chmod(path, 0)
    with without_rights(), pytest.raises(ConfigError, match=f"data.name=.*{said}"):
      opened(root, public)
    os.chmod(path, 0o755)


def test_a_directory_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
  root = classes(tmp_path / "set")
  scandir = os.scandir

  def denied(path):
    if os.fspath(path).rstrip("/") == str(root / "b"):
      raise PermissionError(13, "Permission denied", os.fspath(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", denied)
  with pytest.raises(ConfigError, match=r"data.name=.*that can be read: .*Permission denied: '.*/set/b"):
    opened(root, tmp_path)


def test_a_set_or_a_class_that_is_a_pipe_or_a_device(tmp_path):
  root = classes(tmp_path / "set")
  pipe(root / "pipe"), device(root / "device"), terminal(root / "terminal"), in_use(root / "socket")
  assert opened(root, tmp_path).spec.class_names == ("a", "b")
  for path in (root / "pipe", root / "device"):
    with pytest.raises(ConfigError, match=f"data.name=.*{path} is a pipe, a socket or a device"):
      opened(path, tmp_path)


def test_loops_and_dangling_links_beside_the_classes_hide_none_of_them(tmp_path):
  root = classes(tmp_path / "set")
  loop(root / "loop"), dangling(root / "gone")
  assert opened(root, tmp_path).spec.class_names == ("a", "b")


def test_a_directory_that_is_called_like_an_image_is_a_directory(tmp_path):
  root = classes(tmp_path / "set")
  picture(root / "a" / "x.png" / "y.png")
  assert opened(root, tmp_path).num_train == 17


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JFIF", "JPG", "JpEg"])
def test_names_that_jpegs_have(suffix, tmp_path):
  root = classes(tmp_path / "set")
  picture(root / "a" / f"x.{suffix}", "jpeg")
  pipeline = opened(root, tmp_path)
  assert pipeline.num_train == 17
  assert read_all(pipeline) == []


def test_every_suffix_is_one_of_a_format_that_is_read():
  from nin_jax.data import decode

  of = Image.registered_extensions()
  assert {of[suffix] for suffix in files.SUFFIXES} == set(decode.FORMATS)


def warned(caplog):
  return [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]


@pytest.fixture
def nothing_warned_of(monkeypatch):
  monkeypatch.setattr(opening, "_WARNED", {""})


def test_what_is_left_out_is_told_once(tmp_path, caplog, nothing_warned_of):
  root = classes(tmp_path / "set")
  for name in ("a/1.heic", "b/deep/2.HEIC", "b/notes.txt", "a/LICENSE"):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"x")
  for _ in range(2):
    opened(root, tmp_path)
  assert warned(caplog) == [f"{root}: 4 files of other types left out: .heic (2), no suffix (1), .txt (1)"]


def test_of_several_splits_it_is_one_line(tmp_path, caplog, nothing_warned_of):
  root = tmp_path / "set"
  classes(root / "train"), classes(root / "test")
  (root / "train" / "a" / "x.heic").write_bytes(b"")
  (root / "test" / "b" / "y.svg").write_bytes(b"")
  picture(root / "train" / "loose.png")
  opened(root, tmp_path, train_split="train", test_split="test")
  others = "2 files of other types left out: .heic (1), .svg (1)"
  assert warned(caplog) == [f"{root}: {others}; 1 image outside of the classes' directories left out"]


def test_what_systems_leave_behind_is_not_worth_a_word(tmp_path, caplog, nothing_warned_of):
  root = classes(tmp_path / "set")
  for name in (".DS_Store", "a/.DS_Store", "a/._0.png", "b/Thumbs.db", "b/desktop.ini"):
    (root / name).write_bytes(b"x")
  picture(root / ".ipynb_checkpoints" / "0.png")
  picture(root / "a" / ".ipynb_checkpoints" / "0-checkpoint.png")
  picture(root / "a" / "__MACOSX" / "0.png")
  assert opened(root, tmp_path).num_train == 16
  assert not warned(caplog)


def test_a_class_may_have_no_test_images_but_has_training_images(tmp_path):
  root = tmp_path / "set"
  classes(root / "train")
  picture(root / "test" / "a" / "0.png"), (root / "test" / "b").mkdir()
  pipeline = opened(root, tmp_path, train_split="train", test_split="test")
  assert (pipeline.num_train, pipeline.num_test, pipeline.spec.num_classes) == (16, 1, 2)
  with pytest.raises(ConfigError, match=r"data.name=.*test/b has no images"):
    opened(root, tmp_path, train_split="test", test_split="train")
