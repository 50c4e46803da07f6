"""A run's directory: its config, and whether another run may go on in it."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from nin_jax.errors import ConfigError
from nin_jax.train.journal import write_json

# What may be changed when a run goes on: nothing of it decides which parameters come out.
FREE = ("log", "checkpoint", "eval", "data.dir", "data.cache_dir", "train.dead_steps")


def locate(directory: str | Path) -> Path:
  """The directory as typed, ~ expanded.

  Raises:
    ConfigError: it is not of this file system.
  """
  if "://" in str(directory):
    raise ConfigError("--workdir", str(directory), "a directory of this machine's file system")
  return Path(directory).expanduser()


def claim(directory: Path, config: ConfigDict) -> None:
  """Makes the directory and writes `config.json`, or checks that the run in it is of this config.

  Raises:
    ConfigError: the directory can't be made or written to, or holds the run of another config.
  """
  if (directory / "config.json").exists():
    compare(directory, config)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config.to_dict())
  except OSError as error:
    accepted = f"a directory that can be made and written to ({error.strerror})"
    raise ConfigError("--workdir", str(directory), accepted) from error


def compare(directory: Path, config: ConfigDict) -> None:
  """Checks that a config is that of the run in a directory, but for the fields that are `FREE`.

  Raises:
    ConfigError: there is no run, or one of another config.
  """
  there = _flat(_read(directory / "config.json"))
  asked = _flat(json.loads(json.dumps(config.to_dict())))
  free = tuple(f"{name}." for name in FREE)
  differ = [
    f"{name} {there.get(name)!r} → {asked.get(name)!r}"
    for name in sorted(there.keys() | asked.keys())
    if there.get(name) != asked.get(name) and name not in FREE and not name.startswith(free)
  ]
  if differ:
    shown = ", ".join(differ[:3]) + (f" and {len(differ) - 3} more" if len(differ) > 3 else "")
    raise ConfigError("--workdir", str(directory), f"a new directory, or the config of the run in this one ({shown})")


def read_config(directory: str | Path) -> ConfigDict:
  """The config of the run in a directory.

  Raises:
    ConfigError: there is none.
  """
  return ConfigDict(_tuples(_read(locate(directory) / "config.json")))


def result(directory: Path) -> dict | None:
  """`result.json` of a run that has ended, or None."""
  path = directory / "result.json"
  return _read(path) if path.exists() else None


def _read(path: Path) -> dict:
  accepted = f"the directory of a run, whose {path.name} is whole"
  try:
    values = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ConfigError("--workdir", str(path.parent), accepted) from error
  if not isinstance(values, dict):
    raise ConfigError("--workdir", str(path.parent), accepted)
  return values


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in values.items():
    if isinstance(value, dict):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def _tuples(value: Any) -> Any:
  """JSON's lists as tuples, which is what a config has."""
  if isinstance(value, dict):
    return {name: _tuples(item) for name, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
