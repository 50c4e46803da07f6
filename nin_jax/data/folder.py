"""Directories of images, one for each class, as data sets with splits."""

import hashlib
import os
import re
import types
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nin_jax import paths
from nin_jax.data import files
from nin_jax.errors import ConfigError, line

PREFIX = "folder:"
_ALL = "everything"  # of TFDS's own `all` no slice can be taken
_LOOSE = "images outside of the classes"  # counted beside suffixes, which begin with a dot
_LAYOUT = "folder:PATH with images in PATH/CLASS/… or PATH/SPLIT/CLASS/…"

Entry = tuple[str, str]  # a class, and an image's path below the directory of classes, CLASS/…/FILE


class Folder:
  """The set `folder:PATH`. PATH is relative to data.dir, or where that is "", to the working directory.

  Two layouts. PATH/SPLIT/CLASS/…: data.train_split and data.test_split name directories. PATH/CLASS/…: `train` and
  `test` are a fixed division of each class, a fifth of it (rounded) being held out, namely the images whose hash comes
  last, so that images that are added move few of the others; `all` is both. It is the first layout where a directory
  that data.train_split names holds directories. Slices such as train[:90%], and sums, are taken as TFDS takes them.

  Images are found by their suffix, anywhere below the directory of a class; hidden files and directories are left out,
  links to directories are followed. The classes are the sorted names of the train split's directories; each must hold
  images in that split, not in others. Within a split images are in the order of a hash of CLASS/…/FILE: any first n are
  a fair sample of the classes, whatever a file system lists first.

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
    root = paths.directory("data.dir", config_data.dir) if config_data.dir else Path()
    self.path = root / os.path.expanduser(given)
    if not given or not os.path.isdir(self.path):
      found = f"; {self.path.absolute()} is {files.kind(self.path)}" if given else ""
      raise self._mistake(_LAYOUT + found)
    self.path = self.path.resolve()
    short = self.path.name[:50]  # with what is added to it, a file name has 255 bytes at most
    self.name = "folder-" + (re.sub(r"[^\w.-]+", "-", short) or "root")
    self.shape = (None, None, 3)
    names = [name for name in _split_names(config_data.train_split) if os.path.isdir(self.path / name)]
    self._has_splits = any(self._directories(self.path / name) for name in names)
    self._others: dict[Path, Counter] = {}
    self.class_names = tuple(self._classes("train_split"))
    if not self.class_names:
      raise self._mistake(f"{_LAYOUT}; {self.path} has no directories")

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def left_out(self) -> str:
    """A line on what was found beside the images, in the splits that have been asked for so far; "" for nothing."""
    others, said = sum(self._others.values(), Counter()), []
    loose = others.pop(_LOOSE, 0)
    if others:
      kinds = ", ".join(f"{suffix or 'no suffix'} ({count})" for suffix, count in others.most_common())
      said.append(f"{_count(others.total(), 'file')} of other types left out: {kinds}")
    if loose:
      said.append(f"{_count(loose, 'image')} outside of the classes' directories left out")
    return f"{line(str(self.path))}: {line('; '.join(said), 500)}" if said else ""

  def records(self, split_field: str) -> files.Records:
    """Returns the images of a split.

    Args:
      split_field: train_split or test_split.

    Raises:
      ConfigError: there is no such split; it, or a class, is empty; or it has a class that the train split has not.
    """
    entries = self._entries(split_field)
    label = {name: i for i, name in enumerate(self.class_names)}
    return files.Records(self.path, [path for _, path in entries], [label[name] for name, _ in entries])

  def fingerprint(self, split_field: str) -> dict[str, object]:
    """Returns what identifies the contents of a split: its files' paths, sizes and times."""
    digest = hashlib.sha256()
    for _, path in sorted(self._entries(split_field)):
      digest.update(os.fsencode(f"{path}\0{files.identity(self.path / path)}\0"))
    return {"folder": str(self.path), "classes": self.class_names, "files": digest.hexdigest()}

  def _mistake(self, accepted: str) -> ConfigError:
    return ConfigError("data.name", self._config.name, accepted)

  def _split_mistake(self, split_field: str, splits: Sequence[str]) -> ConfigError:
    accepted = f"one of {', '.join(splits)}, or a slice such as '{splits[0]}[:90%]', of {self.path}"
    return ConfigError(f"data.{split_field}", self._config[split_field], f"{accepted} that holds an image")

  def _classes(self, split_field: str) -> list[str]:
    if not self._has_splits:
      return self._directories(self.path)
    splits = _split_names(self._config[split_field])
    if not splits or not all(os.path.isdir(self.path / split) for split in splits):
      raise self._split_mistake(split_field, self._directories(self.path))
    return sorted({name for split in splits for name in self._directories(self.path / split)})

  def _entries(self, split_field: str) -> list[Entry]:
    """The classes and paths (from PATH) of a split's images, in order."""
    from nin_jax.data.tfds import tfds

    spec = self._config[split_field]
    if self._has_splits:
      if unknown := [name for name in self._classes(split_field) if name not in self.class_names]:
        accepted = f"a split whose classes are all in data.train_split; {unknown[0]!r} is not"
        raise ConfigError(f"data.{split_field}", spec, accepted)
      known = self._directories(self.path)
      splits = {
        split: [(name, f"{split}/{path}") for name, path in _by_hash(self._scan(self.path / split, split_field))]
        for split in _split_names(spec)
      }
    else:
      known = ["train", "test", "all"]
      entries = _by_hash(self._scan(self.path, "train_split"))
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

  def _scan(self, directory: Path, split_field: str) -> list[Entry]:
    """Every image below a directory of classes; in the split to train on, no class may be without."""
    entries, others = [], Counter()
    for name in self._directories(directory):
      found, other = self._listed(files.images, directory / name)
      if not found and split_field == "train_split":
        suffixes = ", ".join(suffix[1:] for suffix in files.SUFFIXES)
        raise self._mistake(f"{_LAYOUT}; the class {directory / name} has no images ({suffixes})")
      entries += [(name, f"{name}/{path}") for path in found]
      others += other
    self._others[directory] = others + Counter({_LOOSE: self._listed(files.loose_images, directory)})
    return entries

  def _directories(self, path: Path) -> list[str]:
    return self._listed(files.directories, path)

  def _listed(self, listing: Callable[[Path], Any], path: Path) -> Any:
    """The result of a function of `files` on a directory."""
    try:
      return listing(path)
    except OSError as error:
      raise self._mistake(f"{_LAYOUT} that can be read: {error}") from None


def _count(number: int, noun: str) -> str:
  return f"{number:,} {noun}{'s'[: number != 1]}"


def _split_names(spec: str) -> list[str]:
  """The names in a TFDS split such as train[:90%]+val."""
  names = [re.match(r"\s*([\w.-]*)", part)[1] for part in spec.split("+")]
  return list(dict.fromkeys(name for name in names if name.strip(".")))


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
