"""What can be wrong with stored images, and what the user is told of it."""

import logging
from collections.abc import Sequence

from nin_jax.errors import ConfigError


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
      logging.warning("A broken image is skipped: %s (%s)", name, fault.reason)


def check_labels(config_data, split_field: str, labels) -> None:
  """Refuses images without a label, which TFDS marks by −1."""
  if labels.min(initial=0) < 0:
    accepted = "a split whose images all have labels; some of these have none"
    raise ConfigError(f"data.{split_field}", config_data[split_field], accepted)
