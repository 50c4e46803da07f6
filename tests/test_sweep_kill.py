"""A short form of kill_a_sweep.py."""

import kill_a_sweep
import pytest


@pytest.mark.slow
def test_a_sweep_that_is_killed_ends_as_an_undisturbed_one(tmp_path):
  directory = tmp_path / "[k] *?\n'é\\"  # which no part of it may take for a pattern or an escape
  directory.mkdir()
  assert {"parent", "worker"} == set(kill_a_sweep.check(kills=5, seed=3, directory=directory))
