"""Worker processes that measure one side each, while the others are idle.

A process of its own gives each side its own thread pool, its own allocator and its own peak memory. Parent and worker
talk in lines of JSON: {"do": name, …arguments} and, back, what the worker's function of that name returns.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

try:
  import resource
except ImportError:  # Windows has none
  resource = None

ROOT = Path(__file__).parent.parent


class WorkerLost(Exception):
  """A worker has ended where an answer was due; its own words are on stderr."""


class Worker:
  """A worker process, within a `with` block.

  Args:
    module: which is run, as `benchmarks.pytorch_side`; its `main` calls `serve`.
    environment: variables besides the parent's own.
  """

  def __init__(self, module: str, environment: Mapping[str, str] | None = None):
    self._module = module
    self._process = subprocess.Popen(
      [sys.executable, "-m", module],
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env={**os.environ, **(environment or {})},
      text=True,
    )

  def __enter__(self) -> "Worker":
    return self

  def __exit__(self, *_: object) -> None:
    self._process.stdin.close()
    self._process.kill()
    self._process.wait()
    self._process.stdout.close()

  def ask(self, do: str, **arguments: object) -> dict:
    """What the worker's function `do` returns.

    Raises:
      WorkerLost: it raised.
    """
    try:
      self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      line = ""
    else:
      line = self._process.stdout.readline()
    if not line:
      raise WorkerLost(f"{self._module} ended with status {self._process.wait()} at {do} {arguments}")
    return json.loads(line)


def serve(functions: Mapping[str, Callable[..., dict]]) -> None:
  """Does what the parent asks until it closes the pipe. What is printed meanwhile goes to stderr."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  for line in sys.stdin:
    asked = json.loads(line)
    answer = functions[asked.pop("do")](**asked)
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def peak_memory() -> int | None:
  """Bytes that this process has had at most, resident; None where the system does not say."""
  if resource is None:
    return None
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024
