"""Native crashes: what a process that has one leaves on stderr, and how its end is named."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from test_commands import TINY, command, environment

from benchmarks.worker import Worker, WorkerLost
from nin_jax import crashes


@pytest.mark.parametrize(
  ("status", "said", "crashed"),
  [
    (0, "status 0", False),
    (1, "status 1", False),
    (-signal.SIGKILL, "signal SIGKILL", False),
    (-signal.SIGTERM, "signal SIGTERM", False),
    (-signal.SIGSEGV, "signal SIGSEGV, a crash in native code", True),
    (-signal.SIGABRT, "signal SIGABRT, a crash in native code", True),
    (-signal.SIGBUS, "signal SIGBUS, a crash in native code", True),
    (-signal.SIGILL, "signal SIGILL, a crash in native code", True),
    (-signal.SIGFPE, "signal SIGFPE, a crash in native code", True),
    (-41, "signal 41", False),
  ],
)
def test_how_a_process_ended(status, said, crashed):
  assert (crashes.describe_exit(status), crashes.crashed(status)) == (said, crashed)
  assert crashes.describe_exit(status, "run") == said + " (run)" * crashed


def test_a_command_that_crashes_leaves_its_stacks_and_what_to_try(tmp_path):
  config = tmp_path / "tiny.py"
  config.write_text(
    TINY + "\n\nimport os, signal\nfrom nin_jax import models\n"
    "models.build = lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV)\n"
  )
  done = subprocess.run(
    command("cost", f"--config={config}"), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
  )
  assert done.returncode == -signal.SIGSEGV
  assert "Fatal Python error: Segmentation fault" in done.stderr
  assert "after_a_crash_in_native_code_try_config_lowering_xla" in done.stderr
  assert "experiments/cost.py" in done.stderr


def test_without_a_standard_error_a_command_runs_all_the_same(monkeypatch):
  monkeypatch.setattr(sys, "stderr", None)
  assert crashes.with_stacks(lambda: 3) == 3


def test_a_benchmark_s_worker_that_crashes_is_named(tmp_path, monkeypatch):
  (tmp_path / "crashing.py").write_text(
    "import os\nfrom benchmarks import worker\nworker.serve({'abort': lambda: os.abort()})\n"
  )
  monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
  said = r"crashing ended with signal SIGABRT, a crash in native code \(--config.lowering=xla may avoid it\) at abort"
  with Worker("crashing", tuned=False, shares=False) as worker, pytest.raises(WorkerLost, match=said):
    worker.ask("abort")
