"""Disks that are full or read-only, a second writer, signals at bad moments: what is said, and that nothing is lost."""

import contextlib
import json
import shutil
import signal
import subprocess
import time

import pytest
from conftest import ROOT
from test_commands import TINY, command, environment, run

STEPS = 40


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
  """Of a run with a checkpoint at every step."""
  path = tmp_path_factory.mktemp("config") / "tiny.py"
  path.write_text(TINY)
  changed = {"train.steps": STEPS, "checkpoint.every_steps": 1, "checkpoint.keep": 50, "log.tensorboard": True}
  return [f"--config={path}", *(f"--config.{name}={value}" for name, value in changed.items())]


def start(*flags):
  env = environment()
  return subprocess.Popen(
    command("train", *flags), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def train(*flags, **more):
  process = subprocess.run(
    command("train", *flags),
    cwd=ROOT,
    env=environment(**more),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert "Traceback" not in process.stderr, process.stderr
  return process


def contents(workdir):
  """What is a function of the config alone: lines, and the bytes of the last checkpoint's arrays by their checksums."""
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  measured = {"images_per_second", "step_seconds", "flops_per_second", "mfu", "wall_seconds"}
  last = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
  record = json.loads(json.loads((last / "record" / "metadata").read_text())["contents"])
  return [{key: row[key] for key in row.keys() - measured} for row in rows], record["state"], int(last.name)


@pytest.fixture(scope="module")
def unbroken(flags, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  done = train(*flags, f"--workdir={workdir}")
  assert done.returncode == 0, done.stderr
  return contents(workdir)


@contextlib.contextmanager
def file_system(path, size):
  """A file system in memory, of `size` bytes."""
  path.mkdir()
  mounted = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True, check=False
  )
  if mounted.returncode:
    pytest.skip(f"no file system of one's own can be mounted here: {mounted.stderr.strip()}")
  try:
    yield path
  finally:
    subprocess.run(["umount", "--lazy", path], check=True)


def remount(path, options):
  subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(flags, unbroken, tmp_path):
  if not shutil.which("mount"):
    pytest.skip("there is no mount command")
  with file_system(tmp_path / "disk", "1500k") as disk:
    workdir = disk / "run"
    done = train(*flags, f"--workdir={workdir}")
    assert done.returncode == 1
    *_, said, again = done.stderr.splitlines()
    assert said.startswith("training stopped: ")
    assert "No space left on device" in said
    assert "can't be written" in said
    assert "experiments.train" in again
    assert not (workdir / "result.json").exists()
    kept = [path for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    assert len(kept) > 1

    done = train(*flags, f"--workdir={workdir}")  # nothing has changed: told before anything is computed
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr

    remount(disk, "size=100m")
    done = train(*flags, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    first = int(done.stderr.removeprefix("step ").split("/")[0])
    assert first >= len(kept) - 1  # the last whole checkpoint was gone on from
    assert contents(workdir) == unbroken


def test_a_read_only_workdir_is_refused_and_can_be_evaluated(flags, tmp_path):
  with file_system(tmp_path / "disk", "100m") as disk:
    workdir = disk / "run"
    assert train(*flags, f"--workdir={workdir}", "--config.train.steps=2").returncode == 0
    remount(disk, "ro")
    (tmp_path / "elsewhere").mkdir()
    done = train(*flags, f"--workdir={disk / 'new'}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--workdir=" in done.stderr
    assert "Read-only file system" in done.stderr
    evaluated = run("evaluate", f"--workdir={workdir}")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["step"] == 2


def read_until(process, words):
  """What the process says on stderr up to a line with these words."""
  said = ""
  for line in process.stderr:
    said += line
    if words in line:
      return said
  raise AssertionError(f"it ended without {words!r}: {said}")


def test_a_second_run_in_the_workdir_is_refused_and_the_first_is_none_the_worse(flags, unbroken, tmp_path):
  flags = [*flags, f"--workdir={tmp_path}"]
  first = start(*flags)
  read_until(first, "step 10/")
  first.send_signal(signal.SIGSTOP)
  second = train(*flags)
  first.send_signal(signal.SIGCONT)
  assert (second.returncode, second.stderr.count("\n")) == (2, 1), second.stderr
  assert f"process {first.pid} on " in second.stderr
  _, stderr = first.communicate(timeout=300)
  assert first.returncode == 0, stderr
  assert contents(tmp_path) == unbroken


SLOW_EVALUATION = """
import time
from nin_jax.train import evaluation, steps

shard = steps.shard


def slow(batch, devices):
  if len(batch) == 24:  # an evaluation's
    time.sleep(0.15)
  return shard(batch, devices)


evaluation.steps.shard = slow
"""


def test_a_signal_that_comes_twice_is_one(flags, unbroken, tmp_path):
  """`timeout` and `srun` send it to the process and to its group; a terminal's Ctrl-C reaches wrappers too."""
  flags = [*flags, f"--workdir={tmp_path}"]
  process = start(*flags)
  read_until(process, "step 10/")
  for _ in range(3):
    process.send_signal(signal.SIGTERM)
    time.sleep(0.02)
  _, stderr = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM, stderr
  assert "the state is saved" in stderr
  assert train(*flags).returncode == 0
  assert contents(tmp_path) == unbroken


def test_a_signal_during_evaluation_saves_and_the_evaluation_is_done_on_the_next_start(flags, tmp_path):
  """Evaluations take about 2 s here, which nobody waits for."""
  config = tmp_path / "slow.py"
  config.write_text(TINY + SLOW_EVALUATION)
  changed = ["--config.eval.batch_size=24", "--config.eval.every_steps=20", "--config.checkpoint.every_steps=0"]
  flags = [f"--config={config}", *flags[1:], *changed]
  ends = []
  for workdir in (tmp_path / "stopped", tmp_path / "unbroken"):
    process = start(*flags, f"--workdir={workdir}")
    if workdir.name == "stopped":
      read_until(process, "step 20/")  # the log line of the step that is evaluated next
      process.send_signal(signal.SIGINT)
      _, stderr = process.communicate(timeout=60)
      assert process.returncode == 128 + signal.SIGINT, stderr
      assert "Traceback" not in stderr
      assert "stopped by SIGINT after step 20; the state is saved. Go on with:" in stderr
      rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
      assert [row["step"] for row in rows] == [10, 20]
      assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["20"]
      process = start(*flags, f"--workdir={workdir}")
      read_until(process, "step 20  test:")  # it is done, and then lost again
      process.kill()
      process.communicate()
      process = start(*flags, f"--workdir={workdir}")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    result = json.loads((workdir / "result.json").read_text())
    ends.append((contents(workdir), result["best_step"], result["best_test_accuracy"], result["test_loss"]))
  assert ends[0] == ends[1]
  assert [row["step"] for row in ends[0][0][0] if row["split"] == "test"] == [20, 40]


def test_sigterm_while_the_training_images_are_evaluated(flags, unbroken, tmp_path):
  """After the last step there is nothing to lose: the next start evaluates and writes the result."""
  flags = [*flags, f"--workdir={tmp_path}", "--config.eval.batch_size=1", "--config.eval.train_images=0"]
  process = start(*flags)
  read_until(process, f"step {STEPS}  test:")
  process.send_signal(signal.SIGTERM)
  _, stderr = process.communicate(timeout=120)
  assert process.returncode == 128 + signal.SIGTERM, stderr
  assert f"after step {STEPS}" in stderr
  assert not (tmp_path / "result.json").exists()
  done = train(*flags)
  assert done.returncode == 0
  assert json.loads((tmp_path / "result.json").read_text())["steps"] == STEPS
  assert contents(tmp_path)[1:] == unbroken[1:]
