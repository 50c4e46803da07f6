"""What a prepared set may make TFDS import: its features.json names classes, and TFDS imports whatever it names."""

import json
from collections.abc import Iterator

from nin_jax.data import set_files
from nin_jax.errors import ConfigError

_PACKAGE = "tensorflow_datasets."
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # protobuf reads both; the last is of old sets
_JSON_KEYS = ("json", "content")  # hold JSON as text
_DESCRIPTION = "features.json"
_DEPTH = 2  # of the description below NAME: NAME/VERSION, NAME/VARIANT/VERSION


def check(config_data, directory) -> None:
  """Refuses a set whose description names classes outside TFDS, in any of its versions, before anything reads it.

  Args:
    config_data: the config's section data.
    directory: the set's, data.dir/NAME, an etils.epath.Path; it need not exist.

  Raises:
    ConfigError: a features.json there is no JSON, or names a class of another package; a directory can't be listed; or
      what is there is no set, see `set_files.check`.
  """
  set_files.check(config_data, directory)
  try:
    descriptions = sorted(_descriptions(directory, _DEPTH))
  except OSError as error:
    accepted = f"a directory of prepared TFDS sets that can be listed ({error})"
    raise ConfigError("data.dir", config_data.dir, accepted) from None
  for path in descriptions:
    try:
      foreign = next(
        (name for name in _classes(json.loads(path.read_text(encoding="utf-8"))) if not name.startswith(_PACKAGE)), None
      )
    except (ValueError, RecursionError, OSError) as error:
      raise ConfigError("data.dir", config_data.dir, f"a directory of prepared TFDS sets; {path}: {error}") from None
    if foreign is not None:
      accepted = f"sets described by TFDS's own features alone; {path} names {foreign!r}, which would be imported"
      raise ConfigError("data.dir", config_data.dir, accepted)


def _descriptions(directory, depth: int) -> Iterator:
  """Every description in a directory and so many levels below: `glob` would take brackets in its path for a pattern."""
  if (directory / _DESCRIPTION).exists():
    yield directory / _DESCRIPTION
  if depth and directory.is_dir():
    for child in directory.iterdir():
      if child.is_dir():
        yield from _descriptions(child, depth - 1)


def _classes(value: object) -> Iterator[str]:
  """Every class name in a description, however deep."""
  if isinstance(value, list):
    for item in value:
      yield from _classes(item)
  elif isinstance(value, dict):
    for key, item in value.items():
      if isinstance(item, str) and key in _CLASS_KEYS:
        yield item
      elif isinstance(item, str) and key in _JSON_KEYS:
        try:
          yield from _classes(json.loads(item))
        except ValueError:
          continue  # text of another kind
      else:
        yield from _classes(item)
