"""What the workers of `benchmarks.ops` share: prepared calls by name, timed when the parent asks."""

import time
from collections.abc import Callable

from benchmarks import worker


class Calls:
  """Prepared calls.

  Args:
    make: makes a call of (operation, precision, column, direction); raises ValueError where a column has no such
      operation.
    wait: takes a call's result and returns when it is there.
    in_order: whether calls are run in the order in which they were made, so that the last one ends last; otherwise each
      is waited for.
  """

  def __init__(
    self,
    make: Callable[[dict, str, str, str], Callable[[], object]],
    wait: Callable[[object], object],
    in_order: bool,
  ):
    self._make, self._wait, self._in_order = make, wait, in_order
    self._calls: dict[str, Callable[[], object]] = {}

  def prepare(self, operation: dict, precision: str, column: str, direction: str) -> dict:
    """{"seconds"} of one call, once it is warm; None, with "why", where the column has no such operation."""
    try:
      call = self._make(operation, precision, column, direction)
      self._wait(call())
    except ValueError as error:
      return {"seconds": None, "why": str(error)}
    self._calls[f"{column} {direction}"] = call
    self.time(column, direction, 1)
    return self.time(column, direction, 1)

  def time(self, column: str, direction: str, count: int) -> dict:
    """{"seconds"} of one call, the mean of so many."""
    call = self._calls[f"{column} {direction}"]
    began = time.perf_counter()
    for _ in range(count):
      result = call()
      if not self._in_order:
        self._wait(result)
    self._wait(result)
    return {"seconds": (time.perf_counter() - began) / count}

  def forget(self) -> dict:
    """Drops all calls, and the arrays they hold."""
    self._calls.clear()
    return {}

  def serve(self) -> None:
    worker.serve({"prepare": self.prepare, "time": self.time, "forget": self.forget})
