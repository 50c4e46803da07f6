"""SIGTERM, SIGINT, SIGHUP and a cloud's notice of preemption end a run after the step that is under way."""

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_SECONDS = 2.0


class Interrupted(Exception):
  """The run was asked to stop, and its state is saved.

  Attributes:
    signal: the signal's number; commands exit with 128 + it.
    step: of the checkpoint; None where there are several.
  """

  def __init__(self, number: int, step: int | None = None):
    self.signal, self.step = number, step
    after = "" if step is None else f" after step {step}"
    super().__init__(f"stopped by {signal.Signals(number).name}{after}")


class StopRequest:
  """Within the `with` block, the first of some signals is noted.

  What comes after it is ignored, for the state is being saved: `timeout`, `srun` and terminals send a signal to a
  process and to its group, that is, twice. But a SIGINT that comes `GRACE_SECONDS` later, or after that, is from
  somebody who does not want to wait: it acts as it would outside of the block. Where SIGHUP is ignored (`nohup`), it
  stays so.

  Args:
    signals: which.
    preempted: a function of the number of calls so far that says whether a notice of preemption asks to stop, as
      SIGTERM would.
    clock: seconds, for tests.
  """

  def __init__(
    self,
    signals: Sequence[int] = SIGNALS,
    preempted: Callable[[int], bool] = lambda _: False,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._signals, self._preempted, self._clock = signals, preempted, clock
    self._signal, self._calls, self._came = 0, 0, 0.0
    self._before: dict = {}

  def poll(self) -> int:
    """The signal's number, or 0. In a run of several processes, all of them call it equally often."""
    self._calls += 1
    if self._preempted(self._calls):
      self._signal = self._signal or signal.SIGTERM
    return self._signal

  def __enter__(self) -> "StopRequest":
    for number in self._signals:
      if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
        continue
      try:
        self._before[number] = signal.signal(number, self._note)
      except ValueError:  # not in the main thread (a notebook's worker, a test): the caller's handlers stay
        break
    return self

  def _note(self, number: int, _: FrameType | None) -> None:
    if not self._signal:
      self._signal, self._came = number, self._clock()
    elif number == signal.SIGINT and self._clock() - self._came >= GRACE_SECONDS:
      self._restore()
      signal.raise_signal(number)

  def _restore(self) -> None:
    for number, handler in self._before.items():
      if handler is not None:  # None: it was not Python's, and can't be given back
        signal.signal(number, handler)
    self._before = {}

  def __exit__(self, *_: object) -> None:
    self._restore()
