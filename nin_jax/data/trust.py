"""What a prepared set may make TFDS import: its features.json names classes, and TFDS imports whatever it names."""

import json
from collections.abc import Iterator

from nin_jax.data import set_files
from nin_jax.errors import ConfigError

_PACKAGE = "tensorflow_datasets."
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # protobuf reads both; the last is of old sets
_JSON_KEYS = ("json", "content")  # hold JSON as text
_PLACES = ("features.json", "*/features.json", "*/*/features.json")  # NAME/VERSION, NAME/VARIANT/VERSION


def check(config_data, directory) -> None:
  """Refuses a set whose description names classes outside TFDS, in any of its versions, before anything reads it.

  Args:
    config_data: the config's section data.
    directory: the set's, data.dir/NAME, an etils.epath.Path; it need not exist.

  Raises:
    ConfigError: a features.json there is no JSON, or names a class of another package; or what is there is no set, see
      `set_files.check`.
  """
  set_files.check(config_data, directory)
  for path in sorted(path for pattern in _PLACES for path in directory.glob(pattern)):
    try:
      foreign = next(
        (name for name in _classes(json.loads(path.read_text(encoding="utf-8"))) if not name.startswith(_PACKAGE)), None
      )
    except (ValueError, RecursionError, OSError) as error:
      raise ConfigError("data.dir", config_data.dir, f"a directory of prepared TFDS sets; {path}: {error}") from None
    if foreign is not None:
      accepted = f"sets described by TFDS's own features alone; {path} names {foreign!r}, which would be imported"
      raise ConfigError("data.dir", config_data.dir, accepted)


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
