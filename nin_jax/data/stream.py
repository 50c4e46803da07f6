"""A data set that is read, decoded and cropped while training goes on, and never held as a whole."""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from nin_jax.data import faults, fitted, metadata, order, reading
from nin_jax.data.pipeline import FIELDS, SAMPLES, Pipeline

STATISTICS_IMAGES = 10_000


class Stream(Pipeline):
  """Batches of uint8 images: {"images": uint8 [n, h, w, c], "labels": int32 [n]}, for evaluation "mask" besides.

  Statistics for data.normalize are those of up to 10,000 training images, `order.permutation(0, 0, n)[:10_000]`, as
  evaluation sees them: of all, where the split has no more.

  Attributes:
    arrays: {"statistics": {…}}.

  Args:
    config_data: the config's section data.
    seed: decides order and crops.
    spec: of the images.
    found: the set, from `examples.find`.
    records: of each split.
    root: the cache.
    process: this one's number, and the number of processes.

  Raises:
    ConfigError: an image that the statistics are taken of is broken, and data.broken_images does not skip it.
  """

  def __init__(
    self, config_data, seed: int, spec: metadata.Spec, found, records: dict, root: Path, process: tuple[int, int]
  ):
    sizes = {split: len(examples) for split, examples in records.items()}
    register = faults.Register(config_data)
    super().__init__(config_data, seed, spec, {"statistics": {}}, sizes, register, process)
    self._records, self._shape = records, metadata.decoded_shape(config_data, found.shape)
    shape, part = metadata.train_shape(config_data, found.shape), self._part(self._batch_size)
    crops = {"area": tuple(config_data.random_resized_crop), "aspect": tuple(config_data.random_aspect)}
    chunks = functools.partial(self._chunks, reading.TrainChunks, "train", shape, self._batch_size, part, **crops)
    self._training, self._samples = chunks(seed=seed), chunks(seed=seed + SAMPLES)
    count = min(self.num_train, STATISTICS_IMAGES)
    images = lambda: _Images(self, np.sort(order.permutation(0, 0, self.num_train)[:count]))
    statistics = fitted.statistics(config_data, found, self._shape, root, images, count % self.num_train)
    self.arrays["statistics"] = statistics

  def train_batch(self, step: int) -> dict[str, np.ndarray]:
    return self._taken("train", reading.batch(self._training, step), False)

  def train_batches(self, start: int) -> Iterator[dict[str, np.ndarray]]:
    for batch in reading.batches(self._training, start, self._config.workers):
      yield self._taken("train", batch, False)

  def sample_batch(self, number: int) -> dict[str, np.ndarray]:
    return self._taken("train", reading.batch(self._samples, number), False)

  def eval_batches(self, split: str, batch_size: int, images: int = 0) -> Iterator[dict[str, np.ndarray]]:
    size = len(self._records[split])
    part, count = self._part(batch_size), min(images or size, size)
    chunks = self._chunks(reading.EvalChunks, split, self._shape, batch_size, part, count=count)
    for batch in reading.batches(chunks, 0, self._config.workers):
      yield self._taken(split, batch, True)

  def load_train(self, arrays, batch, positions, key):
    return self._for_training(batch["images"], arrays["statistics"], positions, key), batch["labels"]

  def load_eval(self, arrays, split, batch):
    """See `Pipeline.load_eval`; where the mask is 0, the image is black and the label 0."""
    del split
    images = self._for_evaluation(batch["images"], arrays["statistics"])
    return images, batch["labels"], batch["mask"].astype(jnp.float32)

  def _chunks(
    self, kind: type, split: str, shape: tuple[int, int, int], batch_size: int, part: slice, **fields
  ) -> reading.Chunks:
    return kind(
      records=self._records[split],
      shape=shape,
      resize=self._config.resize,
      skip=self._config.broken_images == "skip",
      offset=part.start,
      part=part.stop - part.start,
      batch_size=batch_size,
      chunk=reading.CHUNK,
      **fields,
    )

  def images(self, indices: np.ndarray) -> np.ndarray:
    """Returns training images as evaluation sees them, uint8 [n, h, w, c]."""
    n = len(indices)
    chunks = self._chunks(reading.ListedChunks, "train", self._shape, n, slice(0, n), indices=indices)
    # Not counted: `broken` is to be the same where statistics come from the cache.
    return self._taken("train", reading.batch(chunks, 0), False, counted=False)["images"]

  def _taken(self, split: str, batch: dict, masked: bool, counted: bool = True) -> dict[str, np.ndarray]:
    """A batch as it's handed out, its broken images registered."""
    for fault in reading.faults_of(batch["findings"]):
      self._register.add(FIELDS[split], self._records[split], fault, counted)
    faults.check_labels(self._config, FIELDS[split], batch["labels"])
    names = ("images", "labels", "mask") if masked else ("images", "labels")
    return {name: batch[name] for name in names}


class _Images:
  """Training images as evaluation sees them, decoded when a slice of them is asked for."""

  def __init__(self, stream: Stream, indices: np.ndarray):
    self._stream, self._indices = stream, indices
    self.shape = (len(indices), *stream._shape)

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, rows: slice) -> np.ndarray:
    return self._stream.images(self._indices[rows])
