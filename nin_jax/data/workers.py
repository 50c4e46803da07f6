"""Grain's worker processes: how they start, and that they end with their parent and not before."""

import contextlib
import faulthandler
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker

import grain
from absl import flags

from nin_jax import crashes, streams
from nin_jax.errors import ConfigError

_SHARED_MEMORY = "/dev/shm"
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def begin(worker: int, count: int) -> None:
  """The first thing that a worker does.

  A signal to the process group, such as that of Ctrl-C or of a terminal that is closed, is the parent's to answer: it
  saves its state, and ends the workers. Where it cannot, because it was killed, they end by themselves. No worker
  touches an accelerator.
  """
  del worker, count
  streams.set_up()
  faulthandler.enable()
  for number in _SIGNALS:
    signal.signal(number, signal.SIG_IGN)
  _mask(signal.SIG_UNBLOCK)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  import jax  # Grain has imported it already

  jax.config.update("jax_platforms", "cpu")


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _mask(how: int) -> None:
  if hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(how, _SIGNALS)


@contextlib.contextmanager
def processes(datasets: Sequence[grain.IterDataset], ahead: int) -> Iterator[Iterator]:
  """Starts a process for each of some datasets, and gives the iterator that takes elements from them in turn.

  Each process, started at once, has a dataset to itself; Grain's own interleaving starts and ends them one by one.

  Args:
    datasets: to read, without end.
    ahead: elements that each keeps ready twice, in the process and beside it.

  Raises:
    RuntimeError: by the iterator, when a process has ended of itself.
  """
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads flags of its own, which a script or a notebook doesn't parse
  options = grain.MultiprocessingOptions(num_workers=1, per_worker_buffer_size=ahead)
  iterators: list[grain.DatasetIterator] = []
  try:
    _mask(signal.SIG_BLOCK)  # inherited: until `begin`, a worker would die of what is meant for its parent
    resource_tracker.ensure_running()
    _mask(signal.SIG_BLOCK)  # again: starting the tracker unblocks some
    try:
      for dataset in datasets:
        iterators.append(iter(dataset.mp_prefetch(options, worker_init_fn=begin)))
        iterators[-1].get_state()  # makes what start_prefetch starts
        iterators[-1].start_prefetch()
    finally:
      _mask(signal.SIG_UNBLOCK)
    yield _in_turn(iterators)
  finally:
    _close(iterators)


def _close(iterators: Sequence[grain.DatasetIterator]) -> None:
  try:
    with ThreadPoolExecutor(max(1, len(iterators))) as pool:
      list(pool.map(lambda iterator: iterator.close(), iterators))
  except RuntimeError:  # the interpreter is ending, and starts no threads
    for iterator in iterators:
      iterator.close()
    return
  deletions = getattr(grain.multiprocessing.SharedMemoryArray, "_del_thread_pool", None)
  if deletions:  # Grain's thread that frees shared memory: Python would warn of what is left when it ends
    deletions.apply(lambda: None)


def _in_turn(iterators: Sequence[Iterator]) -> Iterator:
  while True:
    for number, iterator in enumerate(iterators):
      yield _next(iterator, f"data worker {number} of {len(iterators)}")  # not kept here: it is shared memory


def _next(iterator: Iterator, worker: str) -> object:
  try:
    return next(iterator)
  except RuntimeError as error:
    if "exit code" not in str(error):
      raise
    code = re.search(r"exit code (-?\d+)", str(error))
    crashed = code and crashes.crashed(int(code[1]))
    why = crashes.describe_exit(int(code[1])) if crashed else "killed, for want of memory?"
    raise RuntimeError(f"{worker} ended before its time ({why}): {str(error).split('. Search')[0]}") from None


def check_shared_memory(count: int, each: int) -> None:
  """Refuses workers whose elements would not fit where they are handed over: writing there would kill them.

  Args:
    count: of workers.
    each: bytes of a worker's elements.

  Raises:
    ConfigError: there is too little.
  """
  if not os.path.isdir(_SHARED_MEMORY):
    return
  stat = os.statvfs(_SHARED_MEMORY)
  if (free := stat.f_bavail * stat.f_frsize) < count * each:
    needed = (
      f"each needs {each / 2**20:.0f} MiB of {_SHARED_MEMORY}, which has {free / 2**20:.0f} (docker run --shm-size)"
    )
    raise ConfigError("data.workers", count, f"{free // each} or fewer (0: threads); {needed}")
