"""What can be wrong with stored images, and what the user is told of it."""

import contextlib
import logging
from collections.abc import Iterator, Sequence

from nin_jax.data import order
from nin_jax.errors import ConfigError, line

_PROBE = 32  # records
TWO_CLASSES = "two classes or more, since the loss of a single class is 0 whatever a network does"


class BrokenImage(ValueError):
  """An image that cannot be read.

  Args:
    index: its place in the split.
    reason: in words.
  """

  def __init__(self, index: int, reason: str):
    self.index, self.reason = index, reason
    super().__init__(f"image {index}: {reason}")


class DamagedRecords(ValueError):
  """Record files that cannot be read; the message names them. Nothing can be skipped there."""


class NoneReadable(BrokenImage):
  """The last of a split's images, after all the others turned out broken too."""


class Register:
  """The broken images that a run has met; each is warned of once.

  Args:
    config_data: the config's section data.
  """

  def __init__(self, config_data):
    self._config = config_data
    self._names: set[str] = set()
    self._warned: set[str] = set()

  @property
  def names(self) -> list[str]:
    """Sorted."""
    return sorted(self._names)

  def take(self, names: Sequence[str]) -> None:
    """Takes note of broken images that were warned of before a restart."""
    self._names.update(names)
    self._warned.update(names)

  def add(self, split_field: str, records: Sequence[dict], fault: Exception, counted: bool = True) -> None:
    """Takes note of a broken image of the split in data.train_split or data.test_split.

    Args:
      split_field: train_split or test_split.
      records: of that split.
      fault: what reading led to.
      counted: whether it is to be among `names`.

    Raises:
      ConfigError: there is no going on: data.broken_images says so, or it's more than a single image.
    """
    config = self._config
    if isinstance(fault, DamagedRecords):
      raise ConfigError("data.dir", config.dir, f"a directory with whole record files; {fault}") from None
    if not isinstance(fault, BrokenImage):
      raise fault
    name = records.name(fault.index)
    if isinstance(fault, NoneReadable):
      accepted = f"a split with readable images; of its {len(records)} none is, the last being {name}: {fault.reason}"
      raise ConfigError(f"data.{split_field}", config[split_field], accepted) from None
    if config.broken_images == "error":
      accepted = f"skip, or images that can all be read; {name} cannot: {fault.reason}"
      raise ConfigError("data.broken_images", "error", accepted) from None
    if counted:
      self._names.add(name)
    if name not in self._warned:
      self._warned.add(name)
      logging.warning("A broken image is skipped: %s (%s)", line(name), line(fault.reason))


def check_labels(config_data, split_field: str, labels) -> None:
  """Refuses images without a label, which TFDS marks by −1."""
  if labels.min(initial=0) < 0:
    accepted = "a split whose images all have labels; some of these have none"
    raise ConfigError(f"data.{split_field}", config_data[split_field], accepted)


def check_classes(config_data, records: Sequence[dict], class_names: Sequence[str]) -> None:
  """Refuses training images of a single class.

  Args:
    config_data: the config's section data.
    records: of data.train_split. Labels are read until there are two, in an order that doesn't follow the classes.
    class_names: in the order of the labels; () where they are not known.

  Raises:
    ConfigError: they are all of one class.
  """
  seen: set[int] = set()
  for labels in _labels(records):
    seen |= labels
    if len(seen) > 1 or -1 in seen:  # those without labels are refused by `check_labels`
      return
  for label in seen:
    name = class_names[label] if class_names else label
    accepted = f"a split with images of {TWO_CLASSES}; its {len(records):,} are all of the class {name!r}"
    raise ConfigError("data.train_split", config_data.train_split, accepted)


def _labels(records: Sequence[dict]) -> Iterator[set[int]]:
  if hasattr(records, "labels"):  # of a folder, known without reading
    yield set(records.labels.tolist())
    return
  indices = order.permutation(0, 0, len(records))
  for start in range(0, len(indices), _PROBE):
    with contextlib.suppress(DamagedRecords):  # told of when they are needed
      yield {record["label"] for record in records.__getitems__(indices[start : start + _PROBE].tolist())}
