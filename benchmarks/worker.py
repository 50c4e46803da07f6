"""Worker processes that measure one side each, while the others are idle.

A process of its own gives each side its own thread pool, its own allocator and its own peak memory. Parent and worker
talk in lines of JSON: {"do": name, …arguments} and, back, what the worker's function of that name returns.
"""

import faulthandler
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from nin_jax import allocator, crashes

_TUNED = "tuned"  # an argument of the worker
ROOT = Path(__file__).parent.parent
# On a GPU the sides take turns on the first one, and share its memory.
_GPU = {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}


class WorkerLost(Exception):
  """A worker has ended where an answer was due; its own words are on stderr."""


class Worker:
  """A worker process, within a `with` block.

  Args:
    module: which is run, as `benchmarks.pytorch_steps`; its `main` calls `serve`.
    tuned: whether with the allocator's settings of our entry points, or in the user's environment as it is.
    shares: whether an accelerator's memory is shared with another worker.
  """

  def __init__(self, module: str, tuned: bool, shares: bool):
    self._module = module
    environment = {}
    if shares:
      environment = {name: value for name, value in _GPU.items() if name not in os.environ}
    self._process = subprocess.Popen(
      [sys.executable, "-m", module, *[_TUNED] * tuned],
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env={**os.environ, **environment},
      text=True,
      encoding="utf-8",
    )

  def __enter__(self) -> "Worker":
    return self

  def __exit__(self, *_: object) -> None:
    self._process.stdin.close()
    self._process.kill()
    self._process.wait()
    self._process.stdout.close()

  @property
  def pid(self) -> int:
    return self._process.pid

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
      ended = crashes.describe_exit(self._process.wait(), crashes.ADVICE)
      raise WorkerLost(f"{self._module} ended with {ended} at {do} {arguments}")
    return json.loads(line)


def serve(functions: Mapping[str, Callable[..., dict]]) -> None:
  """Does what the parent asks until it closes the pipe. What is printed meanwhile goes to stderr."""
  if _TUNED in sys.argv[1:]:
    allocator.set_up()
  faulthandler.enable()
  answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)
  for line in sys.stdin.buffer:
    asked = json.loads(line)
    answer = functions[asked.pop("do")](**asked)
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def peak_memory() -> int:
  """Bytes that this process has had at most, resident."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024
