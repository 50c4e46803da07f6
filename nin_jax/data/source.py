"""Names of data sets → TFDS builders and their record files, without TensorFlow."""

import difflib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nin_jax import paths
from nin_jax.data import cache, decode, trust
from nin_jax.data.faults import DamagedRecords
from nin_jax.errors import ConfigError

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

DIGITS = "digits"
_DESCRIPTION = "dataset_info.json"
_NAME = re.compile(r"(?P<name>\w+)(/[^:\s]+)?(:(experimental_latest|[\d*]+(\.[\d*]+)*))?")


def data_dir(config_data) -> str:
  """Returns the directory that TFDS sets lie in: data.dir, or $TFDS_DATA_DIR, or ~/tensorflow_datasets.

  Raises:
    ConfigError: data.dir is given and does not exist, or can't be entered.
  """
  from etils import epath

  given = config_data.dir
  if not given:
    return os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
  directory = epath.Path(given) if "://" in given else for_tfds("data.dir", paths.directory("data.dir", given))
  if not directory.is_dir():
    raise ConfigError("data.dir", given, "an existing directory of prepared TFDS sets")
  return os.fspath(directory)


def for_tfds(field: str, directory: Path) -> Path:
  """Returns the directory; raises ConfigError where TFDS and ArrayRecord can't be given its path."""
  if not paths.is_utf8(directory):
    raise ConfigError(field, str(directory), "a directory whose path is UTF-8, as TFDS needs")
  if paths.is_url(directory):
    raise ConfigError(field, str(directory), "another path, as TFDS takes this one for that of a cloud bucket")
  return directory


def builder(config_data) -> "tfds.core.DatasetBuilder":
  """Returns the builder of data.name, whether the set has been prepared or not. Never touches the network.

  Raises:
    ConfigError: data.name names no set, or no such version or variant; data.dir does not exist, or holds a description
      that would run foreign code.
  """
  from etils import epath

  from nin_jax.data.tfds import tfds

  name, directory = config_data.name, data_dir(config_data)
  match = _NAME.fullmatch(name)
  if not match:
    raise ConfigError(
      "data.name", name, "digits or a TFDS name: NAME, NAME:VERSION, NAME/VARIANT or NAME/VARIANT:VERSION"
    )
  if match["name"] == DIGITS:
    from nin_jax.data import digits  # noqa: F401  TFDS learns the name
  trust.check(config_data, epath.Path(directory) / match["name"])
  known = sorted({*tfds.list_builders(with_community_datasets=False), DIGITS})
  if match["name"] not in known and not (epath.Path(directory) / match["name"]).exists():
    close = difflib.get_close_matches(match["name"], known, n=3)
    hint = f"; close to it: {', '.join(close)}" if close else ""
    raise ConfigError("data.name", name, f"digits, or a set that TFDS knows or that lies in {directory}{hint}")
  try:
    found = tfds.builder(name, data_dir=directory)
    found.info  # noqa: B018  some sets read files of their own here
    return found
  except ImportError as error:
    accepted = (
      f"a set whose description needs no more than is installed (pip install -r requirements-tfds.txt): {error}"
    )
    raise ConfigError("data.name", name, _line(accepted)) from None
  except (ValueError, AssertionError, OSError, tfds.core.DatasetNotFoundError) as error:
    raise ConfigError("data.name", name, _line(f"a version and variant that TFDS knows: {error}")) from None
  except Exception as error:  # protobuf has errors of its own for a damaged description
    accepted = (
      f"a directory of prepared TFDS sets with whole descriptions; that of {name} in {directory} is not: {error}"
    )
    raise ConfigError("data.dir", config_data.dir, _line(accepted)) from None


def prepared(config_data) -> "tfds.core.DatasetBuilder":
  """Returns the builder of data.name with its record files in place; `digits` is written to the cache on first use.

  Raises:
    ConfigError: as `builder`, or the set has not been prepared in data.dir, or not as ArrayRecord.
  """
  found = builder(config_data)
  if is_prepared(found):
    return found
  if found.name == DIGITS:
    from nin_jax.data import digits

    return digits.prepare(for_tfds("data.cache_dir", cache.directory(config_data.cache_dir)))
  name, directory = config_data.name, data_dir(config_data)
  command = shlex.join(["python", "-m", "experiments.prepare_data", f"--name={name}", f"--data_dir={directory}"])
  if (found.data_path / _DESCRIPTION).exists():
    found_there = f"{found.data_path} holds it as {found.info.file_format.value}: move that away, then run {command}"
    raise ConfigError("data.name", name, f"a set prepared as ArrayRecord; {found_there}")
  there = found.data_path.parent  # its iterdir, as epath's glob takes the whole path for a pattern
  others = sorted(path.name for path in there.iterdir() if path.name.count(".") == 2) if there.is_dir() else []
  present = f" (versions there: {', '.join(others)}; choose one with data.name=NAME:VERSION)" if others else ""
  raise ConfigError("data.name", name, f"a set prepared in {directory}{present}; prepare it with: {command}")


def is_prepared(found: "tfds.core.DatasetBuilder") -> bool:
  """Returns whether the set lies in its directory as ArrayRecord."""
  from tensorflow_datasets.core.file_adapters import FileFormat

  described = (found.data_path / _DESCRIPTION).exists()  # found.is_prepared() would log a warning where it is not
  return described and FileFormat.ARRAY_RECORD in found.info.available_file_formats()


def keys(config_data, found: "tfds.core.DatasetBuilder") -> tuple[str, str]:
  """Returns the names of the features that hold the uint8 image and its class.

  Raises:
    ConfigError: the set has none such.
  """
  from nin_jax.data.tfds import tfds

  features = found.info.features
  image, label = found.info.supervised_keys or ("image", "label")
  if (
    isinstance(image, str)
    and isinstance(label, str)
    and isinstance(features, tfds.features.FeaturesDict)
    and {image, label} <= set(features.keys())
    and isinstance(features[image], tfds.features.Image)
    and isinstance(features[label], tfds.features.ClassLabel)
    and np.dtype(features[image].np_dtype) == np.uint8
    and len(features[image].shape) == 3
    and features[image].shape[-1] in decode.MODES
  ):
    return image, label
  accepted = f"a set of uint8 images with one class label each; this one has {features}"
  raise ConfigError("data.name", config_data.name, _line(accepted))


class Records:
  """Random access to the examples of a prepared set: {"image": encoded bytes, "label": int}.

  Small to pickle: each worker is sent it, and opens the files for itself, without the set's own code.

  Args:
    path: the directory of the prepared set.
    split: as TFDS writes it.
    keys: the names of the features with the image and its class.
    name: the set's.

  Raises:
    ValueError, KeyError, AssertionError, TypeError: no such split, or an empty one.
    OSError, RuntimeError: the record files are damaged.
  """

  def __init__(self, path: str, split: str, keys: tuple[str, str], name: str):
    self._state = path, split, keys, name
    self._open()

  def _open(self) -> None:
    from nin_jax.data.tfds import tfds

    path, split, names, _ = self._state
    builder = tfds.builder_from_directory(path)
    # Of these features alone, whatever others there are: TFDS would decode further images, in any format of Pillow's.
    self._features = tfds.features.FeaturesDict({name: builder.info.features[name] for name in names})
    self._decoders = {names[0]: tfds.decode.SkipDecoding()}
    self._serialized = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

  def __getstate__(self) -> tuple:
    return self._state

  def __setstate__(self, state: tuple) -> None:
    self._state = state
    self._open()

  def __len__(self) -> int:
    return len(self._serialized)

  def name(self, index: int) -> str:
    """Returns what an image is called in messages."""
    _, split, _, name = self._state
    return f"record {index} of {name} {split}"

  def __getitem__(self, index: int) -> dict:
    return self.__getitems__([index])[0]

  def __getitems__(self, indices: Sequence[int]) -> list[dict]:
    path, split, (image, label), _ = self._state
    try:
      examples = map(self._deserialize, self._serialized.__getitems__(list(indices)))
      return [{"image": example[image], "label": int(example[label])} for example in examples]
    except Exception as error:  # whatever damage leads to: protobuf has errors of its own
      raise DamagedRecords(_line(f"{path}, split {split!r}: {error}")) from error

  def _deserialize(self, record: bytes) -> dict:
    return self._features.deserialize_example_np(record, decoders=self._decoders)


def records(config_data, found: "tfds.core.DatasetBuilder", split_field: str) -> Records:
  """Returns the examples of a split.

  Args:
    config_data: the config's section data.
    found: from `prepared`.
    split_field: train_split or test_split.

  Raises:
    ConfigError: no such split, or an empty one; or its record files are damaged, or its description runs foreign code.
  """
  trust.check(config_data, found.data_path)
  split = config_data[split_field]
  sizes = ", ".join(f"{name} ({info.num_examples})" for name, info in found.info.splits.items())
  accepted = f"one of {sizes}, a slice such as 'train[:90%]', or a sum of those that holds an image"
  try:
    return Records(os.fspath(found.data_path), split, keys(config_data, found), found.name)
  except (ValueError, KeyError, AssertionError, TypeError):  # an empty slice is one of them
    raise ConfigError(f"data.{split_field}", split, accepted) from None
  except (OSError, RuntimeError) as error:
    accepted = f"a directory with whole record files; those of {config_data.name} in {found.data_path} are not: {error}"
    raise ConfigError("data.dir", config_data.dir, _line(accepted)) from None


def fingerprint(found: "tfds.core.DatasetBuilder") -> dict[str, object]:
  """Returns what identifies the contents of a prepared set: its description and the sizes of its files."""
  texts = [(found.data_path / name).read_text(encoding="utf-8") for name in (_DESCRIPTION, "features.json")]
  files = sorted((path.name, _size(path)) for path in found.data_path.iterdir() if path.name != cache.CHECKSUMS)
  return {"name": found.info.full_name, "description": texts, "files": files}


def _size(path) -> int:
  """The bytes of a file, an etils.epath.Path; −1 if a link leads nowhere."""
  if "://" in os.fspath(path):
    return path.stat().length
  try:
    return os.stat(path).st_size  # epath's own wants to know the owner's name too, which not every uid has
  except OSError:
    return -1


def _line(text: str) -> str:
  return " ".join(text.split())[:400]
