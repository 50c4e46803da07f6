"""Killed at random moments, a run ends as if nothing had happened: a short form of `kill_and_resume.py`."""

import kill_and_resume
import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("pipeline", "devices"), [("resident", 4), ("stream", 1)])
def test_a_killed_run_ends_as_an_unbroken_one(pipeline, devices, tmp_path):
  directory = tmp_path / "[k] *?\n'é\\"  # which no part of it may take for a pattern or an escape
  directory.mkdir()
  met = kill_and_resume.check(pipeline, devices, kills=3, seed=1, directory=directory)
  assert len(met) == 3
