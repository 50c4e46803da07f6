"""A short form of campaign.py; its short form of sweeps is test_sweep_kill.py."""

import os
import subprocess
import sys

import command_cases
import pytest
from conftest import ROOT
from test_commands import environment


@pytest.mark.slow
@pytest.mark.parametrize(("part", "first", "count"), [("runs", 27, 1), ("commands", 0, 8)])
def test_a_few_cases_end_as_they_should(part, first, count, tmp_path):
  flags = [f"--first={first}", f"--count={count}", f"--keep={tmp_path / 'kept'}"]
  done = subprocess.run(
    [sys.executable, ROOT / "tests" / "campaign.py", part, *flags],
    env=environment(PYTHONPATH=str(ROOT), TMPDIR=str(tmp_path)),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert f"{part} {first + count - 1}: " in done.stdout
  assert os.listdir(tmp_path) == []


TRACEBACK = 'Traceback (most recent call last):\n  File "/x/nin_jax/a.py", line 3, in f\nValueError: no\n'


@pytest.mark.parametrize(
  ("status", "asked", "stdout", "stderr", "fault"),
  [
    (0, False, "a table\n", "step 1\n", ""),
    (0, False, "", "", "printed nothing"),
    (0, False, "a table\n", TRACEBACK, "traceback at nin_jax/a.py:3: ValueError: no"),
    (2, False, "", "error: a=1: accepted is 2\nerror: b=1: accepted is 2\n", ""),
    (2, False, "", "W1127 10:00:00 cache.py:9] full\nerror: a=1: accepted is 2\n", ""),
    (2, False, "", "WARNING:root:full\n", "no line"),
    (2, False, "", "", "no line"),
    (2, False, "", "error: a=1: accepted is 2\nand more\n", "and more"),
    (1, False, "", "training stopped: the loss is nan\n", ""),
    (1, False, "", "", "without a line"),
    (143, True, "", "step 1\nstopped\n", ""),
    (143, False, "", "stopped\n", "status 143"),
    (None, False, "", "", "waits in silence"),
    (None, True, "", "step 1\n", "does not stop"),
    (-11, False, "", "Fatal Python error\n", "died"),
  ],
)
def test_what_of_a_command_is_a_fault(status, asked, stdout, stderr, fault):
  found = command_cases.find_fault(command_cases.End(status, asked, stdout, stderr, []))
  assert fault in found
  assert bool(fault) == bool(found)


def test_a_file_of_an_earlier_run_that_a_refused_command_changes_is_a_fault():
  ended = command_cases.End(2, False, "", "error: a=1: accepted is 2\n", ["run/metrics.jsonl"])
  assert "run/metrics.jsonl" in command_cases.find_fault(ended)
