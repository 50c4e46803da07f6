"""Trains the trials of a sweep, whatever happens on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nin_jax.sweep import events
from nin_jax.sweep.record import Record
from nin_jax.sweep.trial import Trial
from nin_jax.sweep.work import task
from nin_jax.train import Interrupted, WorkdirError
from nin_jax.train.checkpoint import DISK
from nin_jax.train.signals import StopRequest

POLL_SECONDS = 0.5

Group = Sequence[Trial]  # trials that differ in their seed alone: they are trained by one program


class Engine(Protocol):
  """Trains groups of trials somewhere: see `pool.Pool`."""

  def free(self) -> int:
    """How many groups it could take on now."""

  def submit(self, task: dict) -> None:
    """Takes on a group of trials; see `work.task`."""

  def happened(self, timeout: float) -> list[events.Event]:
    """What has happened, waited for up to so many seconds."""

  def answer(self, trials: tuple[str, ...], go: bool) -> None:
    """Says whether trials that were evaluated are to go on, where their task asks."""

  def stop(self) -> list[events.Event]:
    """Has everything saved and stopped, and returns what happened."""


class Source(Protocol):
  """Where the groups come from: see `Planned`."""

  asks: bool  # whether it decides after each evaluation if trials are to go on

  def next(self) -> Group | None:
    """The next group to train; None where there is none now."""

  def goes_on(self, event: events.Evaluated) -> bool:
    """Whether trials that were evaluated are to go on."""

  def settled(self, group: Group, record: Record) -> None:
    """None of the group's trials is running any more; those that are open are to be trained again."""


class Shows(Protocol):
  """Is shown the events as they come: see `display.Display`."""

  def show(self, event: events.Event) -> None:
    """Takes one."""


class Planned:
  """The groups of a plan, the most expensive first, so that none of them is waited for at the end.

  Args:
    groups: all of them.
  """

  asks = False

  def __init__(self, groups: Sequence[Group]):
    self._waiting = sorted(groups, key=lambda group: sum(trial.train_flops or 0 for trial in group))

  def next(self) -> Group | None:
    return self._waiting.pop() if self._waiting else None

  def goes_on(self, event: events.Evaluated) -> bool:
    return True

  def settled(self, group: Group, record: Record) -> None:
    if any(record.is_open(trial.id) for trial in group):
      self._waiting.insert(0, group)


def run(workdir: Path, source: Source, record: Record, engine: Engine, shows: Shows) -> None:
  """Trains all groups of a source to their ends; `results.jsonl` is kept up with what has ended.

  Args:
    workdir: the sweep's.
    source: of the groups.
    record: of all trials.
    engine: to train them on.
    shows: is shown each event.

  Raises:
    Interrupted: SIGTERM, SIGINT or SIGHUP; what was running has saved its state.
    WorkdirError: nothing can be written any more, or files of the sweep are gone; what was running was asked to save
      its state.
  """
  running: list[tuple[Group, set[str]]] = []  # and which of its trials are

  def take_in(happened: list[events.Event]) -> None:
    for event in happened:
      shows.show(event)
      if isinstance(event, events.Evaluated) and source.asks:
        engine.answer(event.trials, source.goes_on(event))
      settled = _note(event, record)
      for group, trials in running:
        touched = trials & settled  # a group is settled once, by the event that its last trial is in
        trials -= settled
        if touched and not trials:
          source.settled(group, record)
    running[:] = [(group, trials) for group, trials in running if trials]

  def work(stop: StopRequest) -> None:
    record.check()
    while True:
      while engine.free() and (group := source.next()):
        trials = {trial.id for trial in group if record.is_open(trial.id)}
        if trials:
          running.append((group, trials))
          engine.submit(task(workdir, group, trials, source.asks))
      if not running:
        record.write()
        return
      happened = engine.happened(POLL_SECONDS)
      record.check()
      take_in(happened)
      if number := stop.poll():
        take_in(engine.stop())
        raise Interrupted(number)

  record.write()
  with StopRequest() as stop:
    try:
      work(stop)
    except WorkdirError:
      engine.stop()
      raise
    except OSError as error:
      if error.filename is None and error.errno not in DISK:  # of the engine
        raise
      engine.stop()  # a search's journal: the disk is full, or it has been removed
      raise WorkdirError(f"{error.filename or workdir} can't be used: {error.strerror or error}") from error


def _note(event: events.Event, record: Record) -> set[str]:
  """Takes an event into the record; returns the trials that are no longer running."""
  match event:
    case events.Ended(trial, result):
      record.ended(trial, result)
      return {trial}
    case events.Failed(trial, error, final, crashed):
      record.failed(trial, error, final, crashed)
      return {trial}
    case events.Lost(trials, error):
      for trial in trials:
        record.failed(trial, error, final=False)
      return set(trials)
    case events.Pruned(trials, step, accuracies):
      for trial, accuracy in zip(trials, accuracies, strict=True):
        record.pruned(trial, step, accuracy)
      return set(trials)
    case events.Saved(trials):
      return set(trials)
    case events.Broken(_, error):
      raise WorkdirError(error)
  return set()
