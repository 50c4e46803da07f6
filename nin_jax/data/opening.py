"""The section `data` of a config → its data set, resident or streaming."""

import logging

from nin_jax.data import cache, examples, faults, metadata, resident
from nin_jax.data.folder import PREFIX
from nin_jax.data.pipeline import Pipeline
from nin_jax.errors import ConfigError

_WARNED = {""}  # once a process: trials of a sweep share a set


def open(config_data, seed: int, process_index: int = 0, process_count: int = 1, training: bool = False) -> Pipeline:
  """Returns the data set of config.data.

  data.pipeline=auto streams where data.random_resized_crop is set, where the images of a folder are of varying sizes,
  and where the decoded images would take more than `resident.MAX_BYTES`.

  Args:
    config_data: the config's section `data`.
    seed: decides the order of the training images, and their crops.
    process_index: of this process, whose parts of the batches it's asked for.
    process_count: how many processes share each batch.
    training: whether training images of a single class are a mistake.

  Raises:
    ConfigError: a field of data is unknown, impossible or does not fit the set; the message says what would.
  """
  found = examples.find(config_data, prepared=True)
  spec = metadata.of(config_data, found)
  if config_data.batch_size % process_count:
    raise ConfigError("data.batch_size", config_data.batch_size, f"a multiple of the {process_count} processes")
  records = {split: found.records(field) for split, field in (("train", "train_split"), ("test", "test_split"))}
  if training:
    faults.check_classes(config_data, records["train"], spec.class_names)
  if found.left_out not in _WARNED:
    _WARNED.add(found.left_out)
    logging.warning("%s", found.left_out)
  root, process = cache.directory(config_data.cache_dir), (process_index, process_count)
  if not _streams(config_data, found, records):
    return resident.open(config_data, seed, spec, found, records, root, process)
  from nin_jax.data.stream import Stream  # here, for Grain takes a while to import

  return Stream(config_data, seed, spec, found, records, root, process)


def _streams(config_data, found, records: dict) -> bool:
  if config_data.pipeline != "auto":
    return config_data.pipeline == "stream"
  large = resident.decoded_bytes(metadata.decoded_shape(config_data, found.shape), records) > resident.MAX_BYTES
  varying = config_data.name.startswith(PREFIX) and None in found.shape
  return bool(config_data.random_resized_crop) or varying or large
