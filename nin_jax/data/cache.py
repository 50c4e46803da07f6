"""Arrays kept on disk between runs: each entry is a directory of .npy files beside one JSON file."""

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nin_jax import paths, temporary

WRITING = ".writing-"  # begins the names of directories that are not finished
_ABANDONED_SECONDS = 86_400


def directory(cache_dir: str) -> Path:
  """Returns cache_dir, or where that is "" the user's, see `own`; without one, a directory that the process removes.

  Raises:
    ConfigError: cache_dir is no path.
  """
  if cache_dir:
    return paths.expand("data.cache_dir", cache_dir)
  return own() or process_directory()


def own() -> Path | None:
  """Returns $XDG_CACHE_HOME/nin_jax, or ~/.cache/nin_jax; None where this user has no home."""
  if root := os.environ.get("XDG_CACHE_HOME"):
    return Path(root) / "nin_jax"
  try:
    return Path.home() / ".cache" / "nin_jax"
  except RuntimeError:
    return None


@functools.cache
def process_directory() -> Path:
  """Returns a directory that lasts as long as the process, with a warning at the first call."""
  logging.warning("This user has no home, and data.cache_dir is not set: the cache ends with the process.")
  return temporary.directory()


def load_or_make(
  root: Path, name: str, key: Mapping[str, object], make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Returns the arrays of an entry, made and written on first use; read back, they are memory-mapped read-only.

  An entry appears whole or not at all, whichever processes make it at once. One that does not match its checksums is
  made anew with a warning; where nothing can be written, a warning says so and the arrays are returned all the same.

  Args:
    root: the cache directory.
    name: a readable start of the entry's file name.
    key: what the arrays are a function of; JSON values.
    make: returns the arrays. None may be of dtype object.
  """
  key_json = json.dumps(key, sort_keys=True)
  entry = root / f"{name}-{hashlib.sha256(key_json.encode()).hexdigest()[:16]}"
  if os.path.isdir(entry):  # Path.is_dir raises where the cache is closed to this user
    try:
      return _read(entry, key_json)
    except Exception as error:  # whatever a damaged file leads to
      logging.warning("The cache entry %s is damaged (%s) and is made anew.", entry, error)
      with contextlib.suppress(OSError):
        _discard(entry)
  arrays = make()
  try:
    _write(entry, key_json, arrays)
  except OSError as error:
    logging.warning("The cache directory %s cannot be written (%s): the next start decodes again.", root, error)
  return arrays


def _checksum(array: np.ndarray) -> int:
  return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _read(entry: Path, key_json: str) -> dict[str, np.ndarray]:
  meta = json.loads((entry / "entry.json").read_text(encoding="utf-8"))
  if meta["key"] != key_json:
    raise ValueError("it belongs to another key")
  arrays = {}
  for name, expected in meta["crc32"].items():
    arrays[name] = np.asarray(np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    if _checksum(arrays[name]) != expected:
      raise ValueError(f"{name}.npy does not match its checksum")
  return arrays


def _write(entry: Path, key_json: str, arrays: dict[str, np.ndarray]) -> None:
  entry.parent.mkdir(parents=True, exist_ok=True)
  remove_abandoned(entry.parent)
  temporary = Path(tempfile.mkdtemp(prefix=WRITING, dir=entry.parent))
  try:
    for name, array in arrays.items():
      np.save(temporary / f"{name}.npy", array, allow_pickle=False)
    meta = {"key": key_json, "crc32": {name: _checksum(array) for name, array in arrays.items()}}
    (temporary / "entry.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")
    publish(temporary, entry)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, entry: Path) -> None:
  """Gives a finished directory its name in one step; where another process was first, its work stands."""
  try:
    os.rename(temporary, entry)
  except OSError:
    if not entry.is_dir():
      raise


def _discard(entry: Path) -> None:
  """Removes an entry in one step, so that nobody reads a part of it."""
  replaced = Path(tempfile.mkdtemp(prefix=WRITING, dir=entry.parent))
  try:
    os.rename(entry, replaced)  # over the empty directory
  except FileNotFoundError:
    pass
  finally:
    shutil.rmtree(replaced, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
  """Removes what a killed process left half-written a day ago or earlier."""
  for path in root.glob(WRITING + "*"):
    with contextlib.suppress(FileNotFoundError):
      if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
        shutil.rmtree(path, ignore_errors=True)
