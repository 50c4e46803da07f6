"""What Ray runs on the nodes of a cluster: the trainings, and the post between them and the engine."""

import asyncio
import collections
import contextlib
import dataclasses
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nin_jax.sweep import events

# An NFS server lets go of the locks of a machine that is gone after its lease: 90 s where nobody has changed it.
WAIT_SECONDS = 120.0


class Told(NamedTuple):
  """What a task tells the engine.

  Attributes:
    group: the number of its group.
    attempt: names this run of the task: Ray may run it again.
    event: what has happened.
    files: {trial: its files, see `sending.packed`} of the trials that the event ends, where the sweep's workdir can't
      be written from the node; else None.
  """

  group: int
  attempt: str
  event: events.Event
  files: dict[str, dict[str, bytes]] | None


@dataclasses.dataclass(frozen=True)
class Place:
  """Where the sweep is, for the nodes to see whether they are there too.

  Attributes:
    workdir: the sweep's, absolute.
    token: the content of `TOKEN_FILE` in it.
    current: the engine's current directory, which paths in a config may be relative to.
  """

  workdir: str
  token: str
  current: str

  TOKEN_FILE = ".token"

  def shared(self) -> bool:
    """Whether the workdir of that path is the sweep's on this node too."""
    try:
      return (Path(self.workdir) / self.TOKEN_FILE).read_text(encoding="utf-8") == self.token
    except OSError:
      return False


class Post:
  """Takes events to the engine and answers to the tasks: a Ray actor on the engine's node."""

  def __init__(self):
    self._told: list[Told] = []
    self._some = asyncio.Event()
    self._answers: dict[str, asyncio.Queue] = collections.defaultdict(asyncio.Queue)

  async def tell(self, told: Told) -> None:
    """Takes in what a task tells."""
    self._told.append(told)
    self._some.set()

  async def told(self, timeout: float) -> list[Told]:
    """What has come in, waited for up to so many seconds."""
    if not self._told:
      with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(self._some.wait(), timeout)
    told, self._told = self._told, []
    self._some.clear()
    return told

  async def answer(self, attempt: str, go: bool) -> None:
    """Answers an attempt's next question."""
    self._answers[attempt].put_nowait(go)

  async def ask(self, attempt: str) -> bool:
    """Waits for the answer to an attempt's next question."""
    return await self._answers[attempt].get()


def train(task: dict, group: int, place: Place, post: Any) -> None:
  """Trains a group of trials on this node: Ray's task.

  Where the node shares the sweep's file system the trials are trained in their workdirs, and go on from their
  checkpoints. Where it does not, they are trained from their beginnings in a temporary directory, and their small
  files are sent with what they end with.

  Args:
    task: see `work.task`.
    group: its number.
    place: of the sweep.
    post: the actor.
  """
  import ray

  from nin_jax.sweep import sending
  from nin_jax.sweep.work import work
  from nin_jax.train.compilation import keep_compiled

  node, attempt = ray.util.get_node_ip_address(), uuid.uuid4().hex
  where = f"{node} {ray.get_runtime_context().get_node_id()[:4]}"  # there may be several nodes on one machine
  shared = place.shared()

  def tell(event: events.Event) -> None:
    files = None
    if not shared:
      if isinstance(event, events.Broken):  # this node's disk is full: no reason to end the sweep
        event = events.Lost(event.trials, event.error)
      if isinstance(event, events.Ended | events.Failed | events.Pruned):
        trials = event.trials if isinstance(event, events.Pruned) else (event.trial,)
        files = {trial: sending.packed(Path(directories[trial])) for trial in trials}
    _arrived(post.tell.remote(Told(group, attempt, event, files)))

  def ask() -> bool:
    return _arrived(post.ask.remote(attempt))

  with contextlib.ExitStack() as stack:
    if shared:
      stack.enter_context(_errors_to(Path(place.workdir) / "workers" / f"{node}-{os.getpid()}.log"))
      with contextlib.suppress(OSError):
        os.chdir(place.current)
    else:
      temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="nin_jax-"))
      moved = [{**trial, "directory": os.path.join(temporary, trial["trial"])} for trial in task["trials"]]
      task = {**task, "trials": moved}
    directories = {trial["trial"]: trial["directory"] for trial in task["trials"]}
    keep_compiled()
    work(task, where, tell, ask, WAIT_SECONDS)


def _arrived(reference: Any) -> Any:
  """Waits for an object as `ray.get` does, but keeps this task's CPUs: Ray lends them to others while a task waits."""
  return reference.future().result()


@contextlib.contextmanager
def _errors_to(path: Path) -> Iterator[None]:
  """Appends what this process writes to standard error, whatever part of it, to a file, if it can be opened."""
  kept = os.dup(2)
  with contextlib.suppress(OSError):  # no training depends on it
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as log:
      os.dup2(log.fileno(), 2)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      sys.stderr.flush()
    os.dup2(kept, 2)
    os.close(kept)
