"""What a data set offers to training and evaluation, whether it stays on the devices or streams."""

import abc
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from nin_jax.data import augment, faults, metadata, normalize

Batch = Any  # a pytree of NumPy arrays, each of [n, ...]

FIELDS = {"train": "train_split", "test": "test_split"}  # of the config's section data, by split
SAMPLES = 2**63  # added to the seed: an order apart from training's


class Pipeline(abc.ABC):
  """A data set as batches that are functions of (seed, step), and pure functions that make images of them.

  On the host a batch is a pytree of arrays whose first axis is the images; on the devices `load_train` and `load_eval`
  turn any part of it into what the network sees. Where the run is spread over processes, each has its part of each
  batch: process i of P the positions [i · n / P, (i + 1) · n / P).

  Attributes:
    spec: what the network sees.
    arrays: host arrays that the train loop puts on its devices once, and hands to each step.
    num_train: number of training images.
    num_test: number of test images.
    steps_per_epoch: num_train / data.batch_size, a float.
  """

  def __init__(
    self,
    config_data,
    seed: int,
    spec: metadata.Spec,
    arrays: dict,
    sizes: dict[str, int],
    register: faults.Register,
    process: tuple[int, int],
  ):
    self.spec, self.arrays = spec, arrays
    self.num_train, self.num_test = sizes["train"], sizes["test"]
    self.steps_per_epoch = self.num_train / config_data.batch_size
    self._config, self._seed, self._batch_size = config_data, seed, config_data.batch_size
    self._process, self._process_count = process
    self._register = register
    crop = 0 if config_data.random_resized_crop else config_data.crop
    self._augment = {"translate": config_data.translate, "crop": crop, "flip": config_data.flip}
    self._jitter = {name: config_data[name] for name in ("brightness", "contrast", "saturation")}

  @abc.abstractmethod
  def train_batch(self, step: int) -> Batch:
    """Returns this process's part of the batch of a step, from 0: see `order.batch`. Any step, at any time."""

  @abc.abstractmethod
  def train_batches(self, start: int) -> Iterator[Batch]:
    """Yields `train_batch` of start, start + 1, … without end, read ahead of their use. To be closed after use."""

  @abc.abstractmethod
  def sample_batch(self, number: int) -> Batch:
    """Returns a part of a batch of training images in an order apart from training's, for batch statistics."""

  @abc.abstractmethod
  def eval_batches(self, split: str, batch_size: int, images: int = 0) -> Iterator[Batch]:
    """Yields this process's parts of the batches of a split in order, the last one padded. To be closed after use.

    Each process yields equally many. Images that were skipped as broken are marked as padding is.

    Args:
      split: "train" or "test".
      batch_size: over all processes, which divide it.
      images: only the first so many; 0: all.
    """

  @abc.abstractmethod
  def load_train(
    self, arrays: Any, batch: Any, positions: Int[Array, " n"], key: Array
  ) -> tuple[Float[Array, "n h w c"], Int[Array, " n"]]:
    """Returns normalised, augmented training images and their labels. Pure; to be traced inside the step.

    Args:
      arrays: `self.arrays`, on a device.
      batch: this device's part of `train_batch(step)`, of n images.
      positions: int32 [n], the place of each of them in the whole batch: an image's augmentation depends on the key
        and its position, not on the device that loads it.
      key: the step's key.

    Returns:
      float32 [n, h, w, c] and int32 [n].
    """

  @abc.abstractmethod
  def load_eval(
    self, arrays: Any, split: str, batch: Any
  ) -> tuple[Float[Array, "n h w c"], Int[Array, " n"], Float[Array, " n"]]:
    """Returns normalised images, their central crop, with labels and a mask. Pure; to be traced inside the step.

    Args:
      arrays: `self.arrays`, on a device.
      split: "train" or "test".
      batch: a part of what `eval_batches` yields, of n images.

    Returns:
      float32 [n, h, w, c], int32 [n], and float32 [n], 1 for an image and 0 for what is not to be counted.
    """

  def broken(self) -> list[str]:
    """Returns the sorted names of the images that could not be read, of those that were asked for so far."""
    return self._register.names

  def register(self, broken: Sequence[str]) -> None:
    """Takes note of what `broken` returned before a restart."""
    self._register.take(broken)

  def _part(self, batch_size: int) -> slice:
    """This process's positions in a batch of so many."""
    if batch_size % self._process_count:
      raise ValueError(f"a batch of {batch_size} images for {self._process_count} processes")
    n = batch_size // self._process_count
    return slice(self._process * n, (self._process + 1) * n)

  def _for_training(
    self, images: Num[Array, "n h w c"], statistics: dict, positions: Int[Array, " n"], key: Array
  ) -> Float[Array, "n h2 w2 c"]:
    if any(self._jitter.values()):
      images = 255.0 * augment.jitter(images.astype(jnp.float32) / 255.0, key, positions, **self._jitter)
    images = self._normalized(images, statistics)
    return augment.augment(images, key, positions, **self._augment)

  def _for_evaluation(self, images: Num[Array, "n h w c"], statistics: dict) -> Float[Array, "n h2 w2 c"]:
    return augment.central_crop(self._normalized(images, statistics), self._config.crop)

  def _normalized(self, images: Num[Array, "n h w c"], statistics: dict) -> Float[Array, "n h w c"]:
    return normalize.normalize(self._config.normalize, images, statistics)
