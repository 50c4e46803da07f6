"""What the workers of `benchmarks.ops` share: prepared calls by name, timed when the parent asks."""

import time
from collections.abc import Callable

from benchmarks import worker


class Calls:
  """Prepared calls.

  Args:
    make: makes a call of (operation, precision, column, direction) that returns when it is done; raises ValueError
      where a column has no such operation.
  """

  def __init__(self, make: Callable[[dict, str, str, str], Callable[[], object]]):
    self._make = make
    self._calls: dict[str, Callable[[], object]] = {}

  def prepare(self, operation: dict, precision: str, column: str, direction: str) -> dict:
    """{"seconds"} of one call, once it is warm; None, with "why", where the column has no such operation."""
    try:
      call = self._make(operation, precision, column, direction)
      call()
    except ValueError as error:
      return {"seconds": None, "why": str(error)}
    self._calls[f"{column} {direction}"] = call
    call()
    return self.time(column, direction, 1)

  def time(self, column: str, direction: str, count: int) -> dict:
    """{"seconds"} of one call, the mean of so many."""
    call = self._calls[f"{column} {direction}"]
    began = time.perf_counter()
    for _ in range(count):
      call()
    return {"seconds": (time.perf_counter() - began) / count}

  def forget(self) -> dict:
    """Drops all calls, and the arrays they hold."""
    self._calls.clear()
    return {}

  def serve(self) -> None:
    worker.serve({"prepare": self.prepare, "time": self.time, "forget": self.forget})
