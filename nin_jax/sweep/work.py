"""Trains a group of trials in this process: what a worker does, wherever it runs."""

import json
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from nin_jax import streams
from nin_jax.config import from_json
from nin_jax.errors import ConfigError, line
from nin_jax.sweep import events
from nin_jax.sweep.trial import Trial
from nin_jax.train import Interrupted, WorkdirError
from nin_jax.train.loop import Seed, train_seeds
from nin_jax.train.watch import Pruned, Watch

TELL_SECONDS = 0.25  # at most so often does a step make an event
WAIT_SECONDS = 30.0  # for the worker that was at a trial before: its parent or its node has gone, it is about to go


def task(workdir: Path, trials: Sequence[Trial], trained: Collection[str], asks: bool = False) -> dict:
  """What a worker is told of a group of trials that differ in their seed alone: JSON.

  Args:
    workdir: the sweep's.
    trials: all of the group, whatever has become of them.
    trained: the ids of those that are to be trained; the others only keep their place.
    asks: whether each evaluation waits for an answer to whether to go on.
  """
  described = [
    {
      "trial": trial.id,
      "directory": str(directory(workdir, trial.id)),
      "overrides": trial.overrides,
      "config": trial.config.to_dict(),
      "left_out": trial.id not in trained,
    }
    for trial in trials
  ]
  return {"trials": described, "asks": asks}


def directory(workdir: Path, trial: str) -> Path:
  """The workdir of a trial."""
  return workdir / "trials" / trial


class _Teller(Watch):
  """Makes events of what training tells."""

  def __init__(self, trials: list[str], going: list[str], tell: Callable, ask: Callable[[], bool] | None):
    self.going, self._all, self._tell, self._ask = going, trials, tell, ask
    self._told, self._total = 0.0, 0

  def begins(self, step: int, total_steps: int) -> None:
    self._total = total_steps
    self.stepped(step)

  def stepped(self, step: int) -> None:
    now = time.monotonic()
    if now - self._told >= TELL_SECONDS or step == self._total:
      self._told = now
      self._tell(events.Stepped(tuple(self.going), step, self._total))

  def stopped(self, lane: int, reason: Exception) -> None:
    trial = self._all[lane]
    self.going.remove(trial)
    self._tell(events.Failed(trial, line(str(reason), 1000), final=True))

  def ended(self, lane: int, result: dict) -> None:
    trial = self._all[lane]
    if trial in self.going:
      self.going.remove(trial)
      self._tell(events.Ended(trial, result))

  def evaluated(self, step: int, accuracies: Sequence[float]) -> bool:
    self._accuracies = tuple(accuracies)
    self._tell(events.Evaluated(tuple(self.going), step, self._accuracies))
    return self._ask() if self._ask else True

  def pruned(self, step: int) -> events.Pruned:
    return events.Pruned(tuple(self.going), step, self._accuracies)


def work(
  task: dict,
  where: str,
  tell: Callable[[events.Event], None],
  ask: Callable[[], bool],
  wait_seconds: float = WAIT_SECONDS,
) -> None:
  """Trains a group of trials to its end; whatever becomes of it is told, and nothing is raised.

  Args:
    task: made by `task`.
    where: the name of this worker.
    tell: takes each event.
    ask: called after an `Evaluated` was told, where the task asks: whether the trials are to go on.
    wait_seconds: how long another process that is at one of the trials is waited for.
  """
  trials = [trial["trial"] for trial in task["trials"]]
  going = [trial["trial"] for trial in task["trials"] if not trial["left_out"]]
  watched = _Teller(trials, going, tell, ask if task["asks"] else None)
  tell(events.Started(tuple(watched.going), where))
  try:
    seeds = [
      Seed(
        from_json(json.dumps(trial["config"])),
        Path(trial["directory"]),
        trial["overrides"],
        trial["trial"],
        trial["left_out"],
      )
      for trial in task["trials"]
    ]
    train_seeds(seeds, watched, wait_seconds)
  except Pruned as pruned:
    tell(watched.pruned(pruned.step))
  except Interrupted:
    tell(events.Saved(tuple(watched.going)))
  except WorkdirError as error:
    tell(events.Broken(tuple(watched.going), line(str(error), 1000)))
  except Exception as error:
    # A config that is impossible was refused when it was planned: what is left is for the machine to mend.
    known = isinstance(error, ConfigError)
    if not known:
      streams.note(traceback.format_exc().rstrip())
    said = str(error) if known else f"{type(error).__name__}: {error}"
    for trial in watched.going:
      tell(events.Failed(trial, line(said, 1000), final=False))
