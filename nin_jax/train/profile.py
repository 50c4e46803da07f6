"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

import sys
from pathlib import Path

import jax

WARM_UP = 3  # steps that are left out: compilation, and the first use of memory


class Profile:
  """Traces `steps` steps, beginning some steps after `start`.

  Args:
    directory: where the trace goes.
    start: the step that the process begins after.
    steps: how many; 0: none.
  """

  def __init__(self, directory: Path, start: int, steps: int):
    self._directory, self._tracing = directory, False
    self._first, self._end = start + 1 + WARM_UP, start + 1 + WARM_UP + steps

  def step(self, step: int) -> None:
    """To be called before each step."""
    if self._first <= step < self._end and not self._tracing:
      jax.profiler.start_trace(str(self._directory))
      self._tracing = True
    elif step >= self._end:
      self._stop()

  def _stop(self) -> None:
    if self._tracing:
      jax.profiler.stop_trace()
      self._tracing = False

  def __enter__(self) -> "Profile":
    return self

  def __exit__(self, *_: object) -> None:
    self._stop()
    if self._end > self._first and not self._directory.exists():
      print(f"no trace: the run ended before step {self._first}, the first to be traced", file=sys.stderr)
