"""Images that are read, decoded and cropped by Grain, in threads or in processes of its own, ahead of their use.

A batch is read in chunks of up to 32 images, so that all workers share in the first one, and none is long in ending.
What a chunk holds is a function of its number alone: who reads it doesn't matter. Broken images are handed over as
findings, not raised, so that the training process learns of them at the batch that they belong to.
"""

import abc
import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import grain
import numpy as np

from nin_jax.data import decode, geometry, order, workers
from nin_jax.data.faults import BrokenImage, DamagedRecords, NoneReadable

CHUNK = 32  # images
_MAX_THREADS = 16
_CHUNKS_A_WORKER = 32  # a process takes some 3 s to start, as long as it reads 1,000 JPEGs of 500×375: not for fewer

Findings = tuple[tuple[str, int, str], ...]  # kind, index, reason


@dataclasses.dataclass(frozen=True)
class Chunks(abc.ABC):
  """A process's part of each batch as a random-access sequence of chunks, each a dict.

  A chunk's "images" are uint8 [m, h, w, c], "labels" int32 [m], "mask" uint8 [m], 0 for padding and for what is left
  out, and "findings" tell of broken images.

  Attributes:
    records: of the split.
    shape: (h, w, c) to decode to.
    resize: as data.resize.
    skip: whether broken images are, or are an error.
    offset: the part's first position in the global batch.
    part: images in it.
    batch_size: of the global batch.
    chunk: images a chunk; the last of a part may have fewer.
    replaces: whether the place of an image that is skipped is taken by the next readable one.
  """

  replaces: ClassVar[bool] = True
  records: Sequence[dict]
  shape: tuple[int, int, int]
  resize: str
  skip: bool
  offset: int
  part: int
  batch_size: int
  chunk: int

  @property
  def per_batch(self) -> int:
    """Chunks in the part of a batch."""
    return -(-self.part // self.chunk)

  @property
  @abc.abstractmethod
  def batches(self) -> int:
    """How many there are."""

  @abc.abstractmethod
  def _index(self, batch: int, position: int) -> int | None:
    """That of the image at a position of a global batch; None where there is none."""

  def _choose(self, batch: int, position: int) -> Callable[[int, int], geometry.Box | None]:
    """Which part of that image is taken, see `decode.decode`."""
    del batch, position
    return decode.framing(self.resize)

  def __len__(self) -> int:
    """Without end: a worker that comes to one keeps its last chunk's memory. Beyond the last batch is only padding."""
    return sys.maxsize // self.per_batch * self.per_batch

  def __getitem__(self, number: int) -> dict:
    batch, place = divmod(number, self.per_batch)
    positions = range(self.offset, self.offset + self.part)[place * self.chunk : (place + 1) * self.chunk]
    indices = [self._index(batch, position) for position in positions]
    records = self._records_at([index for index in indices if index is not None])
    images = np.zeros((len(positions), *self.shape), np.uint8)
    labels, mask = np.zeros(len(positions), np.int32), np.zeros(len(positions), np.uint8)
    findings: list[tuple[str, int, str]] = []
    for row, (index, position) in enumerate(zip(indices, positions, strict=True)):
      if index is None:
        continue
      if (found := self._image(index, records.get(index), self._choose(batch, position), findings)) is not None:
        images[row], labels[row] = found
        mask[row] = 1
    return {"images": images, "labels": labels, "mask": mask, "findings": tuple(findings)}

  def _records_at(self, indices: list[int]) -> dict[int, dict]:
    """Records by their indices, read at once, which is much faster for small ones; {} where one can't be read."""
    try:
      return dict(zip(indices, self.records.__getitems__(indices), strict=True)) if indices else {}
    except (OSError, DamagedRecords):
      return {}

  def _image(self, index: int, record: dict | None, choose: Callable, findings: list) -> tuple[np.ndarray, int] | None:
    """Returns image and label; None where there is none.

    Args:
      index: of the image, or the first to try in the split's order.
      record: what is there, where it has been read already.
      choose: see `_choose`.
      findings: gets what is wrong.
    """
    size = len(self.records)
    for number in range(size):
      if found := self._read((index + number) % size, record if number == 0 else None, choose, findings):
        return found
      if not (self.skip and self.replaces) or findings[-1][0] == "damaged":
        return None
    findings.append(("none", *findings[-1][1:]))
    return None

  def _read(self, index: int, record: dict | None, choose: Callable, findings: list) -> tuple[np.ndarray, int] | None:
    try:
      return decode.read(self.records, index, self.shape, choose, record)
    except BrokenImage as fault:
      findings.append(("broken", index, fault.reason))
    except DamagedRecords as fault:
      findings.append(("damaged", index, str(fault)))
    return None


@dataclasses.dataclass(frozen=True)
class TrainChunks(Chunks):
  """The batches of training, in the order of `order.batch`; a broken image's place is taken by the next readable one.

  Attributes:
    seed: decides order and crops.
    area, aspect: of the random resized crops, see `geometry.random_part`; () for none.
  """

  seed: int
  area: tuple[float, ...]
  aspect: tuple[float, ...]

  @property
  def batches(self) -> int:
    return len(self) // self.per_batch

  def _index(self, batch: int, position: int) -> int:
    return order.index(self.seed, batch * self.batch_size + position, len(self.records))

  def _choose(self, batch: int, position: int) -> Callable[[int, int], geometry.Box | None]:
    if not self.area:
      return super()._choose(batch, position)
    draw = functools.partial(geometry.random_part, self.seed, batch, position)
    return functools.partial(draw, area=self.area, aspect=self.aspect)


@dataclasses.dataclass(frozen=True)
class EvalChunks(Chunks):
  """The first images of a split in order, the last batch padded; broken ones are masked out.

  Attributes:
    count: how many.
  """

  replaces = False
  count: int

  @property
  def batches(self) -> int:
    return -(-self.count // self.batch_size)

  def _index(self, batch: int, position: int) -> int | None:
    index = batch * self.batch_size + position
    return index if index < self.count else None


@dataclasses.dataclass(frozen=True)
class ListedChunks(Chunks):
  """One batch of chosen images as evaluation sees them; a broken image's place is taken by the next readable one.

  Attributes:
    indices: of the images.
  """

  indices: np.ndarray

  @property
  def batches(self) -> int:
    return 1

  def _index(self, batch: int, position: int) -> int:
    return int(self.indices[position])


def faults_of(findings: Findings) -> Iterator[Exception]:
  """Yields what `faults.Register.add` takes."""
  kinds = {"broken": BrokenImage, "none": NoneReadable, "damaged": lambda index, reason: DamagedRecords(reason)}
  for kind, index, reason in findings:
    yield kinds[kind](index, reason)


def batch(chunks: Chunks, number: int) -> dict:
  """Returns the part of one batch, as `batches` yields it."""
  first = number * chunks.per_batch
  with ThreadPoolExecutor(_threads()) as pool:
    return _joined(list(pool.map(chunks.__getitem__, range(first, first + chunks.per_batch))))


def batches(chunks: Chunks, start: int, processes: int) -> Iterator[dict]:
  """Yields the parts of the batches start, start + 1, …, read ahead.

  About two batches are held in memory besides the one that is yielded, but no less than two chunks for each worker.

  Args:
    chunks: what to read.
    start: the first batch.
    processes: that read; 0: threads of this process do. Fewer are started for a few chunks.

  Raises:
    ConfigError: there is too little shared memory for the processes.
    RuntimeError: a process ended of itself.
  """
  first, n = start * chunks.per_batch, chunks.per_batch
  processes = min(processes, (chunks.batches * n - first) // _CHUNKS_A_WORKER)
  source = grain.MapDataset.source(chunks)
  if processes:
    ahead = -(-n // processes)
    workers.check_shared_memory(
      processes, (2 * ahead + 2) * min(chunks.chunk, chunks.part) * int(np.prod(chunks.shape))
    )
    parts = [source.slice(slice(first + worker, None, processes)) for worker in range(processes)]
    reader = workers.processes([part.to_iter_dataset(grain.ReadOptions(0, 0)) for part in parts], ahead)
  else:
    threads = _threads()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(n, threads))
    reader = contextlib.closing(iter(source.slice(slice(first, None)).to_iter_dataset(options)))
  with reader as elements:
    for _ in range(start, chunks.batches):
      yield _joined([next(elements) for _ in range(n)])


def _threads() -> int:
  return min(_MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _joined(parts: list[dict]) -> dict:
  """Chunks as one batch in memory of its own: that of a worker's arrays is shared, and goes with them."""
  arrays = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in ("images", "labels", "mask")}
  return {**arrays, "findings": tuple(finding for part in parts for finding in part["findings"])}
