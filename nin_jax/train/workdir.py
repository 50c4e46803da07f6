"""A run's directory: its config, and whether another run may go on in it."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from nin_jax.errors import ConfigError
from nin_jax.train.journal import write_json

# What may be changed when a run goes on: nothing of it decides which parameters come out.
FREE = ("log", "checkpoint", "eval", "data.dir", "data.cache_dir")


def claim(workdir: Path, config: ConfigDict) -> None:
  """Makes the directory and writes `config.json`, or checks that the run in it is of this config.

  Raises:
    ConfigError: the directory can't be made, or holds the run of another config.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError("--workdir", str(workdir), f"a directory that can be made ({error.strerror})") from error
  asked = _flat(json.loads(json.dumps(config.to_dict())))
  if (workdir / "config.json").exists():
    there = _flat(_read(workdir))
    free = tuple(f"{name}." for name in FREE)
    differ = [
      f"{name} {there.get(name)!r} → {asked.get(name)!r}"
      for name in sorted(there.keys() | asked.keys())
      if there.get(name) != asked.get(name) and name not in FREE and not name.startswith(free)
    ]
    if differ:
      shown = ", ".join(differ[:3]) + (f" and {len(differ) - 3} more" if len(differ) > 3 else "")
      raise ConfigError("--workdir", str(workdir), f"a new directory, or the config of the run in this one ({shown})")
  try:
    write_json(workdir / "config.json", config.to_dict())
  except OSError as error:
    raise ConfigError("--workdir", str(workdir), f"a directory that can be written to ({error.strerror})") from error


def config(workdir: Path) -> ConfigDict:
  """The config of the run in a directory.

  Raises:
    ConfigError: there is none.
  """
  if not (workdir / "config.json").is_file():
    raise ConfigError("--workdir", str(workdir), "the directory of a run, with its config.json")
  return ConfigDict(_tuples(_read(workdir)))


def result(workdir: Path) -> dict | None:
  """`result.json` of a run that has ended, or None."""
  path = workdir / "result.json"
  return json.loads(path.read_text()) if path.exists() else None


def _read(workdir: Path) -> dict:
  try:
    return json.loads((workdir / "config.json").read_text())
  except ValueError as error:
    raise ConfigError("--workdir", str(workdir), f"a run whose config.json is JSON ({error})") from error


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
