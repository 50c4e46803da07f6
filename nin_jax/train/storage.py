"""Files of a workdir that are there whole or not at all."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nin_jax.printable import printable


class WorkdirError(RuntimeError):
  """The workdir can't be written to any more: the disk is full, has become read-only or is gone; a printable line."""

  def __init__(self, message: object):
    super().__init__(printable(str(message)))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
  """Within it, an OSError is a WorkdirError that names the file."""
  try:
    yield
  except OSError as error:
    raise WorkdirError(f"{path} can't be written: {error.strerror or error}") from error


def write_json(path: str | Path, value: Any) -> None:
  """Writes a value as a JSON file that is there whole or not at all, whenever the process or the machine stops.

  Args:
    path: the file, in an existing directory. It is replaced if it exists.
    value: dicts, lists, tuples, strings, numbers (NumPy and JAX scalars too), booleans and None. Numbers that are not
      finite become null, which JSON has a word for.

  Raises:
    TypeError: for anything else.
    OSError: it can't be written.
  """
  replace(Path(path), (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
  """The value in JSON's types; numbers that are not finite as None. Raises TypeError as `write_json`."""
  if value is None or isinstance(value, str | bool | int):
    return value
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else None
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if getattr(value, "shape", None) == ():
    return plain(value.item())
  raise TypeError(f"no place in JSON for {type(value).__name__}: {value!r}")


def replace(path: Path, content: bytes) -> None:
  """Replaces a file's content at once: written beside it, synced, renamed."""
  beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with beside.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    beside.replace(path)
  finally:
    beside.unlink(missing_ok=True)
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)  # the rename itself
  finally:
    os.close(directory)
