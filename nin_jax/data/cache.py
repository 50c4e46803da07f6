"""Directories kept on disk between runs, each with checksums of its files; above all arrays, as .npy files."""

import contextlib
import errno
import functools
import json
import logging
import os
import shutil
import stat
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from nin_jax import paths, temporary, whole_files
from nin_jax.errors import line

WRITING = ".writing-"  # begins the names of directories that are not finished
CHECKSUMS = "checksums.json"
_ABANDONED_SECONDS = 86_400
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)  # say nothing of a file's content
_warned: set[str] = set()  # directories that `warn` has warned of

process_directory = functools.cache(temporary.directory)  # for what can't be kept


class Unusable(OSError):
  """An entry that this process can neither read nor replace."""


def directory(cache_dir: str) -> Path:
  """Returns cache_dir, or if that is "" the user's, see `own`; without one, a directory that the process removes.

  Raises:
    ConfigError: cache_dir is no path.
  """
  if cache_dir:
    return paths.expand("data.cache_dir", cache_dir)
  return own() or _homeless()


def own() -> Path | None:
  """Returns $XDG_CACHE_HOME/nin_jax, or ~/.cache/nin_jax; None if this user has no home."""
  if root := os.environ.get("XDG_CACHE_HOME"):
    return Path(root) / "nin_jax"
  try:
    return Path.home() / ".cache" / "nin_jax"
  except RuntimeError:  # neither HOME nor a name of the user, as in containers
    return None


@functools.cache
def _homeless() -> Path:
  logging.warning("This user has no home, and data.cache_dir is not set: the cache ends with the process.")
  return process_directory() / "cache"


def load_or_make(
  root: Path, name: str, key: Mapping[str, object], make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Returns the arrays of an entry, made and written on first use; read back, they are memory-mapped read-only.

  An entry appears whole or not at all, whichever processes make it at once. One that does not match its checksums is
  made anew with a warning; if nothing can be read or written, a warning says so and the arrays are returned all the
  same.

  Args:
    root: the cache directory.
    name: a readable start of the entry's file name.
    key: what the arrays are a function of; JSON values.
    make: returns the arrays. None may be of dtype object.
  """
  key_json = json.dumps(key, sort_keys=True)
  entry = root / f"{name}-{sha256(key_json.encode()).hexdigest()[:16]}"
  try:
    if find(entry, key_json):
      names = [name for name in os.listdir(entry) if name.endswith(".npy")]
      return {name.removesuffix(".npy"): np.asarray(np.load(entry / name, mmap_mode="r")) for name in names}
  except OSError as error:
    warn(root, "read", error)
    return make()
  arrays = make()
  try:
    with writing(root) as unfinished:
      for array_name, array in arrays.items():
        np.save(unfinished / f"{array_name}.npy", array, allow_pickle=False)
      publish(unfinished, entry, key_json)
  except OSError as error:
    warn(root, "written", error)
  return arrays


def find(entry: Path, key: str) -> bool:
  """Returns whether an intact entry is there; a damaged one is removed, with a warning.

  Args:
    entry: its directory.
    key: that it was published with.

  Raises:
    Unusable: it can't be read now, though it may be intact; or it is damaged, and can't be removed.
  """
  try:
    _check(entry, key)
    return True
  except Exception as error:  # whatever a damaged file leads to
    try:
      owner = os.lstat(entry).st_uid
    except (FileNotFoundError, NotADirectoryError):
      return False
    except OSError as unreachable:
      raise Unusable(*unreachable.args) from None
    foreign = isinstance(error, PermissionError) and owner != os.geteuid()
    if foreign or (isinstance(error, OSError) and error.errno in _PASSING):
      raise Unusable(error.errno, error.strerror, error.filename) from None
    try:
      remove(entry)
    except OSError as refused:
      raise Unusable(refused.errno, f"it is damaged and can't be removed, {refused.strerror}", str(entry)) from None
    logging.warning("The cache entry %s is damaged (%s) and is made anew.", line(str(entry)), _reason(error))
    return False


@contextlib.contextmanager
def writing(root: Path):
  """Makes a directory within `root`, which is made too, to `publish` from; it is removed at the end.

  It has the group and the mode that the umask and `root` say, so that others can read it if they can read `root`.
  """
  root.mkdir(parents=True, exist_ok=True)
  _remove_abandoned(root)
  unfinished = root / f"{WRITING}{uuid.uuid4().hex[:12]}"
  unfinished.mkdir()
  try:
    yield unfinished
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)


def publish(finished: Path, entry: Path, key: str) -> None:
  """Gives a finished directory its name in one step, with checksums, once it is on the disk.

  If another process was first, its work stands.
  """
  sums = {path.name: crc32(path) for path in sorted(finished.iterdir())}
  content = {"key": key, "files": sums, "checksum": _checksum(key, sums)}
  (finished / CHECKSUMS).write_text(json.dumps(content, indent=2), encoding="utf-8")
  for path in finished.iterdir():
    sync(path)
  with contextlib.suppress(OSError):  # some file systems don't sync directories
    sync(finished)
  try:
    os.rename(finished, entry)
  except OSError:
    if not entry.is_dir():
      raise
  with contextlib.suppress(OSError):
    sync(entry.parent)


def remove(path: Path) -> None:
  """Removes a file or directory in one step, so that nobody reads a part of it.

  Raises:
    OSError: it can't be removed; then it is as it was.
  """
  if path.is_symlink() or not path.is_dir():
    path.unlink(missing_ok=True)
    return
  if os.lstat(path).st_uid == os.geteuid():
    _make_removable(path)
  elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
  with writing(path.parent) as unfinished, contextlib.suppress(FileNotFoundError):
    os.rename(path, unfinished)  # over the empty directory


def warn(root: Path, verb: str, error: Exception) -> None:
  """Warns once that a directory of the cache can't be used.

  Args:
    root: the directory.
    verb: read or written.
    error: why.
  """
  if str(root) not in _warned:
    _warned.add(str(root))
    where, why = line(str(root)), _reason(error)
    logging.warning("The cache %s cannot be %s (%s): what it lacks is made anew at each start.", where, verb, why)


def crc32(path: Path) -> int:
  """Returns the CRC-32 of a file's content; raises OSError, also if it is no regular file, as a pipe."""
  if not stat.S_ISREG(os.stat(path).st_mode):
    raise OSError(errno.EINVAL, "not a regular file", str(path))
  value = 0
  with path.open("rb") as file:
    while block := file.read(2**20):
      value = zlib.crc32(block, value)
  return value


def sync(path: Path) -> None:
  """Waits until a file or directory is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _check(entry: Path, key: str) -> None:
  """Raises whatever a missing or damaged file leads to."""
  names = set(os.listdir(entry))
  if CHECKSUMS not in names:
    raise ValueError("it has no checksums, as those of earlier versions")
  content = whole_files.read_json(entry / CHECKSUMS)
  sums = content["files"]
  if content["checksum"] != _checksum(key, sums) or names != {CHECKSUMS, *sums}:
    raise ValueError(f"{CHECKSUMS} is not that of its key and files")
  for name, expected in sums.items():
    if crc32(entry / name) != expected:
      raise ValueError(f"{name} does not match its checksum")


def _checksum(key: str, sums: dict[str, int]) -> int:
  return zlib.crc32(json.dumps([key, sums], sort_keys=True).encode())


def _reason(error: Exception) -> str:
  return line(str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}")


def _make_removable(path: Path) -> None:
  """Gives the user the rights to a directory of theirs that listing and removing its content take."""
  path.chmod(0o700)
  for parent, directories, _ in os.walk(path):
    for name in directories:
      if not os.path.islink(below := os.path.join(parent, name)):
        os.chmod(below, 0o700)


def _remove_abandoned(root: Path) -> None:
  """Removes what a killed process left half-written a day ago or earlier."""
  with contextlib.suppress(OSError):
    for path in root.glob(WRITING + "*"):
      with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
          shutil.rmtree(path, ignore_errors=True)
