"""The one-time download of a TFDS set, and its conversion to ArrayRecord."""

import importlib.util
import os
from pathlib import Path

from ml_collections import ConfigDict

from nin_jax import paths
from nin_jax.data import source
from nin_jax.errors import ConfigError

_INSTALL = "pip install -r requirements-tfds.txt"


def prepare(name: str, data_dir: str = "") -> str:
  """Downloads a set with its official builder and writes it as ArrayRecord; needs TensorFlow, except for `digits`.

  Args:
    name: as data.name.
    data_dir: where to, made if need be; "": $TFDS_DATA_DIR or ~/tensorflow_datasets.

  Returns:
    The directory to give as data.dir.

  Raises:
    ConfigError: the name is unknown, TensorFlow is missing, or the download or the conversion failed.
  """
  if "://" not in data_dir and data_dir:
    try:
      source.for_tfds("--data_dir", paths.directory("--data_dir", data_dir)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise ConfigError("--data_dir", data_dir, f"a directory that can be made: {error}") from None
  config_data = ConfigDict({"name": name, "dir": data_dir, "cache_dir": data_dir})
  try:
    directory = source.data_dir(config_data)
    if directory.startswith("~"):
      raise ConfigError("--data_dir", data_dir, "a directory, as this user has no home")
    if not source.is_prepared(source.builder(config_data)):
      if name == source.DIGITS:
        _write_digits(directory)
      else:
        _download(name, directory)
    source.prepared(config_data)
  except ConfigError as error:
    flags = {"data.name": "--name", "data.dir": "--data_dir"}
    raise ConfigError(flags.get(error.field, error.field), error.value, error.accepted) from error
  return os.path.abspath(directory) if "://" not in directory else directory


def _write_digits(directory: str) -> None:
  from nin_jax.data import digits

  entry = digits.entry(Path(directory))
  present = entry if entry.parent.is_dir() else entry.parent
  if os.path.lexists(present):  # in a cache, `digits.write` would replace it
    raise ConfigError("--data_dir", directory, f"a directory without a damaged set of digits: move {present} away")
  try:
    digits.write(Path(directory))
  except Exception as error:  # a full disk has other names in TFDS and ArrayRecord
    raise ConfigError("--data_dir", directory, f"a directory that can be written: {error}") from error


def _download(name: str, directory: str) -> None:
  if importlib.util.find_spec("tensorflow") is None:
    raise ConfigError(
      "--name", name, f"digits, as long as TensorFlow is missing, which the others need once: {_INSTALL}"
    )
  from nin_jax.data.tfds import tfds

  builder = tfds.builder(name, data_dir=directory, file_format="array_record")
  config = tfds.download.DownloadConfig(try_download_gcs=False)
  try:
    builder.download_and_prepare(download_config=config, file_format="array_record")
  except ImportError as error:
    raise ConfigError(
      "--name", name, f"a set that can be prepared with what is installed ({error}): {_INSTALL}"
    ) from error
  except Exception as error:  # from anywhere between the network and the set's own code
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:600]
    raise ConfigError("--name", name, f"a set that can be downloaded and prepared from here ({reason})") from error
