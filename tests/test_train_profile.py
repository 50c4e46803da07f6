"""A trace of the steps that were asked for, and of no others."""

import jax
import jax.numpy as jnp

from nin_jax.train import profile
from nin_jax.train.profile import Profile


def traced(monkeypatch, directory, start, end, steps, together=1):
  """The first steps of the calls that began while a trace was being taken."""
  tracing, inside = [], []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda path: tracing.append(path))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: tracing.pop())
  with Profile(directory, start, steps) as profiled:
    for step in range(start + 1, end + 1, together):
      profiled.step(step)
      inside += [step] * len(tracing)
  assert tracing == []
  return inside


def test_the_steps_after_the_warm_up(monkeypatch, tmp_path):
  assert traced(monkeypatch, tmp_path, 0, 20, 3) == [4, 5, 6]
  assert traced(monkeypatch, tmp_path, 100, 120, 1) == [104]
  assert traced(monkeypatch, tmp_path, 0, 5, 10) == [4, 5]  # the run ends first
  assert traced(monkeypatch, tmp_path, 0, 20, 0) == []
  assert profile.WARM_UP == 3


def test_several_steps_in_a_call_are_traced_whole(monkeypatch, tmp_path, capsys):
  assert traced(monkeypatch, tmp_path, 0, 40, 2, together=8) == [9]
  assert traced(monkeypatch, tmp_path, 0, 40, 10, together=8) == [9, 17]
  assert capsys.readouterr().err == ""
  assert traced(monkeypatch, tmp_path, 0, 8, 2, together=8) == []
  assert "the run ended before step 4" in capsys.readouterr().err


def test_a_trace_lies_in_the_directory(tmp_path):
  step = jax.jit(lambda x: x @ x)
  with Profile(tmp_path / "profile", 0, 2) as profiled:
    for number in range(1, 8):
      profiled.step(number)
      step(jnp.ones((8, 8))).block_until_ready()
  assert [path for path in (tmp_path / "profile").rglob("*.xplane.pb") if path.stat().st_size]
