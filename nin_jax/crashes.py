"""Crashes in native code, such as a wrong memory access in a library: how they are named, and what is left of them."""

import contextlib
import faulthandler
import signal
from collections.abc import Callable
from typing import TypeVar

# What a process dies of by its own doing; glibc aborts where it finds memory corrupted. SIGKILL comes from others: the
# kernel where memory is short, a cluster that preempts.
SIGNALS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
ADVICE = "--config.lowering=xla may avoid it"

_T = TypeVar("_T")


def crashed(status: int) -> bool:
  """Whether a process that ended with this `returncode` of Python's `subprocess` crashed in native code."""
  return -status in SIGNALS


def describe_exit(status: int, advice: str = "") -> str:
  """How a process ended, by its `returncode`: "status 1", "signal SIGKILL", "signal SIGSEGV, a crash …".

  Args:
    status: see `crashed`.
    advice: added if it crashed.
  """
  if status >= 0:
    return f"status {status}"
  names = {number.value: number.name for number in signal.Signals}  # real-time signals have none
  crash = f", a crash in native code{f' ({advice})' if advice else ''}" if crashed(status) else ""
  return f"signal {names.get(-status, -status)}{crash}"


def with_stacks(main: Callable[[], _T]) -> _T:
  """Calls `main`; where it crashes, the stacks of all Python threads go to standard error."""
  with contextlib.suppress(AttributeError, OSError, ValueError, RuntimeError):  # standard error is no file
    faulthandler.enable()
  return after_a_crash_in_native_code_try_config_lowering_xla(main)


def after_a_crash_in_native_code_try_config_lowering_xla(main: Callable[[], _T]) -> _T:
  """Calls `main`. Its own name stands in these stacks, at the bottom: a process that crashes can say nothing else."""
  return main()
