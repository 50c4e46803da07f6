"""A data set that stays on the devices: batches are gathered, normalised and augmented inside the step."""

from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from nin_jax.data import cache, decode, faults, fitted, metadata, order
from nin_jax.data.pipeline import FIELDS, SAMPLES, Pipeline
from nin_jax.errors import ConfigError

MAX_BYTES = 16 * 2**30  # of decoded images, both splits together


class Resident(Pipeline):
  """Images and labels in `arrays`; a batch is only its images' indices, int32 [n], −1 for what is not to be counted.

  Attributes:
    arrays: {"train": {"images", "labels"}, "test": {"images", "labels"}, "statistics": {…}}; images uint8 [n, h, w, c],
      possibly memory-mapped, labels int32 [n], statistics from `normalize.statistics` of the train split. Where
      `fitted.whitens_once`, images are whitened already, float32, and there are no statistics. The place of a broken
      image is taken by the next readable one.

  Args:
    config_data: the config's section data.
    seed: decides the order of the training images.
    spec: of the images.
    arrays: see above.
    broken: of each split, the indices of broken images.
    register: of the broken images.
    process: this one's number, and the number of processes.
  """

  def __init__(
    self,
    config_data,
    seed: int,
    spec: metadata.Spec,
    arrays: dict[str, dict[str, np.ndarray]],
    broken: dict[str, np.ndarray],
    register: faults.Register,
    process: tuple[int, int],
  ):
    sizes = {split: len(arrays[split]["labels"]) for split in ("train", "test")}
    super().__init__(config_data, seed, spec, arrays, sizes, register, process)
    self._broken = broken
    self._whitened = arrays["train"]["images"].dtype == np.float32

  def train_batch(self, step: int) -> np.ndarray:
    return order.batch(self._seed, step, self._batch_size, self.num_train)[self._part(self._batch_size)]

  def train_batches(self, start: int) -> Iterator[np.ndarray]:
    while True:
      yield self.train_batch(start)
      start += 1

  def sample_batch(self, number: int) -> np.ndarray:
    return order.batch(self._seed + SAMPLES, number, self._batch_size, self.num_train)[self._part(self._batch_size)]

  def eval_batches(self, split: str, batch_size: int, images: int = 0) -> Iterator[np.ndarray]:
    part, size = self._part(batch_size), len(self.arrays[split]["labels"])
    for indices in order.padded_batches(batch_size, min(images or size, size)):
      mine = indices[part]
      yield np.where(np.isin(mine, self._broken[split]), np.int32(-1), mine)

  def load_train(self, arrays, batch, positions, key):
    split = arrays["train"]
    images = self._for_training(split["images"][batch], arrays["statistics"], positions, key)
    return images, split["labels"][batch]

  def load_eval(self, arrays, split, batch):
    """See `Pipeline.load_eval`; where the mask is 0, image and label are the split's first."""
    chosen = jnp.maximum(batch, 0)
    images = self._for_evaluation(arrays[split]["images"][chosen], arrays["statistics"])
    return images, arrays[split]["labels"][chosen], (batch >= 0).astype(jnp.float32)

  def _normalized(self, images, statistics):
    return images if self._whitened else super()._normalized(images, statistics)


def open(
  config_data, seed: int, spec: metadata.Spec, found, records: dict, root: Path, process: tuple[int, int]
) -> Resident:
  """Returns the data set decoded, or read from the cache where an earlier run left it.

  Args:
    config_data: the config's section data.
    seed: decides the order of the training images.
    spec: of the images.
    found: the set, from `examples.find`.
    records: of each split.
    root: the cache.
    process: this one's number, and the number of processes.

  Raises:
    ConfigError: the images are too many, or broken.
  """
  shape = metadata.decoded_shape(config_data, found.shape)
  if (size := decoded_bytes(shape, records)) > MAX_BYTES:
    h, w, _ = shape
    accepted = f"a set of at most {MAX_BYTES / 2**30:.0f} GiB decoded; at {h}×{w} this one takes {size / 2**30:.0f} GiB"
    helps = "data.pipeline=stream, a smaller data.image_size or data.train_split helps"
    raise ConfigError("data.name", config_data.name, f"{accepted} ({helps})")
  register, arrays, broken = faults.Register(config_data), {}, {}
  for split, field in FIELDS.items():
    key = fitted.key(config_data, found, field, shape)
    make = lambda split=split: decode.decode_all(
      records[split], shape, config_data.resize, config_data.broken_images == "skip"
    )
    try:
      decoded = cache.load_or_make(root, f"{found.name}-{split}", key, make)
    except (faults.BrokenImage, faults.DamagedRecords) as fault:
      register.add(field, records[split], fault)
      raise
    broken[split] = decoded["broken"]
    for index in broken[split]:
      register.add(field, records[split], faults.BrokenImage(int(index), "it could not be decoded"))
    arrays[split] = {"images": decoded["images"], "labels": decoded["labels"]}
    faults.check_labels(config_data, field, arrays[split]["labels"])
  statistics = fitted.statistics(config_data, found, shape, root, lambda: arrays["train"]["images"])
  if fitted.whitens_once(config_data, {split: len(part["labels"]) for split, part in arrays.items()}, shape):
    for split, field in FIELDS.items():
      images = arrays[split]["images"]
      arrays[split]["images"] = fitted.whitened(config_data, found, field, shape, root, images, statistics)
    statistics = {}
  arrays["statistics"] = statistics
  return Resident(config_data, seed, spec, arrays, broken, register, process)


def decoded_bytes(shape: tuple[int, int, int], records: dict) -> int:
  """Returns what the images of all splits take as uint8 of a shape."""
  return sum(map(len, records.values())) * int(np.prod(shape))
