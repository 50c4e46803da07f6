"""What is known of a data set before anything of it is read: the shape of its images and its number of classes."""

import dataclasses

from nin_jax.data import normalize, source, whitening
from nin_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Spec:
  """The images that a network is given.

  Attributes:
    name: data.name, as given.
    image_shape: (h, w, c) after data.image_size and data.crop.
    num_classes: the number of classes.
    source_shape: (h, w, c) of the stored images; h and w are None where they vary.
  """

  name: str
  image_shape: tuple[int, int, int]
  num_classes: int
  source_shape: tuple[int | None, int | None, int]


def spec(config_data) -> Spec:
  """Returns the Spec of config.data from TFDS's own description; the set need not have been prepared.

  Raises:
    ConfigError: data.name is unknown or holds no classified images, or a field of data is impossible for them.
  """
  return of(config_data, source.builder(config_data))


def of(config_data, builder) -> Spec:
  """Returns the Spec of config.data for a set whose builder is at hand; raises as `spec`."""
  image, label = source.keys(config_data, builder)
  source_shape = tuple(builder.info.features[image].shape)
  height, width, channels = decoded_shape(config_data, source_shape)
  _check(config_data, (height, width, channels))
  if config_data.crop:
    height = width = config_data.crop
  return Spec(config_data.name, (height, width, channels), builder.info.features[label].num_classes, source_shape)


def decoded_shape(config_data, source_shape: tuple[int | None, int | None, int]) -> tuple[int, int, int]:
  """Returns (h, w, c) after data.image_size and before data.crop.

  Raises:
    ConfigError: data.image_size is negative, or 0 for images of varying sizes.
  """
  size, name = config_data.image_size, config_data.name
  if size < 0:
    raise ConfigError("data.image_size", size, "a number of pixels, or 0 for the images as they are")
  height, width, channels = source_shape
  if size:
    return size, size, channels
  if height is None or width is None:
    raise ConfigError("data.image_size", size, f"a number of pixels: the images of {name} are of varying sizes")
  return height, width, channels


def _check(config_data, shape: tuple[int, int, int]) -> None:
  height, width, _ = shape
  side = min(height, width)
  if config_data.normalize not in normalize.KINDS:
    raise ConfigError("data.normalize", config_data.normalize, f"one of {', '.join(normalize.KINDS)}")
  if not 0 <= config_data.crop <= side:
    raise ConfigError("data.crop", config_data.crop, f"0 (the whole image) to {side}: images are {height}×{width}")
  if not 0 <= config_data.translate < side:
    raise ConfigError("data.translate", config_data.translate, f"0 to {side - 1} pixels: images are {height}×{width}")
  if config_data.batch_size < 1:
    raise ConfigError("data.batch_size", config_data.batch_size, "1 image or more")
  d = height * width * shape[2]
  if config_data.normalize == "gcn_zca" and d > whitening.MAX_DIMENSIONS:
    accepted = f"scale, standardize or gcn: whitening {height}×{width} images takes a {d}×{d} matrix"
    raise ConfigError("data.normalize", "gcn_zca", f"{accepted} (at most {whitening.MAX_DIMENSIONS})")
