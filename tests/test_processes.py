"""Several processes are one run: the numbers of one process, one writer, and no hang when one of them dies."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time

import jax
import numpy as np
import pytest
from conftest import ROOT
from test_commands import TINY, command, environment

from nin_jax.errors import ConfigError
from nin_jax.train import processes
from nin_jax.train.checkpoint import Checkpoints

STEPS = 20
CONFIG = (
  TINY.replace("return config\n", "")
  + f"""
  config.model.dropout = 0.3
  config.data.translate = 1
  config.train.steps = {STEPS}
  config.train.averaging = "ema"
  config.eval.every_steps = 10
  config.log.every_steps = 1
  return config
"""
)
IMPATIENT = """
from nin_jax.train import processes

processes.HEARTBEAT_SECONDS = 10
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  path = tmp_path_factory.mktemp("config") / "several.py"
  path.write_text(CONFIG)
  return f"--config={path}"


def devices(count):
  return f"--xla_force_host_platform_device_count={count}"


class Started:
  """A training whose output goes to files: gloo is talkative, and a pipe that nobody reads would stop it."""

  def __init__(self, *flags, **more):
    self._files = [tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")]  # noqa: SIM115
    self.process = subprocess.Popen(
      command("train", *flags), cwd=ROOT, env=environment(**more), stdout=self._files[0], stderr=self._files[1]
    )

  def said(self):
    """Its stdout and stderr so far."""
    return [os.pread(file.fileno(), 2**20, 0).decode() for file in self._files]

  def wait_for(self, words):
    """Returns when these words stand on stderr."""
    until = time.monotonic() + 120
    while words not in self.said()[1]:
      assert self.process.poll() is None, self.said()
      assert time.monotonic() < until, self.said()
      time.sleep(0.01)


def free_port():
  with contextlib.closing(socket.socket()) as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def is_free(port):
  with contextlib.closing(socket.socket()) as tried:
    return tried.connect_ex(("localhost", port)) != 0


def pair(*flags, own=((), ()), count=4):
  """Two processes of one run."""
  address = f"--coordinator_address=localhost:{free_port()}"
  several = [[address, "--num_processes=2", f"--process_id={index}", *own[index]] for index in (0, 1)]
  return [Started(*flags, *more, XLA_FLAGS=devices(count)) for more in several]


def ends(started, timeout=240):
  """(status, stdout, stderr) of each; none is left behind."""
  try:
    until = time.monotonic() + timeout
    for one in started:
      one.process.wait(max(0, until - time.monotonic()))
  except subprocess.TimeoutExpired:
    pytest.fail(f"it hangs: {[one.said() for one in started]}")
  finally:
    for one in started:
      one.process.kill()
  return [(one.process.returncode, *one.said()) for one in started]


def rows(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def arrays(workdir, step):
  with Checkpoints(workdir, 1, read_only=True) as checkpoints:
    there = checkpoints.variables()
  assert (workdir / "checkpoints" / str(step)).is_dir()
  return there


@pytest.fixture(scope="module")
def one_by_eight(config, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("one")
  ((status, _, stderr),) = ends([Started(config, f"--workdir={workdir}", XLA_FLAGS=devices(8))])
  assert status == 0, stderr
  return workdir


@pytest.fixture(scope="module")
def two_by_four(config, tmp_path_factory):
  """The second process has a workdir of its own: only the first one's is written to."""
  parent = tmp_path_factory.mktemp("two")
  started = pair(config, own=[[f"--workdir={parent / str(index)}"] for index in (0, 1)])
  return parent, ends(started)


@pytest.mark.slow
def test_the_numbers_are_those_of_one_process(one_by_eight, two_by_four):
  parent, done = two_by_four
  assert [status for status, _, _ in done] == [0, 0], done
  for one, two in zip(rows(one_by_eight), rows(parent / "0"), strict=True):
    for name in ("step", "epoch", "split", "learning_rate", "train_flops"):
      assert one[name] == two[name]
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
    if one["split"] == "test":
      assert two["accuracy"] == one["accuracy"]  # of 360 images: equal counts
  one, two = arrays(one_by_eight, STEPS), arrays(parent / "0", STEPS)
  assert {"params", "batch_stats", "average"} <= set(one)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), one, two)
  results = [json.loads((workdir / "result.json").read_text()) for workdir in (one_by_eight, parent / "0")]
  for name in ("test_accuracy", "test_images", "train_accuracy", "best_step", "devices", "train_flops"):
    assert results[0][name] == results[1][name]
  assert results[0]["devices"] == 8


@pytest.mark.slow
def test_only_the_first_process_writes_and_speaks(two_by_four):
  parent, ((_, first_out, first_err), (_, second_out, second_err)) = two_by_four
  assert (parent / "0" / "result.json").exists()
  assert not (parent / "1").exists()
  assert "test accuracy" in first_out
  assert f"step {STEPS}/{STEPS}" in first_err
  assert "accuracy" not in second_out + second_err


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_at_one_step_and_they_go_on(config, one_by_eight, tmp_path):
  flags = [config, f"--workdir={tmp_path}", "--config.checkpoint.every_steps=5"]
  started = pair(*flags)
  started[0].wait_for("step 3/")
  started[1].process.send_signal(signal.SIGTERM)
  stopped = ends(started)
  assert [status for status, _, _ in stopped] == [128 + signal.SIGTERM] * 2, stopped
  assert "stopped by SIGTERM after step" in stopped[0][2]
  assert "Traceback" not in stopped[0][2] + stopped[1][2]
  resumed = ends(pair(*flags))
  assert [status for status, _, _ in resumed] == [0, 0], resumed
  assert "step 0/" not in resumed[0][2]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
    arrays(one_by_eight, STEPS),
    arrays(tmp_path, STEPS),
  )
  assert [row["step"] for row in rows(tmp_path) if row["split"] == "train"] == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_other_with_a_message(victim, tmp_path):
  (tmp_path / "impatient.py").write_text(CONFIG + IMPATIENT)
  config = f"--config={tmp_path / 'impatient.py'}"
  started = pair(
    config, f"--workdir={tmp_path / 'run'}", "--config.train.steps=100000", "--config.checkpoint.every_steps=2"
  )
  started[0].wait_for("step 5/")
  started[victim].process.kill()
  killed = time.monotonic()
  done = ends(started, timeout=60)
  assert time.monotonic() - killed < 60
  status, _, stderr = done[1 - victim]
  assert status not in (0, 2)
  # JAX's own service ends a process that has lost process 0, which is where it runs.
  assert "another process of this run has ended" in stderr or "another task died" in stderr
  assert "Traceback" not in stderr
  with Checkpoints(tmp_path / "run", 1, read_only=True) as checkpoints:
    assert checkpoints.steps
    checkpoints.variables()


@pytest.mark.slow
def test_processes_that_are_not_of_one_mind_are_told(config, tmp_path):
  """As by a flag that one host was started without; also where the field is none that decides parameters."""
  started = pair(config, f"--workdir={tmp_path / 'run'}", own=[["--config.eval.every_steps=5"], []])
  for status, stdout, stderr in ends(started):
    assert status == 2, stderr
    assert "accuracy" not in stdout
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: eval.every_steps=10: accepted is the same in all processes: it is 5 in process 0"]
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_mistake_that_only_the_first_process_can_see_ends_all(config, one_by_eight):
  started = pair(config, f"--workdir={one_by_eight}", "--config.seed=5")
  for status, _, stderr in ends(started):
    assert status == 2
    assert "--workdir=" in stderr
    assert "seed 0 → 5" in stderr


@pytest.mark.slow
def test_slurm_s_environment_is_enough(config, tmp_path):
  """Two tasks of one srun, as it sets them up: no flags."""
  first_port = 65535 - 2**12 + 1  # JAX listens at the job's number modulo 2^12 above it
  port = next(port for port in range(first_port + os.getpid() % 2**11, 65536) if is_free(port))
  job = {"SLURM_JOB_ID": str(port - first_port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
  started = [
    Started(
      config,
      f"--workdir={tmp_path}",
      "--config.train.steps=2",
      XLA_FLAGS=devices(2),
      **job,
      SLURM_STEP_NUM_TASKS="2",
      SLURM_STEP_NUM_NODES="1",
      SLURM_PROCID=str(index),
      SLURM_LOCALID=str(index),
    )
    for index in (0, 1)
  ]
  done = ends(started)
  assert [status for status, _, _ in done] == [0, 0], done
  assert json.loads((tmp_path / "result.json").read_text())["devices"] == 4


@pytest.mark.parametrize(
  ("given", "field"),
  [
    ({"count": 2}, "--coordinator_address"),
    ({"index": 1}, "--coordinator_address"),
    ({"address": "localhost"}, "--coordinator_address"),
    ({"address": "localhost:port"}, "--coordinator_address"),
    ({"address": "localhost:1", "count": 0, "index": 0}, "--num_processes"),
    ({"address": "localhost:1", "count": 2, "index": 2}, "--process_id"),
    ({"address": "localhost:1", "count": 2, "index": -1}, "--process_id"),
    ({"address": "localhost:1", "count": 2}, "--coordinator_address"),
  ],
)
def test_flags_that_do_not_fit_are_named(given, field):
  with pytest.raises(ConfigError) as mistake:
    processes.join(**given)
  assert mistake.value.field == field


@pytest.mark.parametrize("tasks", [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}])
def test_one_process_is_left_alone(tasks, monkeypatch):
  """Also inside of an allocation of several tasks that no srun has started."""
  for name, value in tasks.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined"))
  processes.join()


def test_alone_what_is_told_is_what_was_said():
  assert processes.first()
  assert processes.on_first(lambda: {"a": 1}) == {"a": 1}
  assert processes.from_all([1]) == [[1]]
  tree = {"a": np.float32(-0.0)}
  assert processes.arrays_of_first(tree, tree) is tree
