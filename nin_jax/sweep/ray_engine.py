"""The engine for many machines: each group of trials is a task of a Ray cluster.

Ray places the tasks, carries what they tell, and runs those of a lost node again elsewhere.
"""

import collections
import contextlib
import dataclasses
import itertools
import os
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

from nin_jax import crashes
from nin_jax.errors import line
from nin_jax.sweep import events, pool, ray_cluster, sending
from nin_jax.sweep.ray_node import Place, Post, Told, train

RETRIES = 3  # of a task whose node or process has gone, by Ray; after them the trials' attempt has failed
TIDY_SECONDS = 5.0


@dataclasses.dataclass
class _Group:
  """A group of trials that Ray has.

  Attributes:
    trials: of it, those that have not come to an end.
    directories, configs: of each trial.
    asks: whether its evaluations wait for answers.
    attempt: the run of the task that is listened to: the newest.
    asked: the attempts whose questions are not answered yet, in their order.
  """

  trials: tuple[str, ...]
  directories: dict[str, Path]
  configs: dict[str, dict]
  asks: bool
  attempt: str = ""
  asked: collections.deque = dataclasses.field(default_factory=collections.deque)


class RayEngine:
  """Trains groups of trials on a Ray cluster, within a `with` block.

  Where the cluster has GPUs, a group takes one GPU and one CPU. Else it takes as many CPUs of its node as leave room
  for all the groups that are to run at once, and XLA has as many threads. (TPUs are not shared out: a sweep on TPU
  hosts is better run by the local engine of each.)

  Nodes that share the file system of the sweep's workdir train in it and go on from checkpoints; other nodes train
  in a directory of their own and send metrics, TensorBoard's events and results when a trial has ended: no
  checkpoints, so that what they had begun is begun anew when they are lost or the sweep is stopped. They read
  `data.dir` from their own disks.

  Args:
    workdir: the sweep's.
    address: of a running cluster that this machine belongs to, HOST:PORT, or "auto" for the one running here; None: a
      cluster of this machine alone, which ends with the block.
    workers: how many groups run at once; 0: as many as there is room for.
    most: how many groups there are to train.

  Raises:
    ConfigError: Ray is not installed, or there is no such cluster.
  """

  def __init__(self, workdir: Path, address: str | None = None, workers: int = 0, most: int = 1):
    self._workdir, self._address = Path(workdir).absolute(), address
    self._workers, self._most = workers, max(1, most)
    self._ray = ray_cluster.imported(local=address is None)
    self._groups: dict[Any, _Group] = {}  # by the reference to the task's end
    self._numbers: dict[int, _Group] = {}
    self._counter = itertools.count()
    self._stack = contextlib.ExitStack()
    self._stopping = False

  def __enter__(self) -> "RayEngine":
    with contextlib.ExitStack() as stack:
      stack.enter_context(ray_cluster.connected(self._ray, self._address))
      token = self._workdir / Place.TOKEN_FILE
      self._place = Place(str(self._workdir), uuid.uuid4().hex, os.getcwd())
      token.parent.mkdir(parents=True, exist_ok=True)
      token.write_text(self._place.token, encoding="utf-8")
      stack.callback(token.unlink, missing_ok=True)
      self._needs = ray_cluster.needs(ray_cluster.nodes(self._ray), self._workers, self._most)
      here = self._ray.get_runtime_context().get_node_id()
      pinned = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
      options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": pinned}
      self._post = self._ray.remote(Post).options(**options).remote()
      self._task = self._ray.remote(train).options(
        num_cpus=self._needs["CPU"],
        num_gpus=self._needs.get("GPU", 0),
        max_retries=RETRIES,
        scheduling_strategy="SPREAD",
        runtime_env={"env_vars": ray_cluster.environment(self._needs)},
      )
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *_: object) -> None:
    with self._stack:
      if ending := [
        end for end, group in self._groups.items() if not group.trials
      ]:  # they tidy up after the last event
        self._ray.wait(ending, num_returns=len(ending), timeout=TIDY_SECONDS)

  def free(self) -> int:
    """How many groups it could take on now; nodes may come and go."""
    room = self._workers or ray_cluster.room(self._ray, self._needs)
    return max(0, max(1, room) - sum(bool(group.trials) for group in self._groups.values()))

  def submit(self, task: dict) -> None:
    """Gives a group of trials to Ray; see `work.task`."""
    trials = [{**trial, "directory": str(Path(trial["directory"]).absolute())} for trial in task["trials"]]
    number = next(self._counter)
    group = _Group(
      tuple(trial["trial"] for trial in trials if not trial["left_out"]),
      {trial["trial"]: Path(trial["directory"]) for trial in trials},
      {trial["trial"]: trial["config"] for trial in trials},
      task["asks"],
    )
    end = self._task.remote({**task, "trials": trials}, number, self._place, self._post)
    self._groups[end] = self._numbers[number] = group

  def answer(self, trials: tuple[str, ...], go: bool) -> None:
    """Says whether trials that were evaluated are to go on, where their task asks."""
    for group in self._groups.values():
      if group.asked and set(trials) <= set(group.trials):
        self._post.answer.remote(group.asked.popleft(), go)

  def happened(self, timeout: float) -> list[events.Event]:
    """What has happened, waited for up to so many seconds."""
    told = self._take(timeout)
    ends = list(self._groups)
    over = self._ray.wait(ends, num_returns=len(ends), timeout=0)[0] if ends else []
    if over:
      told += self._take(0)  # what they told before they ended
    for end in over:
      group = self._groups.pop(end)
      self._numbers = {number: other for number, other in self._numbers.items() if other is not group}
      if group.trials:
        told.append(self._given_up(end, group))
    return told

  def _take(self, timeout: float) -> list[events.Event]:
    """What the tasks have told, of their newest attempts."""
    taken: list[events.Event] = []
    for told in self._ray.get(self._post.told.remote(timeout)):
      group = self._numbers.get(told.group)
      if group and (event := self._received(told, group)):
        taken.append(event)
    return taken

  def _received(self, told: Told, group: _Group) -> events.Event | None:
    """Brings a group up to date; returns what there is to tell of trials that have not come to an end before."""
    if isinstance(told.event, events.Started):
      group.attempt = told.attempt
    if told.attempt != group.attempt:
      return None
    event = among(told.event, group.trials)
    if isinstance(event, events.Evaluated) and group.asks:
      group.asked.append(told.attempt)
    if isinstance(event, events.Ended | events.Failed | events.Pruned | events.Saved | events.Broken | events.Lost):
      ended = event.trials if hasattr(event, "trials") else (event.trial,)
      for trial in ended:
        if told.files is not None and trial in told.files:
          result = event.result if isinstance(event, events.Ended) else None
          sending.unpack(told.files[trial], group.directories[trial], group.configs[trial], result)
      group.trials = tuple(trial for trial in group.trials if trial not in ended)
    return event

  def _given_up(self, end: Any, group: _Group) -> events.Event:
    """What becomes of trials whose task has ended before them."""
    trials, group.trials = group.trials, ()
    try:
      self._ray.get(end)
      reason = "its task ended before them"
    except self._ray.exceptions.RayError as error:
      cause = getattr(error, "cause", None) or error
      reason = f"{type(cause).__name__}: {line(str(cause), 300)}"
      if isinstance(error, self._ray.exceptions.WorkerCrashedError):
        reason += f" (if it crashed in native code, {crashes.ADVICE})"
    return events.Saved(trials) if self._stopping else events.Lost(trials, reason)

  def stop(self) -> list[events.Event]:
    """Has all tasks save and stop, and returns what they tell; those that don't within a minute end with the block."""
    self._stopping = True
    for end in self._groups:
      self._ray.cancel(end)  # as Ctrl-C would: training takes note, and saves
    told: list[events.Event] = []
    until = time.monotonic() + pool.STOP_SECONDS
    while self._groups and time.monotonic() < until:
      for event in self.happened(0.2):
        if isinstance(event, events.Evaluated):
          self.answer(event.trials, go=True)  # its task waits for that, and only then sees that it is to stop
        told.append(event)
    return told


def among(event: events.Event, trials: Collection[str]) -> events.Event | None:
  """The event, of some trials alone; None where it is of no other."""
  if not hasattr(event, "trials"):
    return event if event.trial in trials else None
  places = [place for place, trial in enumerate(event.trials) if trial in trials]
  changes = {
    name: tuple(getattr(event, name)[place] for place in places) for name in _PER_TRIAL if hasattr(event, name)
  }
  return dataclasses.replace(event, **changes) if places else None


_PER_TRIAL = ("trials", "accuracies")
