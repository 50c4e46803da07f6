"""The directory of compiled programs that JAX keeps between starts: checksums, and the removal of what is damaged.

JAX has no checksums, and a damaged program may crash the process that loads it. So each program, KEY-cache, gets a file
KEY-crc32 once it is on the disk, and a start removes the programs that don't match theirs before JAX reads any.
"""

import contextlib
import functools
import grp
import importlib.util
import logging
import os
import pwd
import re
import time
import warnings
from pathlib import Path

from nin_jax import whole_files
from nin_jax.data import cache

_PROGRAM, _USED, _CHECKSUM = "-cache", "-atime", "-crc32"  # the first two are JAX's
_UNSEALED_SECONDS = 60  # another process may be about to seal what it has just compiled
_LOCK_SECONDS = 10  # as JAX waits
_WARNING = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([\w.-]+)': (.*)", re.DOTALL)


def directory() -> Path | None:
  """Returns the user's own directory of programs; nobody else's is taken, since code is loaded from there.

  None if this user has no home, or others' directories have the names of both that it could be.
  """
  root, user = cache.own(), os.geteuid()
  for path in (root / "programs", root / f"programs-{user}") if root else ():
    try:
      if os.lstat(path).st_uid == user:
        return path
    except OSError:  # not there, or not to be reached: `prepare` tells
      return path
  return None


def is_bounded(path: Path) -> bool:
  """Returns whether JAX can bound the size of the directory: it needs locks, and the names of its users and groups."""
  status = os.stat(path)
  try:
    for user, group in ((status.st_uid, status.st_gid), (os.geteuid(), os.getegid())):
      pwd.getpwuid(user), grp.getgrgid(group)
  except KeyError:
    return False
  return importlib.util.find_spec("filelock") is not None


def prepare(path: Path, max_bytes: int) -> None:
  """Makes the directory if need be, and removes damaged programs, and those that a killed process left unfinished.

  Args:
    path: the directory.
    max_bytes: that it may have; everything goes if it has more and JAX can't bound it.

  Raises:
    OSError: it can't be read or written.
  """
  path.mkdir(parents=True, exist_ok=True)
  programs = [path / name for name in os.listdir(path) if name.endswith(_PROGRAM)]
  bounded = is_bounded(path)
  full = not bounded and sum(map(_size, programs)) > max_bytes
  damaged = [program for program in programs if full or not _is_intact(program, bounded)]
  with _locked(path, bounded):  # even if nothing is damaged: JAX's lock must be there to be had
    for program in damaged:
      if full or not _is_intact(program, bounded):  # another process may have written it since
        _remove(program)
  for checksum in path.glob("*" + _CHECKSUM):
    if not os.path.lexists(_beside(checksum, _CHECKSUM, _PROGRAM)):  # JAX has removed the program, as it's bounded
      cache.remove(checksum)


def seal(path: Path) -> None:
  """Writes the checksums of the programs that have none yet, or removes those that are not whole; raises OSError."""
  names = set(os.listdir(path))
  programs = [path / name for name in names if name.endswith(_PROGRAM)]
  new = [program for program in programs if _beside(program, _PROGRAM, _CHECKSUM).name not in names]
  if not new:
    return
  bounded = is_bounded(path)
  with _locked(path, bounded):
    for program in new:
      if not (_is_whole(program) if bounded else program.is_file()):
        _remove(program)
        continue
      with contextlib.suppress(FileNotFoundError):  # another start has just removed it
        cache.sync(program)
        _beside(program, _PROGRAM, _CHECKSUM).write_text(_checksum(program), encoding="utf-8")


def replace_unreadable(path: Path) -> None:
  """From now on, a program that JAX can't read is removed, so that JAX writes it anew; one line is shown at most.

  JAX names the function in a warning, not the file: it is the one of that function that was read last.
  """
  show = warnings.showwarning
  say = functools.cache(logging.warning)  # the same words once

  @functools.wraps(show)
  def showwarning(message, *args, **kwargs):
    if not (match := _WARNING.match(str(message))):
      return show(message, *args, **kwargs)
    verb, function, reason = match.groups()
    try:
      if verb == "writing":
        raise OSError(reason)
      programs = list(path.glob(f"{function}-*{_PROGRAM}"))
      if is_bounded(path):  # else JAX notes no uses
        programs = sorted(programs, key=_last_use)[-1:]
      for program in programs:
        _remove(program)
      say("Compiled programs in %s are damaged and are compiled anew.", path)
    except (OSError, ValueError) as error:
      cache.warn(path.parent, "written", error)

  warnings.filterwarnings("always", "Error (reading|writing) persistent compilation cache entry")
  warnings.showwarning = showwarning


def _is_intact(program: Path, bounded: bool) -> bool:
  try:
    if not (_is_whole(program) if bounded else program.is_file()):
      return False
    checksum = _beside(program, _PROGRAM, _CHECKSUM)
    if not os.path.lexists(checksum):
      return time.time() - os.stat(program).st_mtime < _UNSEALED_SECONDS
    return whole_files.read(checksum).decode() == _checksum(program)
  except (OSError, ValueError):
    return False


def _size(program: Path) -> int:
  with contextlib.suppress(FileNotFoundError):  # another start has just removed it
    return os.lstat(program).st_size
  return 0


def _is_whole(program: Path) -> bool:
  """JAX writes the program first, and then the time of its use, without which it can't bound the directory."""
  used = _beside(program, _PROGRAM, _USED)
  whole = program.is_file() and used.is_file() and used.stat().st_size == 8
  return whole and os.access(program, os.R_OK) and os.access(used, os.R_OK | os.W_OK)


def _checksum(program: Path) -> str:
  return f"{cache.crc32(program):08x}  {program.name}\n"


def _remove(program: Path) -> None:
  for suffix in (_CHECKSUM, _PROGRAM, _USED):
    cache.remove(_beside(program, _PROGRAM, suffix))


def _beside(path: Path, suffix: str, other: str) -> Path:
  return path.with_name(path.name.removesuffix(suffix) + other)


def _last_use(program: Path) -> int:
  return int.from_bytes(_beside(program, _PROGRAM, _USED).read_bytes(), "little")


@contextlib.contextmanager
def _locked(path: Path, bounded: bool):
  """Within it, neither JAX nor another start writes here."""
  if not bounded:
    yield
    return
  import filelock

  lock = path / ".lockfile"  # JAX's
  if os.path.lexists(lock) and not (lock.is_file() and os.access(lock, os.R_OK | os.W_OK)):
    cache.remove(lock)
  with filelock.FileLock(lock, timeout=_LOCK_SECONDS):
    yield
