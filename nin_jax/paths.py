"""Paths: as users type them, and as libraries take them."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from nin_jax.errors import ConfigError

_BELOW = Path("x" * 100, "x" * 100)  # longer than what is written below a directory
_NOT_LITERAL = re.compile(r"[*?\[\\]|:(/|$)")


def expand(field: str, typed: str | Path) -> Path:
  """Returns the path of a directory that was typed into a field, ~ expanded; it need not exist.

  Args:
    field: the config's field or the flag, for the error.
    typed: a path of this machine's file system.

  Raises:
    ConfigError: it is empty, a URL, too long, or has a NUL or a name that is too long; or its ~USER is unknown.
  """
  text = os.fspath(typed)
  if not text or "://" in text:
    raise ConfigError(field, text, "a directory of this machine's file system")
  path = Path(os.path.expanduser(text))  # not pathlib's, to which ./~ is ~ too
  try:
    if str(path).startswith("~"):
      if text.startswith("~"):
        raise ValueError(f"no home directory is known for {path.parts[0]}")
      path = path.absolute()  # what comes back may be given again
    os.stat(path / _BELOW)
  except (FileNotFoundError, PermissionError, NotADirectoryError):
    return path
  except (OSError, ValueError) as error:
    reason = getattr(error, "strerror", None) or error
    raise ConfigError(field, text, f"a path that this system has a place for ({reason})") from error
  return path


def directory(field: str, typed: str | Path) -> Path:
  """Returns the path of a directory that was typed, as `expand`: on it, `exists` and the like raise nothing.

  Raises:
    ConfigError: as `expand`; or it or what is above it is closed to this user, or a file.
  """
  path = expand(field, typed)
  try:
    os.stat(path / _BELOW)
  except FileNotFoundError:
    return path
  except OSError as error:
    accepted = f"a directory that this user may enter ({error.strerror})"
    raise ConfigError(field, os.fspath(typed), accepted) from error
  return path


@contextlib.contextmanager
def literal(field: str, path: Path) -> Iterator[Path]:
  r"""Gives an absolute spelling of an existing directory that libraries take literally, valid within the block.

  Orbax and JAX look for files by patterns that begin with the directory's path, so [run]1 names another one to them;
  TensorStore reads \ as /, and only UTF-8; Orbax reads gs:/x, and etils /gs/x, as gs://x. Other paths are given as they
  are, these as the path of a descriptor, which only this process can use.

  Args:
    field: the config's field or the flag, for the error.
    path: of the directory.

  Raises:
    ConfigError: there is no such spelling on this system.
    OSError: the directory can't be opened.
  """
  path = path.absolute()
  if not _NOT_LITERAL.search(str(path)) and is_utf8(path) and not is_url(path):
    yield path
    return
  descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
  try:
    spelling = Path(f"/proc/self/fd/{descriptor}")
    if not spelling.is_dir():
      raise ConfigError(field, str(path), r"on this system a path in UTF-8 without *, ?, [, \ and :/ in it")
    yield spelling
  finally:
    os.close(descriptor)


def is_utf8(path: Path) -> bool:
  """Whether the bytes of a path are those that a library gets which encodes it as UTF-8."""
  try:
    return str(path).encode() == os.fsencode(path)
  except UnicodeEncodeError:
    return False


def is_url(path: Path) -> bool:
  """Whether etils, and so Orbax and TFDS, take a path of this file system for a URL, as /gs/bucket."""
  from etils import epath

  return os.fspath(epath.Path(path)) != os.fspath(path)
