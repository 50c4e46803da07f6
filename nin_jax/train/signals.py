"""SIGTERM and SIGINT end a run after the step that is under way."""

import signal
from types import FrameType


class Interrupted(Exception):
  """The run was asked to stop, and its state is saved.

  Attributes:
    signal: the signal's number; commands exit with 128 + it.
    step: of the checkpoint.
  """

  def __init__(self, number: int, step: int):
    self.signal, self.step = number, step
    super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")


class StopRequest:
  """Within the `with` block, `signal` is the number of the first SIGTERM or SIGINT that came, or None.

  A second one acts as it would outside of the block.
  """

  def __init__(self) -> None:
    self.signal: int | None = None
    self._before: dict = {}

  def __enter__(self) -> "StopRequest":
    for number in (signal.SIGTERM, signal.SIGINT):
      try:
        self._before[number] = signal.signal(number, self._note)
      except ValueError:  # not in the main thread (a notebook's worker, a test): the caller's handlers stay
        break
    return self

  def _note(self, number: int, _: FrameType | None) -> None:
    self.signal = number
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def __exit__(self, *_: object) -> None:
    self._restore()
