"""A run's directory: its config, and whether another run may go on in it."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from nin_jax import paths, whole_files
from nin_jax.checks import is_number
from nin_jax.config import from_values
from nin_jax.errors import ConfigError, line
from nin_jax.train.storage import write_json

# What may be changed when a run goes on: nothing of it decides which parameters come out.
FREE = (
  "log",
  "checkpoint",
  "eval",
  "lowering",  # the same function to float tolerance, and what to change after a native crash
  "data.dir",
  "data.cache_dir",
  "data.workers",
  "data.broken_images",
  "train.dead_steps",
)
SWEEP = "sweep.json"  # in a directory whose runs are in `trials/`
_LOCK = ".lock"
_RETRY_SECONDS = 0.2


class InUse(ConfigError):
  """Another run is at the directory."""


def locate(directory: str | Path) -> Path:
  """The directory as typed, ~ expanded.

  Raises:
    ConfigError: it is not a path of this file system that this user may enter.
  """
  return paths.directory("--workdir", directory)


@contextlib.contextmanager
def claim(directory: Path, config: ConfigDict, wait_seconds: float = 0.0) -> Iterator[None]:
  """Makes the directory and writes `config.json`, or checks that the run in it is of this config; keeps others out.

  Args:
    directory: the workdir.
    config: of the run.
    wait_seconds: how long another run that is at the directory is waited for.

  Raises:
    ConfigError: the directory can't be made or written to, or holds the run of another config.
    InUse: another run is at it.
  """
  _refuse_sweep(directory)
  if (directory / "config.json").exists():
    compare(directory, config)
  with alone(directory, wait_seconds):
    try:
      write_json(directory / "config.json", config.to_dict())
    except OSError as error:
      raise _not_writable(directory, error) from error
    yield


def _refuse_sweep(directory: Path) -> None:
  if (directory / SWEEP).exists():
    accepted = f"a new directory, or that of a run; this one holds a sweep ({SWEEP})"
    raise ConfigError("--workdir", str(directory), accepted)


@contextlib.contextmanager
def alone(directory: Path, wait_seconds: float = 0.0) -> Iterator[None]:
  """Makes the directory and keeps other processes out of it.

  The system lets go of the lock when the process ends, however it ends.

  Args:
    directory: a workdir, or a sweep's.
    wait_seconds: how long another run that is at the directory is waited for.

  Raises:
    ConfigError: the directory can't be made or written to.
    InUse: another run is at it.
  """
  try:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _LOCK
    if path.exists() and not path.is_file():
      raise OSError(errno.EINVAL, f"{path} is not a regular file")
    lock = path.open("a+b", buffering=0)
  except OSError as error:
    raise _not_writable(directory, error) from error
  with lock:
    _lock(lock, directory, time.monotonic() + wait_seconds)
    yield


def _not_writable(directory: Path, error: OSError) -> ConfigError:
  return ConfigError(
    "--workdir", str(directory), f"a directory that can be made and written to ({error.strerror or error})"
  )


def _lock(lock: IO, directory: Path, until: float) -> None:
  while True:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      if time.monotonic() >= until:
        lock.seek(0)
        holder = lock.read(200).decode(errors="replace") or "another process"
        accepted = f"a directory that no other run is writing to; {holder} is at this one"
        raise InUse("--workdir", str(directory), accepted) from error
      time.sleep(_RETRY_SECONDS)
    except OSError as error:  # some network file systems have no locks
      logging.warning(
        "%s can't be locked (%s): take care that one run alone writes there.", line(str(directory)), error.strerror
      )
      return
    else:
      with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
      return


def compare(directory: Path, config: ConfigDict, also_free: tuple[str, ...] = ()) -> None:
  """Checks that a config is that of the run in a directory, but for the fields that are `FREE`, or `also_free`.

  Raises:
    ConfigError: there is no run, or one of another config.
  """
  differ = _differences(_flat(_read(directory / "config.json")), flat(config), FREE + also_free)
  if differ:
    shown = ", ".join(differ[:3]) + (f" and {len(differ) - 3} more" if len(differ) > 3 else "")
    raise ConfigError("--workdir", str(directory), f"a new directory, or the config of the run in this one ({shown})")


def differences(there: ConfigDict, asked: ConfigDict) -> list[str]:
  """What differs between two configs, but for the fields that are `FREE`: "seed 0 → 1"."""
  return _differences(flat(there), flat(asked), FREE)


def _differences(there: dict, asked: dict, free: tuple[str, ...]) -> list[str]:
  inside = tuple(f"{name}." for name in free)
  return [
    f"{name} {there.get(name)!r} → {asked.get(name)!r}"
    for name in sorted(there.keys() | asked.keys())
    if there.get(name) != asked.get(name) and name not in free and not name.startswith(inside)
  ]


def flat(config: ConfigDict) -> dict[str, Any]:
  """{section.field: JSON value} of a config."""
  return _flat(json.loads(json.dumps(config.to_dict())))


def read_config(directory: str | Path) -> ConfigDict:
  """The config of the run in a directory.

  Raises:
    ConfigError: there is none.
  """
  path = locate(directory) / "config.json"
  try:
    return from_values(whole_files.read_json(path))
  except (OSError, ValueError) as error:
    raise _not_whole(path) from error


def result(directory: Path, config: ConfigDict) -> dict | None:
  """`result.json` of a run of this config that has ended, or None.

  Raises:
    ConfigError: the run that has ended is of another config, the file is not whole, or the directory can't be entered
      or holds a sweep.
  """
  directory = locate(directory)
  _refuse_sweep(directory)
  path = directory / "result.json"
  if not path.exists():
    return None
  compare(directory, config)
  values = _read(path)
  if not is_result(values):
    raise _not_whole(path)
  return values


def is_result(values: dict) -> bool:
  """Whether an object has what is read of a `result.json`, of the right types."""
  return (
    all(is_accuracy(values.get(name)) for name in ("test_accuracy", "train_accuracy"))
    and all(is_count(values.get(name)) for name in ("steps", "params", "macs", "devices"))
    and all(values.get(name) is None or is_number(values[name]) for name in ("test_loss", "images_per_second"))
    and isinstance(values.get("device"), str)
  )


def is_accuracy(value: Any) -> bool:
  """Whether a value of a JSON file is a number from 0 to 1."""
  return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
  """Whether one is a whole number, 0 or more."""
  return isinstance(value, int) and is_number(value) and value >= 0


def _read(path: Path) -> dict:
  try:
    values = whole_files.read_json(path)
  except (OSError, ValueError) as error:
    raise _not_whole(path) from error
  if not isinstance(values, dict):
    raise _not_whole(path)
  return values


def _not_whole(path: Path) -> ConfigError:
  return ConfigError("--workdir", str(path.parent), f"the directory of a run, whose {path.name} is whole")


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in values.items():
    if isinstance(value, dict):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat
