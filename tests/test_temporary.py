"""Nothing is left in the temporary directory, however a command ends."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from test_commands import TINY, command, environment

from nin_jax import temporary

SWEEP = """

def sweep_two():
  return {"seed": range(2)}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """Programs that several of these commands compile."""
  return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path, cache):
  """A directory with a config file, and an empty one for what is temporary."""
  (tmp_path / "tiny.py").write_text(TINY + SWEEP)
  (tmp_path / "temporary").mkdir()
  (tmp_path / "cache").symlink_to(cache)
  return tmp_path


def start(place, name, *flags, **more):
  flags = [flag.replace("PLACE", str(place)) for flag in flags]
  env = environment(TMPDIR=str(place / "temporary"), XDG_CACHE_HOME=str(place / "cache"), HOME=str(place), **more)
  return subprocess.Popen(
    command(name, *flags), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def left(place):
  return sorted(path.name for path in (place / "temporary").rglob("*"))


SHORT = ["--config=PLACE/tiny.py", "--config.train.steps=4", "--config.eval.every_steps=2"]
STREAM = ["--config.data.pipeline=stream", "--config.data.workers=2"]
COMMANDS = {
  "train, workers": (["train", *SHORT, *STREAM, "--workdir=PLACE/run"], 0),
  "train, no cache": (["train", *SHORT, "--config.data.cache_dir=/dev/null/x", "--workdir=PLACE/run"], 0),
  "train, a set that isn't there": (["train", "--config=configs/nin_cifar10.py", "--workdir=PLACE/run"], 2),
  "cost": (["cost", "--config=configs/nin_cifar10.py"], 0),
  "prepare": (["prepare_data", "--name=mnist", "--data_dir=PLACE/sets"], 2),
  "sweep, no cache": (
    ["sweep", *SHORT, "--sweep=two", "--workdir=PLACE/sweep", "--workers=1", "--config.data.cache_dir=/dev/null/x"],
    0,
  ),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands_leave_nothing(case, place):
  arguments, status = COMMANDS[case]
  process = start(place, *arguments)
  _, stderr = process.communicate(timeout=300)
  assert process.returncode == status, stderr
  assert left(place) == []


@pytest.mark.parametrize("when", ["starting", "training"])
def test_a_signal_leaves_nothing(when, place):
  flags = ["--config=PLACE/tiny.py", "--config.data.cache_dir=/dev/null/x", "--workdir=PLACE/run"]
  process = start(place, "train", *flags)
  deadline = time.monotonic() + 120
  while not any(name.startswith("nin_jax-") for name in left(place)):  # the digits, as the cache can't be written
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.005)
  if when == "training":
    assert any(line.startswith("step 10/") for line in process.stderr)
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=120)
  assert process.returncode == 128 + signal.SIGTERM
  assert left(place) == []


def test_a_forked_process_leaves_its_parents_directories_alone():
  code = (
    "import os, sys\n"
    "from nin_jax import temporary\n"
    "path = temporary.directory()\n"
    "if os.fork() == 0:\n  sys.exit()\n"
    "os.wait()\n"
    "print(path.is_dir(), path)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
  there, path = done.stdout.split()
  assert there == "True"
  assert not os.path.exists(path)


def test_builders_of_sets_that_are_not_there_make_no_directory(tmp_path, monkeypatch):
  from nin_jax.data.tfds import tfds

  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  tfds.builder("mnist", data_dir=tmp_path / "sets")
  assert list(tmp_path.iterdir()) == []
  assert temporary.directory().parent == tmp_path
  temporary.remove_all()
  assert list(tmp_path.iterdir()) == []
