"""Checks of a checkpoint before and after it is read: its files may be damaged, or come from elsewhere."""

import contextlib
import json
import math
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nin_jax.checks import is_number

# Of a whole state, which is at most this many times its files: noise hardly compresses, and what is still zero is at
# most twice as much.
MOST_RATIO, SMALL = 64, 2**26


def special_files(directory: Path) -> Iterator[str]:
  """The paths of what is neither a directory nor a regular file, links to those apart: a pipe would be waited for."""
  for path, directories, files in os.walk(directory):
    for name in directories + files:
      with contextlib.suppress(OSError):  # a training may be taking out an old one
        if stat.S_IFMT(os.stat(os.path.join(path, name)).st_mode) not in (stat.S_IFDIR, stat.S_IFREG):
          yield os.path.join(path, name)


def file_bytes(directory: Path) -> int:
  """The size of all files below a directory; raises OSError."""
  return sum(path.stat().st_size for path in directory.rglob("*"))


def check_arrays(claimed: Any, wanted: Any, stored: int) -> None:
  """Compares arrays, as a checkpoint describes them, with those that are wanted.

  Args:
    claimed: a tree whose leaves have a `shape`, a `dtype`, and in `storage` a `chunk_shape`.
    wanted: a tree with leaves of the shapes and types that there should be; None: of any, in all not much larger than
      what is stored.
    stored: bytes of the files.

  Raises:
    ValueError: they are others.
  """
  there = _by_path(claimed)
  for path, array in there.items():
    chunk = array.storage.chunk_shape if array.storage else array.shape
    if chunk and math.prod(chunk) > max(1, math.prod(array.shape)):
      raise ValueError(f"{path} of shape {array.shape} is stored in chunks of {chunk}")
  if wanted is None:
    total = sum(math.prod(array.shape) * jax.numpy.dtype(array.dtype).itemsize for array in there.values())
    if total > MOST_RATIO * stored + SMALL:
      raise ValueError(f"its arrays have {total:,} bytes, more than {stored:,} bytes of files can hold")
    return
  here = _by_path(wanted)
  if missing := sorted(here.keys() ^ there.keys()):
    raise ValueError(f"{missing[0]} is {'missing' if missing[0] in here else 'not in this config'}")
  for path, array in there.items():
    expected = here[path]
    if (array.shape, array.dtype) != (expected.shape, expected.dtype):
      shown = f"{expected.dtype}{expected.shape}"
      raise ValueError(f"{path} has {array.dtype}{array.shape} where this config has {shown}")


def _by_path(tree: Any) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves)
  return {path: leaf for path, leaf in named if hasattr(leaf, "shape")}


def checksums(state: Any) -> dict[str, int]:
  """{path: CRC-32 of the array's type, shape and bytes}."""
  found = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    array = np.ascontiguousarray(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    found[name] = zlib.crc32(array.reshape(-1).view(np.uint8), zlib.crc32(f"{array.dtype}{array.shape}".encode()))
  return found


def sealed(contents: dict) -> dict:
  """A record of JSON values, with their checksum."""
  text = json.dumps(contents, sort_keys=True)
  return {"contents": text, "crc32": zlib.crc32(text.encode())}


def opened(record: dict) -> dict:
  """The contents of a `sealed` record; raises ValueError if they do not match its checksum."""
  if zlib.crc32(record["contents"].encode()) != record["crc32"]:
    raise ValueError("the record does not match its checksum")
  return json.loads(record["contents"])


def check_progress(progress: Any) -> None:
  """Checks the progress of a run, as `run.Run` saves it.

  Raises:
    ValueError: something is missing in it, or of another type.
  """
  sound = {
    "meter": lambda value: value is None or _has_numbers(value, _METER),
    "test": lambda value: value is None or _has_numbers(value, ("loss", "accuracy", "count")),
    "best": lambda value: value is None or _has_numbers(value, ("step", "accuracy")),
    "to_evaluate": lambda value: isinstance(value, bool),
    "broken": _is_texts,
    "data": lambda value: _has_numbers(value, ("training images", "test images")) and _is_texts(value["class_names"]),
  }
  for name, is_sound in sound.items():
    try:
      right = is_sound(progress[name])
    except (KeyError, TypeError):
      right = False
    if not right:
      raise ValueError(f"{name!r} in its record is missing or of another type")


_METER = ("steps", "loss", "accuracy", "dead", "seconds", "measured_steps", "wall_seconds")


def _has_numbers(value: Any, names: tuple[str, ...]) -> bool:
  """Whether it is an object with numbers of these names; a loss may be infinite, or none."""
  finite = (is_number(value[name]) for name in names if name != "loss")
  return isinstance(value, Mapping) and all(finite) and isinstance(value.get("loss", 0.0), int | float)


def _is_texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(text, str) for text in value)
