"""A short form of campaign.py; its short form of sweeps is test_sweep_kill.py."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from test_commands import environment


@pytest.mark.slow
@pytest.mark.parametrize(("part", "first", "count"), [("runs", 1, 1), ("commands", 0, 25)])
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
