"""Nothing that is read from a workdir or a data set is unpickled or executed."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from test_commands import TINY, environment, run

# Python tells of each class that unpickling looks up; cloudpickle between Grain's own processes is not used here.
WATCHED = """
import runpy, sys

def hook(event, arguments):
  if event == "pickle.find_class":
    sys.stderr.write(f"UNPICKLED {arguments}\\n")

sys.addaudithook(hook)
name, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  directory = tmp_path_factory.mktemp("trained")
  (directory / "tiny.py").write_text(TINY)
  flags = [f"--config={directory / 'tiny.py'}", "--config.train.steps=4", "--config.checkpoint.every_steps=2"]
  done = run("train", *flags, f"--workdir={directory / 'run'}")
  assert done.returncode == 0, done.stderr
  return flags, directory / "run"


def watched(name, *flags):
  command = [sys.executable, "-c", WATCHED, f"experiments.{name}", *flags]
  return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False)


def test_the_watch_sees_unpickling(tmp_path):
  (tmp_path / "unpickles.py").write_text(
    "import datetime, pickle\npickle.loads(pickle.dumps(datetime.date(2000, 1, 1)))\n"
  )
  command = [sys.executable, "-c", WATCHED, "unpickles"]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
  assert "UNPICKLED ('datetime', 'date')" in done.stderr


def test_a_run_is_evaluated_resumed_and_started_from_without_unpickling(trained, tmp_path):
  flags, before = trained
  workdir = shutil.copytree(before, tmp_path / "run")
  evaluated = watched("evaluate", f"--workdir={workdir}")
  shutil.rmtree(workdir / "checkpoints" / "4")
  (workdir / "result.json").unlink()
  resumed = watched("train", *flags, f"--workdir={workdir}")
  started = watched("train", *flags, f"--workdir={tmp_path / 'tuned'}", f"--config.train.init_from={workdir}")
  for done in (evaluated, resumed, started):
    assert done.returncode == 0, done.stderr
    assert "UNPICKLED" not in done.stderr


class Malicious:
  """Unpickled, it writes a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, "w")


def test_a_pickle_in_place_of_any_file_is_not_executed(trained, tmp_path):
  _, before = trained
  proof = tmp_path / "executed"
  payload = pickle.dumps(Malicious(proof))
  workdir = shutil.copytree(before, tmp_path / "run")
  for path in (workdir / "checkpoints").rglob("*"):
    if path.is_file():
      path.write_bytes(payload)
  done = run("evaluate", f"--workdir={workdir}")
  assert done.returncode == 2
  assert "Traceback" not in done.stderr
  (workdir / "config.json").write_bytes(payload)
  (workdir / "result.json").write_bytes(payload)
  assert run("evaluate", f"--workdir={workdir}").returncode == 2
  assert not proof.exists()
  pickle.loads(payload).close()
  assert proof.exists()  # it would have been


def test_a_config_in_a_workdir_is_data(trained, tmp_path):
  _, before = trained
  workdir = shutil.copytree(before, tmp_path / "run")
  values = json.loads((workdir / "config.json").read_text())
  proof = tmp_path / "executed"
  values["data"]["name"] = f"__import__('pathlib').Path({str(proof)!r}).touch()"
  (workdir / "config.json").write_text(json.dumps(values))
  assert run("evaluate", f"--workdir={workdir}").returncode == 2
  assert not proof.exists()


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", ".lock"])
def test_a_pipe_in_a_workdir_is_not_waited_for(trained, tmp_path, name):
  flags, before = trained
  workdir = shutil.copytree(before, tmp_path / "run")
  for path in (workdir / "result.json", workdir / name):
    path.unlink(missing_ok=True)
  os.mkfifo(workdir / name)
  done = run("train", *flags, f"--workdir={workdir}")
  assert done.returncode == (1 if name == "metrics.jsonl" else 2)  # which is found when it is to be written to
  assert "Traceback" not in done.stderr
  assert str(workdir) in done.stderr
  assert ("not a regular file" if name == "metrics.jsonl" else "--workdir=") in done.stderr


def test_a_result_whose_loss_was_not_finite_is_printed_again(trained, tmp_path):
  flags, before = trained
  workdir = shutil.copytree(before, tmp_path / "run")
  result = json.loads((workdir / "result.json").read_text())
  (workdir / "result.json").write_text(json.dumps(result | {"test_loss": None, "images_per_second": None}))
  done = run("train", *flags, f"--workdir={workdir}")
  assert done.returncode == 0, done.stderr
  assert "(loss nan)" in done.stdout
