"""Temporary directories that last as long as the process, whatever ends it but SIGKILL and native crashes."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_made: list[tuple[int, str]] = []  # with the process that made each: a forked one removes none of them


def directory() -> Path:
  """Makes a temporary directory."""
  path = tempfile.mkdtemp(prefix="nin_jax-")
  _made.append((os.getpid(), path))
  return Path(path)


@atexit.register
def remove_all() -> None:
  """Removes them: to be called before `os._exit`, which skips what is registered for the end of the process."""
  for process, path in _made:
    if process == os.getpid():
      shutil.rmtree(path, ignore_errors=True)
