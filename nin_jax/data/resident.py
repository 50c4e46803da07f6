"""A data set that stays on the devices as uint8: batches are gathered, normalised and augmented inside the step."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nin_jax.data import augment, cache, decode, metadata, normalize, order, source
from nin_jax.errors import ConfigError

MAX_BYTES = 16 * 2**30  # of decoded images, both splits together


class Resident:
  """Images and labels in `arrays`, and pure functions that take batches out of them.

  The train loop puts `arrays` on its devices once and hands them to each step. What differs from step to step is only
  `train_batch(step)`, a few hundred integers.

  Attributes:
    spec: what the network sees.
    arrays: host arrays: {"train": {"images", "labels"}, "test": {"images", "labels"}, "statistics": {…}}; images uint8
      [n, h, w, c], possibly memory-mapped, labels int32 [n], statistics from `normalize.statistics` of the train split.
    num_train: number of training images.
    num_test: number of test images.
    steps_per_epoch: num_train / data.batch_size, a float.
  """

  def __init__(self, config_data, seed: int, spec: metadata.Spec, arrays: dict[str, dict[str, np.ndarray]]):
    self.spec, self.arrays = spec, arrays
    self.num_train, self.num_test = (len(arrays[split]["labels"]) for split in ("train", "test"))
    self.steps_per_epoch = self.num_train / config_data.batch_size
    self._seed, self._batch_size = seed, config_data.batch_size
    self._normalize, self._crop = config_data.normalize, config_data.crop
    self._augment = {"translate": config_data.translate, "crop": config_data.crop, "flip": config_data.flip}

  def train_batch(self, step: int) -> np.ndarray:
    """Returns the int32 [batch_size] indices of the training images of a step, from 0: see `order.batch`."""
    return order.batch(self._seed, step, self._batch_size, self.num_train)

  def sample_batch(self, number: int) -> np.ndarray:
    """Returns int32 [batch_size] indices of training images in an order apart from training's, for batch statistics."""
    return order.batch(self._seed + 2**63, number, self._batch_size, self.num_train)

  def load_train(
    self, arrays, indices: Int[Array, " b"], positions: Int[Array, " b"], key: Array
  ) -> tuple[Float[Array, "b h w c"], Int[Array, " b"]]:
    """Returns normalised, augmented training images and their labels. Pure; to be traced inside the step.

    Args:
      arrays: `self.arrays`, on a device.
      indices: int32 [b], this device's part of `train_batch(step)`.
      positions: int32 [b], the place of each of them in the whole batch: an image's augmentation depends on the key
        and its position, not on the device that loads it.
      key: the step's key.

    Returns:
      float32 [b, h, w, c] and int32 [b].
    """
    split = arrays["train"]
    images = normalize.normalize(self._normalize, split["images"][indices], arrays["statistics"])
    return augment.augment(images, key, positions, **self._augment), split["labels"][indices]

  def eval_batches(self, split: str, batch_size: int, images: int = 0) -> Iterator[np.ndarray]:
    """Yields the indices of a split ("train" or "test") in order, int32 [batch_size], the last filled up with −1.

    Args:
      split: which.
      batch_size: of each array.
      images: only the first so many; 0: all.
    """
    size = len(self.arrays[split]["labels"])
    return order.padded_batches(batch_size, min(images or size, size))

  def load_eval(
    self, arrays, split: str, indices: Int[Array, " b"]
  ) -> tuple[Float[Array, "b h w c"], Int[Array, " b"], Float[Array, " b"]]:
    """Returns normalised images, their central crop, with labels and a mask. Pure; to be traced inside the step.

    Args:
      arrays: `self.arrays`, on a device.
      split: "train" or "test".
      indices: int32 [b], a part of what `eval_batches` yields.

    Returns:
      float32 [b, h, w, c], int32 [b], and float32 [b], 1 for an image and 0 for padding (where image and label are the
      first one's).
    """
    chosen = jnp.maximum(indices, 0)
    images = normalize.normalize(self._normalize, arrays[split]["images"][chosen], arrays["statistics"])
    mask = (indices >= 0).astype(jnp.float32)
    return augment.central_crop(images, self._crop), arrays[split]["labels"][chosen], mask


def open(config_data, seed: int) -> Resident:
  """Returns the data set of config.data, decoded, or read from data.cache_dir where an earlier run left it.

  Args:
    config_data: the config's section `data`.
    seed: decides the order of the training images.

  Raises:
    ConfigError: a field of data is unknown, impossible or does not fit the set; the message says what would.
  """
  builder = source.prepared(config_data)
  spec = metadata.of(config_data, builder)
  keys, root = source.keys(config_data, builder), cache.directory(config_data.cache_dir)
  shape = metadata.decoded_shape(config_data, spec.source_shape)
  records = {
    split: source.records(config_data, builder, field)
    for split, field in (("train", "train_split"), ("test", "test_split"))
  }
  size = sum(len(examples) for examples in records.values()) * int(np.prod(shape))
  if size > MAX_BYTES:
    h, w, _ = shape
    accepted = f"a set of at most {MAX_BYTES / 2**30:.0f} GiB decoded; at {h}×{w} this one takes {size / 2**30:.0f} GiB"
    raise ConfigError(
      "data.name", config_data.name, f"{accepted} (a smaller data.image_size or data.train_split helps)"
    )

  key = {"source": source.fingerprint(builder), "shape": shape}
  name = builder.info.full_name.replace("/", "-")
  arrays = {}
  for split, field in (("train", "train_split"), ("test", "test_split")):
    make = lambda split=split, field=field: _decode(config_data, builder, records[split], field, keys, shape)
    arrays[split] = cache.load_or_make(root, f"{name}-{split}", {**key, "split": config_data[field]}, make)
  kind = config_data.normalize
  make = lambda: normalize.statistics(kind, arrays["train"]["images"])
  key = {**key, "split": config_data.train_split, "normalize": kind}
  arrays["statistics"] = cache.load_or_make(root, f"{name}-{kind}", key, make) if kind in normalize.FITTED else {}
  return Resident(config_data, seed, spec, arrays)


def _decode(config_data, builder, records, field: str, keys: tuple[str, str], shape) -> dict[str, np.ndarray]:
  try:
    arrays = decode.decode(records, *keys, shape)
  except (ValueError, RuntimeError, OSError) as error:
    accepted = f"a directory with whole record files; {builder.data_path}, split {config_data[field]!r}: {error}"
    raise ConfigError("data.dir", config_data.dir, accepted) from error
  if arrays["labels"].min() < 0:
    raise ConfigError(
      f"data.{field}", config_data[field], "a split whose images all have labels; some of these have none"
    )
  return arrays
