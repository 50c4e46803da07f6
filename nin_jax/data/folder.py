"""Directories of images, one for each class, as data sets with splits."""

import hashlib
import os
import re
import types
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nin_jax.errors import ConfigError

PREFIX = "folder:"
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
_ALL = "everything"  # of TFDS's own `all` no slice can be taken
_LAYOUT = "folder:PATH with images in PATH/CLASS/… or PATH/SPLIT/CLASS/…"

Entry = tuple[str, str]  # a class, and an image's path below the directory of classes, CLASS/…/FILE


class Records:
  """Random access to images: {"image": the file's bytes, "label": int}. Small to pickle: each worker is sent it.

  Args:
    root: the directory that the paths start from.
    paths: of the images.
    labels: of each.
  """

  def __init__(self, root: Path, paths: Sequence[str], labels: Sequence[int]):
    encoded = [os.fsencode(path) for path in paths]
    self._root, self._paths = os.fsencode(root), b"".join(encoded)
    self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    self._labels = np.array(labels, np.int32)

  def __len__(self) -> int:
    return len(self._labels)

  def name(self, index: int) -> str:
    """Returns an image's path."""
    return os.fsdecode(os.path.join(self._root, self._paths[self._ends[index] : self._ends[index + 1]]))

  def __getitem__(self, index: int) -> dict:
    if not 0 <= index < len(self):
      raise IndexError(index)
    with open(self.name(index), "rb") as file:
      return {"image": file.read(), "label": int(self._labels[index])}

  def __getitems__(self, indices: Sequence[int]) -> list[dict]:
    return [self[index] for index in indices]


class Folder:
  """The set `folder:PATH`. PATH is relative to data.dir, or where that is "", to the working directory.

  Two layouts. PATH/SPLIT/CLASS/…: data.train_split and data.test_split name directories. PATH/CLASS/…: `train` and
  `test` are a fixed division of each class, a fifth of it (rounded) being held out, namely the images whose hash comes
  last, so that images that are added move few of the others; `all` is both. It is the first layout where a directory
  that data.train_split names holds directories. Slices such as train[:90%], and sums, are taken as TFDS takes them.

  Images are found by their suffix, anywhere below the directory of a class; hidden files and directories are left out,
  links to directories are followed. The classes are the sorted names of the train split's directories. Within a split
  images are in the order of a hash of CLASS/…/FILE: any first n are a fair sample of the classes, whatever a file
  system lists first.

  Attributes:
    name: for file names.
    shape: (None, None, 3), as for a TFDS set of colour images of varying sizes.
    class_names: in the order of the labels.

  Args:
    config_data: the config's section data.

  Raises:
    ConfigError: PATH is no directory, or holds no classes.
  """

  def __init__(self, config_data):
    self._config = config_data
    given = config_data.name.removeprefix(PREFIX)
    self.path = Path(config_data.dir).expanduser() / Path(given).expanduser()
    if not given or not self.path.is_dir():
      found = f"; {self.path.absolute()} is {'a file' if self.path.exists() else 'not there'}" if given else ""
      raise self._mistake(_LAYOUT + found)
    self.path = self.path.resolve()
    self.name = "folder-" + (re.sub(r"[^\w.-]+", "-", self.path.name) or "root")
    self.shape = (None, None, 3)
    names = [name for name in _split_names(config_data.train_split) if (self.path / name).is_dir()]
    self._has_splits = any(_directories(self.path / name) for name in names)
    self.class_names = tuple(self._classes("train_split"))
    if not self.class_names:
      raise self._mistake(f"{_LAYOUT}; {self.path} has no directories")

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def records(self, split_field: str) -> Records:
    """Returns the images of a split.

    Args:
      split_field: train_split or test_split.

    Raises:
      ConfigError: there is no such split; it, or a class, is empty; or it has a class that the train split has not.
    """
    entries = self._entries(split_field)
    label = {name: i for i, name in enumerate(self.class_names)}
    return Records(self.path, [path for _, path in entries], [label[name] for name, _ in entries])

  def fingerprint(self, split_field: str) -> dict[str, object]:
    """Returns what identifies the contents of a split: its files' paths, sizes and times."""
    digest = hashlib.sha256()
    for _, path in sorted(self._entries(split_field)):
      stat = os.stat(self.path / path)
      digest.update(os.fsencode(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return {"folder": str(self.path), "classes": self.class_names, "files": digest.hexdigest()}

  def _mistake(self, accepted: str) -> ConfigError:
    return ConfigError("data.name", self._config.name, accepted)

  def _split_mistake(self, split_field: str, splits: Sequence[str]) -> ConfigError:
    accepted = f"one of {', '.join(splits)}, or a slice such as '{splits[0]}[:90%]', of {self.path}"
    return ConfigError(f"data.{split_field}", self._config[split_field], f"{accepted} that holds an image")

  def _classes(self, split_field: str) -> list[str]:
    if not self._has_splits:
      return _directories(self.path)
    splits = _split_names(self._config[split_field])
    if not splits or not all((self.path / split).is_dir() for split in splits):
      raise self._split_mistake(split_field, _directories(self.path))
    return sorted({name for split in splits for name in _directories(self.path / split)})

  def _entries(self, split_field: str) -> list[Entry]:
    """The classes and paths (from PATH) of a split's images, in order."""
    import tensorflow_datasets as tfds

    spec = self._config[split_field]
    if self._has_splits:
      if unknown := [name for name in self._classes(split_field) if name not in self.class_names]:
        accepted = f"a split whose classes are all in data.train_split; {unknown[0]!r} is not"
        raise ConfigError(f"data.{split_field}", spec, accepted)
      known = _directories(self.path)
      splits = {
        split: [(name, f"{split}/{path}") for name, path in _by_hash(self._scan(self.path / split))]
        for split in _split_names(spec)
      }
    else:
      known = ["train", "test", "all"]
      entries = _by_hash(self._scan(self.path))
      held_out = _held_out(entries)
      splits = {"train": [entry for entry in entries if entry not in held_out], "test": [], _ALL: entries}
      splits["test"] = [entry for entry in entries if entry in held_out]
      spec = re.sub(r"\ball\b", _ALL, spec)
    sizes = {split: types.SimpleNamespace(num_examples=len(entries)) for split, entries in splits.items()}
    try:
      parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(sizes)
    except (ValueError, AssertionError, NotImplementedError):
      raise self._split_mistake(split_field, known) from None
    chosen = [entry for part in parts for entry in splits[part.splitname][part.from_ : part.to]]
    if not chosen:
      raise self._split_mistake(split_field, known)
    return chosen

  def _scan(self, directory: Path) -> list[Entry]:
    """Every image below a directory of classes."""
    entries = []
    for name in _directories(directory):
      try:
        found = [(name, f"{name}/{path}") for path in _images(directory / name)]
      except OSError as error:
        raise self._mistake(f"{_LAYOUT} that can be read: {error}") from None
      if not found:
        suffixes = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise self._mistake(f"{_LAYOUT}; the class {directory / name} has no images ({suffixes})")
      entries += found
    return entries


def _split_names(spec: str) -> list[str]:
  """The names in a TFDS split such as train[:90%]+val."""
  names = [re.match(r"\s*([\w.-]*)", part)[1] for part in spec.split("+")]
  return list(dict.fromkeys(name for name in names if name.strip(".")))


def _directories(path: Path) -> list[str]:
  """The directories in a directory, sorted; none where it cannot be read."""
  try:
    with os.scandir(path) as entries:
      return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
  except OSError:
    return []


def _images(directory: Path) -> Iterator[str]:
  """The paths of the images below a directory, each directory once, though links may lead there again."""
  seen, waiting = set(), [""]
  while waiting:
    below = waiting.pop()
    identity = os.stat(directory / below)
    if (identity.st_dev, identity.st_ino) in seen:
      continue
    seen.add((identity.st_dev, identity.st_ino))
    with os.scandir(directory / below) as entries:
      for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.startswith("."):
          continue
        if entry.is_dir():
          waiting.append(f"{below}{entry.name}/")
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
          yield below + entry.name


def _hash(path: str) -> bytes:
  """The same on each machine, however its file system writes accents."""
  return hashlib.sha256(unicodedata.normalize("NFC", path).encode("utf-8", "surrogateescape")).digest()


def _by_hash(entries: Sequence[Entry]) -> list[Entry]:
  return sorted(entries, key=lambda entry: _hash(entry[1]))


def _held_out(entries: Sequence[Entry]) -> set[Entry]:
  """Of each class the last fifth, rounded."""
  by_class: dict[str, list[Entry]] = {}
  for entry in entries:
    by_class.setdefault(entry[0], []).append(entry)
  return {entry for found in by_class.values() for entry in found[len(found) - (len(found) + 2) // 5 :]}
