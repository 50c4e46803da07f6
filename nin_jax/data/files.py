"""Image files below a directory: which are there, and their bytes."""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nin_jax import whole_files

SUFFIXES = (
  *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
  *(".apng", ".jfif", ".jpe", ".pbm", ".pnm"),
)
_FURNITURE = frozenset(("thumbs.db", "desktop.ini", "__macosx"))  # what systems leave behind, beside hidden files


class Records:
  """Random access to images: {"image": the file's bytes, "label": int}. Small to pickle: each worker is sent it.

  Args:
    root: the directory that the paths start from.
    paths: of the images.
    labels: of each, int32 [n] as an attribute.
  """

  def __init__(self, root: Path, paths: Sequence[str], labels: Sequence[int]):
    encoded = [os.fsencode(path) for path in paths]
    self._root, self._paths = os.fsencode(root), b"".join(encoded)
    self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    self.labels = np.array(labels, np.int32)

  def __len__(self) -> int:
    return len(self.labels)

  def name(self, index: int) -> str:
    """Returns an image's path."""
    return os.fsdecode(os.path.join(self._root, self._paths[self._ends[index] : self._ends[index + 1]]))

  def __getitem__(self, index: int) -> dict:
    if not 0 <= index < len(self):
      raise IndexError(index)
    return {"image": whole_files.read(self.name(index)), "label": int(self.labels[index])}

  def __getitems__(self, indices: Sequence[int]) -> list[dict]:
    return [self[index] for index in indices]


def identity(path: Path) -> str:
  """Returns what changes when a file does: its size, its time of change, and who may read it."""
  try:
    status = os.stat(path)
  except OSError as error:  # told of when the image is read
    return f"error {error.errno}"
  return "\0".join(map(str, (status.st_size, status.st_mtime_ns, status.st_mode, status.st_uid, status.st_gid)))


def kind(path: Path) -> str:
  """Returns what a path that is no directory is, in words."""
  try:
    status = os.stat(path)
  except (FileNotFoundError, NotADirectoryError):
    return "not there"
  except (OSError, ValueError) as error:
    return f"not to be read ({getattr(error, 'strerror', None) or error})"
  return "a file" if stat.S_ISREG(status.st_mode) else "a pipe, a socket or a device"


def directories(path: Path) -> list[str]:
  """Returns the directories in a directory, sorted, without hidden ones.

  Raises:
    OSError: it can't be listed.
  """
  with os.scandir(path) as entries:
    return sorted(entry.name for entry in entries if _is_directory(entry) and not entry.name.startswith("."))


def loose_images(path: Path) -> int:
  """Returns how many images lie in a directory itself, hidden ones not counted; raises as `directories`."""
  with os.scandir(path) as entries:
    return sum(_is_image(entry) for entry in entries if not entry.name.startswith("."))


def images(directory: Path) -> tuple[list[str], Counter]:
  """Finds the images below a directory by their suffix, each directory once, though links may lead there again.

  Returns:
    The paths of the images, and how many files of each other suffix there are, hidden ones not counted.

  Raises:
    OSError: a directory can't be listed.
  """
  found, others = [], Counter()
  seen, waiting = set(), [""]
  while waiting:
    below = waiting.pop()
    status = os.stat(directory / below)
    if (status.st_dev, status.st_ino) in seen:
      continue
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(directory / below) as entries:
      for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.lower() in _FURNITURE:
          continue
        if _is_directory(entry):
          waiting.append(f"{below}{entry.name}/")
        elif _is_image(entry):
          found.append(below + entry.name)
        else:
          others[_suffix(entry)] += 1
  return found, others


def _suffix(entry: os.DirEntry) -> str:
  return os.path.splitext(entry.name)[1].lower()


def _is_image(entry: os.DirEntry) -> bool:
  """By its name: whether it can be read is seen when it is."""
  return _suffix(entry) in SUFFIXES and not _is_directory(entry)


def _is_directory(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # a loop of links, or one into a directory that isn't ours to read
    return False
