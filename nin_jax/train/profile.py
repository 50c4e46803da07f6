"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import jax

from nin_jax import paths, streams
from nin_jax.errors import line

WARM_UP = 3  # steps that are left out: compilation, and the first use of memory


class Profile:
  """Traces `steps` steps, beginning some steps after `start`.

  Args:
    directory: where the trace goes.
    start: the step that the process begins after.
    steps: how many; 0: none.
  """

  def __init__(self, directory: Path, start: int, steps: int):
    self._directory, self._steps = directory, steps
    self._opened = contextlib.ExitStack()
    self._first, self._end = start + 1 + WARM_UP, None  # one after the last, while a trace is under way

  def step(self, step: int) -> None:
    """To be called before each call of the program, with the first of its steps; calls are traced whole."""
    if self._end is not None and step >= self._end:
      self._stop()
    elif self._steps and step >= self._first:
      steps, self._steps = self._steps, 0
      with self._warning():
        self._directory.mkdir(parents=True, exist_ok=True)
        jax.profiler.start_trace(str(self._opened.enter_context(paths.literal("--workdir", self._directory))))
        self._end = step + steps

  def _stop(self) -> None:
    if self._end is not None:
      self._end = None
      with self._warning():
        jax.profiler.stop_trace()

  @contextlib.contextmanager
  def _warning(self) -> Iterator[None]:
    """The training does not depend on its trace."""
    try:
      yield
    except (OSError, RuntimeError) as error:  # JAX's are RuntimeErrors
      logging.warning("no trace: %s can't be written (%s)", self._directory, line(str(error), 300))

  def __enter__(self) -> "Profile":
    return self

  def __exit__(self, *_: object) -> None:
    with self._opened:
      self._stop()
    if self._steps:
      streams.note(f"no trace: the run ended before step {self._first}, the first to be traced")
