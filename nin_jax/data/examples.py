"""A data set by its name, a folder or a TFDS set: what it is like, and its splits as random-access examples."""

from nin_jax.data import source
from nin_jax.data.folder import PREFIX, Folder


class Prepared:
  """A TFDS set.

  Attributes:
    name: with variant and version, for file names.
    shape: (h, w, c) of its images; h and w are None where they vary.
    num_classes: how many.
    class_names: in the order of the labels; () where TFDS does not know them.
    left_out: as `Folder`'s: a prepared set holds images alone.

  Args:
    config_data: the config's section data.
    builder: of the set, from `source`.

  Raises:
    ConfigError: the set holds no classified images.
  """

  left_out = ""

  def __init__(self, config_data, builder):
    image, label = source.keys(config_data, builder)
    self._config, self._builder = config_data, builder
    self.name = builder.info.full_name.replace("/", "-")
    self.shape = tuple(builder.info.features[image].shape)
    self.num_classes = builder.info.features[label].num_classes
    try:
      self.class_names = tuple(builder.info.features[label].names)
    except (ValueError, TypeError):
      self.class_names = ()

  def records(self, split_field: str) -> source.Records:
    """Returns the examples of the split in data.train_split or data.test_split; raises as `source.records`."""
    return source.records(self._config, self._builder, split_field)

  def fingerprint(self, split_field: str) -> dict[str, object]:
    """Returns what identifies the contents of a split."""
    return {**source.fingerprint(self._builder), "split": self._config[split_field]}


def find(config_data, prepared: bool) -> Folder | Prepared:
  """Returns the set that data.name names.

  Args:
    config_data: the config's section data.
    prepared: whether its images must be there. Without, a TFDS set is described even where it has not been prepared.

  Raises:
    ConfigError: there is no such set, or not in a form that can be read.
  """
  if config_data.name.startswith(PREFIX):
    return Folder(config_data)
  builder = source.prepared if prepared else source.builder
  return Prepared(config_data, builder(config_data))


def training_images(config_data, prepared: bool) -> int | None:
  """Returns how many images data.train_split has; None where that is not known before the set is prepared.

  Args:
    config_data: the config's section data.
    prepared: whether the images must be there.

  Raises:
    ConfigError: there is no such set or split; or it is not prepared, and must be.
  """
  if not prepared and not config_data.name.startswith(PREFIX):
    builder = source.builder(config_data)
    if builder.name != source.DIGITS and not source.is_prepared(builder):
      return None
  return len(find(config_data, prepared=True).records("train_split"))
