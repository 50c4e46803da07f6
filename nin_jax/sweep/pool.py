"""The local engine: a pool of worker processes that stay up and take group after group of trials."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from nin_jax import crashes
from nin_jax.sweep import events

STOP_SECONDS = 60.0  # that workers have to save when the sweep is stopped
_ENDING_SECONDS = 5.0  # that workers may take to end by themselves


@dataclasses.dataclass
class _Worker:
  """A worker process.

  Attributes:
    name: "worker 1".
    environment: what its devices are chosen by.
    cores: that it is bound to; None: all.
    trials: of the group that it is at; () where it is idle.
    asks: whether it waits for an answer after each evaluation.
  """

  name: str
  environment: dict[str, str]
  cores: set[int] | None
  log: Path
  process: subprocess.Popen | None = None
  trials: tuple[str, ...] = ()
  asks: bool = False
  rest: bytes = b""

  def start(self) -> None:
    """Starts the process, where it is not running."""
    if self.process:
      return
    with self._open_log() as log:
      self.process = subprocess.Popen(
        [sys.executable, "-m", "nin_jax.sweep.worker", self.name, *map(str, sorted(self.cores or ()))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **self.environment, "PYTHONPATH": _path(), "PYTHONIOENCODING": "utf-8"},  # of the log
        start_new_session=True,  # Ctrl-C on the terminal reaches the parent alone
      )
    os.set_blocking(self.process.stdout.fileno(), False)

  def _open_log(self) -> IO[bytes]:
    """The log, or /dev/null: no training depends on it."""
    try:
      self.log.parent.mkdir(exist_ok=True)
      return self.log.open("ab")
    except OSError:
      return open(os.devnull, "ab")

  def send(self, value: dict) -> None:
    """Sends a line; where the process has gone, its end is told by its output."""
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.write((json.dumps(value) + "\n").encode())
      self.process.stdin.flush()


class Pool:
  """Worker processes on this machine, within a `with` block.

  A worker is started with its first group, and again after it was lost. On a CPU the workers share the cores; with
  GPUs each has one of them; a TPU host has one worker, for one process alone can have its chips.

  Args:
    workdir: the sweep's: the workers' output goes to `workers/NAME.log` in it.
    workers: how many; 0: one a GPU where there are GPUs, one on a TPU host, else one a core; no more than `most`.
    most: how many groups there are to train.
  """

  def __init__(self, workdir: Path, workers: int = 0, most: int = 1):
    gpus = visible_gpus()
    count = min(workers or len(gpus) or (1 if _has_tpu() else cores()), max(1, most))
    self._workers = [
      _Worker(
        f"worker {number + 1}",
        {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {},
        None if gpus else _share(number, count),
        workdir / "workers" / f"{number + 1}.log",
      )
      for number in range(count)
    ]
    self._selector = selectors.DefaultSelector()

  def __enter__(self) -> "Pool":
    return self

  def __exit__(self, *_: object) -> None:
    running = [worker.process for worker in self._workers if worker.process]
    for process in running:
      with contextlib.suppress(OSError):
        process.stdin.close()  # at which it ends, and removes its temporary files
    until = time.monotonic() + _ENDING_SECONDS
    for process in running:
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until - time.monotonic()))
      process.kill()
      process.wait()

  @property
  def size(self) -> int:
    """How many groups it trains at once."""
    return len(self._workers)

  def free(self) -> int:
    """How many groups it could take on now."""
    return sum(not worker.trials for worker in self._workers)

  def submit(self, task: dict) -> None:
    """Gives a group of trials to a worker that is free; see `work.task`."""
    worker = next(worker for worker in self._workers if not worker.trials)
    worker.trials = tuple(trial["trial"] for trial in task["trials"] if not trial["left_out"])
    worker.asks = task["asks"]
    worker.start()
    if worker.process.stdout.fileno() not in self._selector.get_map():
      self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
    worker.send(task)

  def answer(self, trials: tuple[str, ...], go: bool) -> None:
    """Says whether trials that were evaluated are to go on, where their task asks."""
    for worker in self._workers:
      if worker.asks and worker.trials and set(trials) <= set(worker.trials):
        worker.send({"go": go})

  def happened(self, timeout: float) -> list[events.Event]:
    """What has happened, waited for up to so many seconds."""
    told: list[events.Event] = []
    for key, _ in self._selector.select(timeout):
      worker: _Worker = key.data
      told += self._read(worker, key.fileobj)
    return told

  def _read(self, worker: _Worker, stream: IO[bytes]) -> list[events.Event]:
    data = stream.read()
    if data is None:
      return []
    *lines, worker.rest = (worker.rest + data).split(b"\n")
    told = [events.from_json(json.loads(row)) for row in lines]
    for event in told:
      self._settle(worker, event)
    if not data:  # the process has gone
      self._selector.unregister(stream)
      status, trials = worker.process.wait(), worker.trials
      worker.process, worker.trials, worker.rest = None, (), b""
      if trials:
        ended = f"{worker.name} ended with {crashes.describe_exit(status, crashes.ADVICE)}"
        if crashes.crashed(status):  # memory may be wrong before it crashes: what made it so is not tried again
          error = f"{ended}; see {worker.log}"
          told += [events.Failed(trial, error, final=True, crashed=True) for trial in trials]
        else:
          told.append(events.Lost(trials, f"{ended}; see {worker.log}"))
    return told

  def _settle(self, worker: _Worker, event: events.Event) -> None:
    """Takes trials that are done with off a worker."""
    if isinstance(event, events.Ended | events.Failed):
      worker.trials = tuple(trial for trial in worker.trials if trial != event.trial)
    elif isinstance(event, events.Pruned | events.Saved | events.Broken):
      worker.trials = ()

  def stop(self) -> list[events.Event]:
    """Asks all workers to save and stop, and returns what they tell; those that don't within a minute are killed."""
    for worker in self._workers:
      if worker.process and worker.trials:
        worker.process.send_signal(signal.SIGTERM)
    told: list[events.Event] = []
    end = time.monotonic() + STOP_SECONDS
    while any(worker.trials for worker in self._workers) and time.monotonic() < end:
      for event in self.happened(0.2):
        if isinstance(event, events.Evaluated):
          self.answer(event.trials, go=True)  # it waits for that, and only then sees that it is to stop
        # One that was still starting has nothing to save, and has not failed.
        told.append(events.Saved(event.trials) if isinstance(event, events.Lost) else event)
    return told


def gpus_wanted() -> bool:
  """Whether the user's choice of JAX's platform, if there is one, is GPUs."""
  return os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] in ("cuda", "gpu")


def visible_gpus() -> list[str]:
  """The GPUs that workers may have one each of, as CUDA_VISIBLE_DEVICES names them."""
  if not gpus_wanted():
    return []
  if "CUDA_VISIBLE_DEVICES" in os.environ:
    return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
  return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))


def _has_tpu() -> bool:
  platform = os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0]
  return platform == "tpu" and importlib.util.find_spec("libtpu") is not None


def _cores() -> list[int]:
  return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores() -> int:
  """How many cores this process may use."""
  return len(_cores()) or os.cpu_count() or 1


def _share(number: int, count: int) -> set[int] | None:
  """A worker's part of the cores; all of them where there are fewer cores than workers."""
  cores = _cores()
  if count <= 1 or count > len(cores):
    return None
  return set(cores[number * len(cores) // count : (number + 1) * len(cores) // count])


def _path() -> str:
  """Where this package is, for a worker that is started from elsewhere."""
  root = str(Path(__file__).parents[2])
  return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
