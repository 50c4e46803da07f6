"""What is known of a data set before anything of it is read: the shape of its images and its number of classes."""

import dataclasses
import math
from collections.abc import Iterator

from nin_jax import paths
from nin_jax.data import examples, normalize, whitening
from nin_jax.errors import ConfigError, refuse

SourceShape = tuple[int | None, int | None, int]

CHOICES = {
  "pipeline": ("auto", "resident", "stream"),
  "broken_images": ("error", "skip"),
  "resize": ("crop", "warp"),
  "normalize": normalize.KINDS,
}
MAX_SIZE, MAX_WORKERS = 16_384, 1_024
_COLOURS = ("brightness", "contrast", "saturation")


@dataclasses.dataclass(frozen=True)
class Spec:
  """The images that a network is given.

  Attributes:
    name: data.name, as given.
    image_shape: (h, w, c) after data.image_size and data.crop.
    num_classes: the number of classes.
    source_shape: (h, w, c) of the stored images; h and w are None where they vary.
    class_names: in the order of the labels; () where they are not known.
  """

  name: str
  image_shape: tuple[int, int, int]
  num_classes: int
  source_shape: SourceShape
  class_names: tuple[str, ...] = dataclasses.field(default=(), compare=False, repr=False)


def spec(config_data) -> Spec:
  """Returns the Spec of config.data from TFDS's own description, or a folder's directories.

  A TFDS set need not have been prepared.

  Raises:
    ConfigError: data.name is unknown or holds no classified images, or a field of data is impossible for them.
  """
  return of(config_data, examples.find(config_data, prepared=False))


def of(config_data, found) -> Spec:
  """Returns the Spec of config.data for a set that `examples.find` found; raises as `spec`."""
  refuse(mistakes(config_data))
  refuse(spec_mistakes(config_data, found.shape))
  height, width, channels = decoded_shape(config_data, found.shape)
  if config_data.crop:
    height = width = config_data.crop
  return Spec(config_data.name, (height, width, channels), found.num_classes, found.shape, found.class_names)


def decoded_shape(config_data, source_shape: SourceShape) -> tuple[int, int, int]:
  """Returns (h, w, c) after data.image_size and data.channels, and before data.crop."""
  height, width, channels = source_shape
  size = config_data.image_size
  return size or height, size or width, config_data.channels or channels


def train_shape(config_data, source_shape: SourceShape) -> tuple[int, int, int]:
  """Returns (h, w, c) that training images are decoded to: with random resized crops, what the network sees."""
  height, width, channels = decoded_shape(config_data, source_shape)
  crop = config_data.crop if config_data.random_resized_crop else 0
  return crop or height, crop or width, channels


def mistakes(config_data) -> Iterator[ConfigError]:
  """Yields what is wrong with the section data whatever the set; values are taken to be of the right type."""

  def mistake(name: str, accepted: str) -> ConfigError:
    return ConfigError(f"data.{name}", config_data[name], accepted)

  for name, choices in CHOICES.items():
    if config_data[name] not in choices:
      yield mistake(name, f"one of {', '.join(choices)}")
  if not 0 <= config_data.image_size <= MAX_SIZE:
    yield mistake("image_size", f"a number of pixels up to {MAX_SIZE}, or 0 for the images as they are")
  if config_data.cache_dir:
    try:
      paths.expand("data.cache_dir", config_data.cache_dir)
    except ConfigError as error:
      yield error
  if config_data.channels not in (0, 1, 3):
    yield mistake("channels", "1 (grey), 3 (RGB), or 0 for those of the set")
  if config_data.batch_size < 1:
    yield mistake("batch_size", "1 image or more")
  if not 0 <= config_data.workers <= MAX_WORKERS:
    yield mistake("workers", f"a number of processes up to {MAX_WORKERS}, or 0 for threads of this one")
  for name in _COLOURS:
    if not 0 <= config_data[name] <= 1:
      yield mistake(name, "0 to 1: factors are drawn from 1 − this to 1 + this")
  if not config_data.random_resized_crop and not isinstance(config_data.random_resized_crop, (tuple, list)):
    yield mistake("random_resized_crop", "() or two numbers")
  elif config_data.random_resized_crop:
    if not _is_range(config_data.random_resized_crop, 1):
      yield mistake("random_resized_crop", "() or two parts of the area, as (0.08, 1.0): 0 < smallest ≤ largest ≤ 1")
    if config_data.pipeline == "resident":
      yield mistake("pipeline", "stream or auto: data.random_resized_crop needs the images in their own sizes")
  if not _is_range(config_data.random_aspect, math.inf):
    yield mistake("random_aspect", "two ratios width / height, as (0.75, 1.33): 0 < smallest ≤ largest")


def _is_range(values, largest: float) -> bool:
  numbers = isinstance(values, (tuple, list)) and len(values) == 2 and all(isinstance(x, (int, float)) for x in values)
  return numbers and 0 < values[0] <= values[1] <= largest and math.isfinite(values[1])


def spec_mistakes(config_data, source_shape: SourceShape) -> Iterator[ConfigError]:
  """Yields what is wrong with the section data for images of a shape; `mistakes` should have found nothing.

  Args:
    config_data: the config's section data.
    source_shape: (h, w, c) of the stored images; h and w are None where they vary.
  """
  height, width, channels = decoded_shape(config_data, source_shape)
  if height is None or width is None:
    accepted = f"a number of pixels: the images of {config_data.name} are of varying sizes"
    yield ConfigError("data.image_size", config_data.image_size, accepted)
    return
  side, name = min(height, width), f"images are {height}×{width}"
  if not 0 <= config_data.crop <= side:
    yield ConfigError("data.crop", config_data.crop, f"0 (the whole image) to {side}: {name}")
  if not 0 <= config_data.translate < side:
    yield ConfigError("data.translate", config_data.translate, f"0 to {side - 1} pixels: {name}")
  d = height * width * channels
  if config_data.normalize != "gcn_zca":
    return
  if d > whitening.MAX_DIMENSIONS:
    accepted = f"scale, standardize or gcn: whitening {height}×{width} images takes a {d}×{d} matrix"
    yield ConfigError("data.normalize", "gcn_zca", f"{accepted} (at most {whitening.MAX_DIMENSIONS})")
  elif config_data.random_resized_crop and config_data.crop not in (0, side):
    accepted = f"scale, standardize or gcn: random resized crops of {config_data.crop}×{config_data.crop} cannot be"
    yield ConfigError("data.normalize", "gcn_zca", f"{accepted} whitened as {height}×{width} images")
