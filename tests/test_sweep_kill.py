"""A short form of kill_a_sweep.py."""

import kill_a_sweep
import pytest


@pytest.mark.slow
def test_a_sweep_that_is_killed_ends_as_an_undisturbed_one(tmp_path):
  assert {"parent", "worker"} == set(kill_a_sweep.check(kills=5, seed=3, directory=tmp_path))
