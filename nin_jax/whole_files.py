"""Readers of regular files of a bounded size, and of JSON in them, for files that may be damaged or special."""

import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

MAX_BYTES = 2**30  # of a file
MAX_DEPTH = 50  # of lists and objects within each other
MAX_DIGITS = 300  # of a whole number: a float holds it
_AT_ONCE = os.O_NONBLOCK | os.O_NOCTTY  # no pipe is waited for, and no terminal becomes that of this process


def read(path: str | Path, most: int = MAX_BYTES) -> bytes:
  """Returns what a file of at most so many bytes holds.

  Raises:
    OSError: it can't be opened or read, is no regular file (a pipe would be waited for, and to open a device may do
      something), or is larger.
  """
  _check(os.stat(path), most)
  with open(path, "rb", opener=lambda path, flags: os.open(path, flags | _AT_ONCE)) as file:
    status = os.fstat(file.fileno())  # another one may have taken its place
    _check(status, most)
    return file.read(status.st_size)  # of a file in /proc the size is 0, and what it holds may have no end


def _check(status: os.stat_result, most: int) -> None:
  if not stat.S_ISREG(status.st_mode):
    raise OSError(errno.EINVAL, "not a regular file")
  if status.st_size > most:
    raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, more than the limit of {most:,}")


def read_json(path: str | Path) -> Any:
  """Returns the value in a JSON file.

  Raises:
    OSError: as `read`.
    ValueError: as `parse`.
  """
  return parse(read(path))


def parse(text: str | bytes) -> Any:
  """Returns a JSON value whose numbers are finite and whose depth is bounded.

  Raises:
    ValueError: it is not UTF-8 or not JSON (NaN and Infinity are not), a number is too large for a float, or lists and
      objects are more than MAX_DEPTH deep.
  """
  try:
    text = text.decode() if isinstance(text, bytes) else text
    value = json.loads(text, parse_constant=_refuse, parse_float=_number, parse_int=_whole)
  except RecursionError:
    raise ValueError("nested too deeply") from None
  _check_depth(value, MAX_DEPTH)
  return value


def _refuse(name: str) -> None:
  raise ValueError(f"{name} is no JSON")


def _number(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f"{text[:20]} is too large")
  return value


def _whole(text: str) -> int:
  if len(text) > MAX_DIGITS:
    raise ValueError(f"a whole number of {len(text)} digits")
  return int(text)


def _check_depth(value: Any, left: int) -> None:
  if isinstance(value, dict | list):
    if not left:
      raise ValueError("nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
      _check_depth(item, left - 1)
