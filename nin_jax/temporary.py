"""Temporary directories that last as long as the process, and are removed by each of its ways to end but SIGKILL."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_made: list[tuple[int, str]] = []  # with the process: one that is forked has no part in them


def directory() -> Path:
  """Makes a temporary directory."""
  path = tempfile.mkdtemp(prefix="nin_jax-")
  _made.append((os.getpid(), path))
  return Path(path)


@atexit.register
def remove() -> None:
  """Removes them: to be called before `os._exit`, which skips what is registered for the end of the process."""
  for process, path in _made:
    if process == os.getpid():
      shutil.rmtree(path, ignore_errors=True)
