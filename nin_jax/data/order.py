"""The order in which a training set is visited: a function of the seed and the step alone."""

import functools
from collections.abc import Iterator

import numpy as np


@functools.lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  """Returns the int64 [size] order of one epoch; read-only.

  The order sorts `size` 64-bit words of the counter-based generator Philox (Salmon et al., 2011) keyed by
  (seed mod 2^64, epoch). NumPy promises that a bit generator's words never change between versions, which it does not
  promise of `Generator.permutation`; so a run resumes the same on another machine and after an upgrade.
  """
  words = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(size)
  order = np.argsort(words, kind="stable")
  order.setflags(write=False)
  return order


def batch(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
  """Returns the int32 [batch_size] indices that step `step` (from 0) trains on.

  Batches are consecutive slices of the epochs' permutations laid end to end, so each epoch sees every example once, and
  a batch may hold the end of one epoch and the start of the next.
  """
  indices = np.empty(batch_size, np.int32)
  filled, position = 0, step * batch_size
  while filled < batch_size:
    epoch, offset = divmod(position + filled, size)
    part = permutation(seed, epoch, size)[offset : offset + batch_size - filled]
    indices[filled : filled + len(part)] = part
    filled += len(part)
  return indices


def index(seed: int, position: int, size: int) -> int:
  """Returns the index at a position of the epochs' permutations laid end to end: `batch` is a run of these."""
  epoch, offset = divmod(position, size)
  return int(permutation(seed, epoch, size)[offset])


def padded_batches(batch_size: int, size: int) -> Iterator[np.ndarray]:
  """Yields 0, 1, …, size − 1 as int32 [batch_size] arrays, the last one filled up with −1."""
  for start in range(0, size, batch_size):
    indices = np.arange(start, start + batch_size, dtype=np.int32)
    yield np.where(indices < size, indices, np.int32(-1))
