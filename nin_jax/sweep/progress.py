"""How far a sweep is, and when it will be done."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nin_jax.sweep.events import Ended, Event, Failed, Lost, Pruned, Started, Stepped
from nin_jax.sweep.trial import Trial


class Progress:
  """Counts a sweep's trials from its events, each by the FLOPs of its training.

  The first step above 0 that is reported of a trial ends its compilation and is where this start found it, so the time
  left is as fine as the reports are: every few percent of a training or oftener.

  Args:
    trials: all of the plan.
    clock: seconds, for tests.

  Attributes:
    running, ended, failed: the ids of the trials that are so now; those that a search ended early have ended.
    to_come: how many more a search is expected to ask for, each at the mean cost of the others.
    started: when it was made, in the clock's seconds.
  """

  def __init__(self, trials: Sequence[Trial], clock: Callable[[], float] = time.monotonic):
    self._flops = {trial.id: max(1, trial.train_flops) for trial in trials}
    self.to_come = 0
    self._clock = clock
    self.started = self._told = clock()
    self.running: set[str] = set()
    self.ended: set[str] = set()
    self.failed: set[str] = set()
    self._position: dict[str, float] = {}  # the part of its training that a trial has behind it
    self._began: dict[str, float] = {}  # where it stood when it was first heard of
    self._stepping: dict[str, _Stretch] = {}  # of those that run: compiled
    self._busy = self._compiling = 0.0  # seconds in which some trial was stepping; in which none of those running was

  def add(self, trials: Iterable[Trial], to_come: int) -> None:
    """Takes in trials that a search has asked for, and how many it still will."""
    self._flops |= {trial.id: max(1, trial.train_flops) for trial in trials}
    self.to_come = to_come

  def done_before(self, ended: Iterable[str], failed: Iterable[str] = ()) -> None:
    """Takes in what earlier starts of the sweep left, which says nothing about the speed of this one."""
    self.ended |= set(ended)
    self.failed |= set(failed)

  def take(self, event: Event) -> None:
    """Takes in what has just happened."""
    now = self._clock()
    if self._stepping:
      self._busy += now - self._told
    elif self.running:
      self._compiling += now - self._told
    self._told = now
    match event:
      case Started(trials=trials):
        self._leave(*trials)  # an engine may move them
        self.failed -= set(trials)  # it is tried again
        self.running |= set(trials)
      case Stepped(trials=trials, step=step, total_steps=total) if step > 0:
        for trial in self.running.intersection(trials):
          position = self._position[trial] = step / total
          self._began.setdefault(trial, position)
          first, since = self._stepping.get(trial, (position, now))[:2]
          self._stepping[trial] = _Stretch(first, since, position, now)
      case Ended(trial=trial):
        self._leave(trial)
        self._position[trial] = 1.0
        self.ended.add(trial)
      case Failed(trial=trial):
        self._leave(trial)
        self.failed.add(trial)
      case Pruned(trials=trials):
        self._leave(*trials)
        self.ended |= set(trials)
      case Lost(trials=trials):
        self._leave(*trials)

  @property
  def over(self) -> bool:
    """Whether each trial has ended or failed."""
    return len(self.ended | self.failed) == len(self._flops) + self.to_come

  @property
  def fraction(self) -> float:
    """The part of the sweep's FLOPs that needs no more training, 0 to 1; what has failed is among them."""
    whole = sum(self._flops.values()) + self._coming()
    return 1.0 - self._left() / whole if whole else 0.0

  def seconds_left(self) -> float | None:
    """The time that the rest takes; None before it is known.

    The FLOPs that are left, at the speed of this start while anything was stepping; and for the trials that have not
    made a step yet, the time again in which those before them did nothing but compile. No less than the slowest of
    those that run still needs at its own speed: towards the end fewer and fewer run at once.
    """
    if self.over:
      return 0.0
    now = self._clock()
    made = sum(self._flops[trial] * max(0.0, self._position[trial] - began) for trial, began in self._began.items())
    if not made or not self._busy:
      return None
    untouched = self._coming() + sum(self._flops[trial] for trial in self._open() if trial not in self._began)
    compiling = self._compiling * untouched / sum(self._flops[trial] for trial in self._began)
    left = self._left() * self._busy / made + compiling - (now - self._told)
    return max(0.0, left, *(stretch.seconds_left(now) for stretch in self._stepping.values()))

  def _open(self) -> list[str]:
    return [trial for trial in self._flops if trial not in self.ended and trial not in self.failed]

  def _left(self) -> float:
    """FLOPs."""
    return self._coming() + sum(self._flops[trial] * (1.0 - self._position.get(trial, 0.0)) for trial in self._open())

  def _coming(self) -> float:
    """FLOPs of trials that a search has not asked for yet."""
    return self.to_come * sum(self._flops.values()) / len(self._flops) if self._flops else 0.0

  def _leave(self, *trials: str) -> None:
    self.running -= set(trials)
    for trial in trials:
      self._stepping.pop(trial, None)


class _Stretch(NamedTuple):
  """The steps of a trial since it was taken on."""

  first: float  # its position at the first report
  since: float
  last: float  # and at the last one
  until: float

  def seconds_left(self, now: float) -> float:
    if self.last <= self.first:
      return 0.0
    return (1.0 - self.last) * (self.until - self.since) / (self.last - self.first) - (now - self.until)
