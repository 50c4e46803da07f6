"""The files of a prepared TFDS set: regular ones, since TFDS would wait for a pipe and read a device without end."""

import os
from collections.abc import Iterator

from nin_jax.errors import ConfigError

DEPTH = 3  # of directories: NAME, NAME/VERSION, NAME/VARIANT/VERSION
MAX_TEXT = 2**26  # bytes of a file that TFDS reads as a whole: descriptions and names of classes


def check(config_data, directory: os.PathLike) -> None:
  """Refuses a set with anything but directories and regular files, or with a description larger than MAX_TEXT.

  Args:
    config_data: the config's section data.
    directory: the set's, data.dir/NAME; it need not exist, or be of this file system.

  Raises:
    ConfigError: there is.
  """
  if "://" in os.fspath(directory):
    return
  for entry in _files(os.fspath(directory), DEPTH):
    if not entry.is_file() and os.path.exists(entry.path):  # what a link leads to may be missing
      reason = "is a pipe, a socket or a device"
    elif entry.name.endswith((".json", ".txt")) and os.path.exists(entry.path) and entry.stat().st_size > MAX_TEXT:
      reason = f"has {entry.stat().st_size:,} bytes, more than the limit of {MAX_TEXT:,}"
    else:
      continue
    raise ConfigError("data.dir", config_data.dir, f"a directory of prepared TFDS sets; {entry.path} {reason}")


def _files(directory: str, depth: int) -> Iterator[os.DirEntry]:
  """All but the directories."""
  try:
    entries = list(os.scandir(directory))
  except OSError:  # reported when it is read
    return
  for entry in entries:
    if entry.is_dir():
      yield from _files(entry.path, depth - 1) if depth > 1 else ()
    else:
      yield entry
