"""The commands as a shell sees them: exit status, what stands on stdout and on stderr."""

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

TINY = '''
"""A run of a few seconds."""
from nin_jax import models
from nin_jax.config import default
from nin_jax.models.inception import width_config


def get_config():
  config = default()
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 0, 4, 0, 0, 2)
  config.data.batch_size = 32
  config.train.steps = 1000
  config.eval.every_steps = 500
  config.eval.train_images = 64
  config.log.every_steps = 10
  config.log.tensorboard = False
  return config
'''


def command(name, *flags):
  return [sys.executable, "-m", f"experiments.{name}", *flags]


def environment(**more):
  env = {name: value for name, value in os.environ.items() if name not in ("TFDS_DATA_DIR", "XLA_FLAGS")}
  return env | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **more}  # which compiles sooner


def run(name, *flags, **more):
  return subprocess.run(
    command(name, *flags), cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=300, check=False
  )


def assert_mistake(done, *said):
  """Exit status 2, one line on stderr that has all of `said`, nothing on stdout."""
  assert done.returncode == 2, done.stderr
  assert done.stdout == ""
  assert done.stderr.count("\n") == 1, done.stderr
  assert done.stderr.startswith("error: ")
  for words in said:
    assert words in done.stderr


DIGITS = "--config=configs/inception_digits.py"


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ([DIGITS, "--config.optimizer.learning_rat=1"], ["optimizer.learning_rat=1", "did you mean learning_rate?"]),
    ([DIGITS, "--config.data.batch_size=many"], ["data.batch_size=many", "a whole number"]),
    ([DIGITS, "--config.train.epochs=long"], ["train.epochs=long", "a number"]),
    ([DIGITS, "--config.data.flip=maybe"], ["data.flip=maybe", "true or false"]),
    ([DIGITS, "--config.data=digits"], ["--config.data=digits", "--config.section.field=value"]),
    ([DIGITS, "--config.data.name=cifar11"], ["data.name='cifar11'", "cifar10"]),
    ([DIGITS, "--config.model.name=resnet"], ["model.name='resnet'", "nin, inception, googlenet"]),
    ([DIGITS, "--config.precision=float16"], ["precision='float16'", "float32, bfloat16"]),
    (["--config=configs/nin_imagenet.py", "--config.data.crop=40"], ["data.image_size='40×40'", "larger images"]),
    (["--config=configs/nowhere.py"], ["--config=configs/nowhere.py", "a config file"]),
    (["--config=configs/nowhere.py", "--config.seed=1"], ["--config=configs/nowhere.py", "a config file"]),
    ([], ["--config"]),
    ([DIGITS, "--format=xml"], ["--format=xml", "table|json|csv"]),
    ([DIGITS, "--device=abacus"], ["--device='abacus'", "NVIDIA H100"]),
    ([DIGITS, "--fromat=json"], ["fromat"]),
    ([DIGITS, "config.seed=1"], ["config.seed=1", "--name=value"]),
  ],
)
def test_mistakes_that_the_cost_of_a_network_brings_up(flags, said):
  assert_mistake(run("cost", *flags), *said)


def test_a_config_file_with_a_fault(tmp_path):
  (tmp_path / "broken.py").write_text("def get_config():\n  return nowhere\n")
  assert_mistake(run("cost", f"--config={tmp_path}/broken.py"), "--config", "NameError", "nowhere")


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ([DIGITS], ["--workdir"]),
    ([DIGITS, "--workdir=W", "--config.data.batch_size=12"], ["data.batch_size=12", "a multiple of 8 (8 devices)"]),
    ([DIGITS, "--workdir=W", "--config.model.num_classes=3"], ["model.num_classes=3", "10"]),
    (
      ["--config=configs/nin_cifar10.py", "--workdir=W", "--config.data.dir=W"],
      ["data.name='cifar10'", "python -m experiments.prepare_data --name=cifar10 --data_dir="],
    ),
  ],
)
def test_mistakes_that_training_brings_up(flags, said, tmp_path):
  flags = [flag.replace("=W", f"={tmp_path}") for flag in flags]
  assert_mistake(run("train", *flags, XLA_FLAGS="--xla_force_host_platform_device_count=8"), *said)
  assert list(tmp_path.iterdir()) == []


def test_mistakes_that_evaluation_brings_up(tmp_path):
  assert_mistake(run("evaluate", f"--workdir={tmp_path}"), "--workdir", "config.json")
  assert_mistake(run("evaluate", f"--workdir={tmp_path}", "--step=last"), "--step=last")
  assert_mistake(run("evaluate", f"--workdir={tmp_path}", "--split=validation"), "--split=validation", "test|train")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """A run that SIGTERM ends after its first log line: its directory, config file and process."""
  directory = tmp_path_factory.mktemp("run")
  (directory / "tiny.py").write_text(TINY)
  flags = [f"--config={directory}/tiny.py", f"--workdir={directory}/work dir", "--config.seed=3"]
  process = subprocess.Popen(
    command("train", *flags), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  seen = ""
  for line in process.stderr:
    seen += line
    if line.startswith("step 10/"):
      process.send_signal(signal.SIGTERM)
      break
  stdout, stderr = process.communicate(timeout=120)
  return directory, subprocess.CompletedProcess(flags, process.returncode, stdout, seen + stderr)


@pytest.fixture(scope="module")
def resumed(stopped):
  """The same run, by the command that the stopped one printed."""
  again = shlex.split(stopped[1].stderr.splitlines()[-1])
  return subprocess.run(again, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False)


def test_sigterm_saves_the_state_and_prints_the_command_that_resumes(stopped):
  directory, done = stopped
  assert done.returncode == 128 + signal.SIGTERM
  assert "Traceback" not in done.stderr
  *_, said, again = done.stderr.splitlines()
  step = int(re.fullmatch(r"stopped by SIGTERM after step (\d+); the state is saved\. Go on with:", said)[1])
  assert 10 <= step < 1000
  assert [path.name for path in (directory / "work dir" / "checkpoints").iterdir()] == [str(step)]
  assert shlex.split(again) == command("train", *done.args)


def test_the_command_that_was_printed_resumes(stopped, resumed):
  directory, done = stopped
  assert resumed.returncode == 0, resumed.stderr
  result = json.loads((directory / "work dir" / "result.json").read_text())
  assert (result["steps"], result["seed"], result["overrides"]) == (1000, 3, {"seed": 3})
  assert result["test_accuracy"] > 0.5
  rows = [json.loads(line) for line in (directory / "work dir" / "metrics.jsonl").read_text().splitlines()]
  assert [row["step"] for row in rows if row["split"] == "train"] == list(range(10, 1001, 10))
  assert [row["step"] for row in rows if row["split"] == "test"] == [500, 1000]
  assert f"test accuracy {result['test_accuracy']:.2%}" in resumed.stdout
  assert f"{directory}/work dir/result.json" in resumed.stdout
  step = int(re.search(r"after step (\d+)", done.stderr)[1])
  assert resumed.stderr.startswith(f"step {step}/1,000")


def test_on_a_pipe_there_are_plain_lines(resumed):
  shown = resumed.stdout + resumed.stderr
  assert "\x1b" not in shown
  assert "\r" not in shown
  lines = resumed.stderr.splitlines()
  assert all(re.match(r"step [\d,]+(/1,000)?  ", line) for line in lines), lines[:5]


def test_evaluate_prints_one_json_object(stopped, resumed):
  directory, _ = stopped
  result = json.loads((directory / "work dir" / "result.json").read_text())
  done = run("evaluate", f"--workdir={directory}/work dir", XLA_FLAGS="--xla_force_host_platform_device_count=3")
  assert (done.returncode, done.stderr) == (0, "")
  measured = json.loads(done.stdout)
  assert done.stdout.count("\n") == 1
  assert (measured["step"], measured["split"], measured["count"]) == (1000, "test", 360)
  assert measured["accuracy"] == result["test_accuracy"]
  assert measured["loss"] == pytest.approx(result["test_loss"], rel=1e-5)
  assert_mistake(run("evaluate", f"--workdir={directory}/work dir", "--step=7"), "--step=7", "1000")


def test_the_workdir_of_another_config_is_refused(stopped, resumed):
  _, done = stopped
  flags = [flag for flag in done.args if "seed" not in flag]
  assert_mistake(run("train", *flags, "--config.seed=4"), "--workdir=", "seed 3 → 4")


def test_the_cost_as_json():
  done = run("cost", DIGITS, "--format=json", "--train", "--device=h100")
  assert (done.returncode, done.stderr) == (0, "")
  counted = json.loads(done.stdout)
  assert (counted["model"], counted["input_shape"], counted["unit"]) == ("inception", [1, 8, 8, 1], "MACs")
  keys = {"params", "macs", "flops", "activations", "backward_macs"}
  assert keys <= set(counted["total"])
  for layer in counted["layers"]:
    keys |= {"path", "op", "kernel", "strides", "groups", "output_shape", "bytes", "arithmetic_intensity"}
    assert keys | {"receptive_field", "jump", "bound_seconds"} <= set(layer)
    assert layer["flops"] == 2 * layer["macs"]
  for key in ("params", "macs", "flops", "backward_macs", "bytes", "train_flops"):
    if key in counted["layers"][0]:
      assert counted["total"][key] == sum(layer[key] for layer in counted["layers"])
  assert counted["total"]["train_flops"] == 2 * (counted["total"]["macs"] + counted["total"]["backward_macs"])
  stem = next(layer for layer in counted["layers"] if layer["op"] == "conv")
  assert (stem["kernel"], stem["macs"], stem["params"]) == ([3, 3], 64 * 9 * 32, 9 * 32)


def test_the_cost_as_csv():
  done = run("cost", "--config=configs/nin_mnist.py", "--format=csv")
  assert (done.returncode, done.stderr) == (0, "")
  *layers, total = csv.DictReader(io.StringIO(done.stdout))
  assert total["path"] == "total"
  assert int(total["macs"]) == sum(int(layer["macs"]) for layer in layers) == 50_699_712
  assert [layer["kernel"] for layer in layers if layer["op"] == "conv"] == ["5x5", "5x5", "5x5"]


def test_the_cost_as_a_table():
  done = run("cost", "--config=configs/nin_cifar10.py")
  assert (done.returncode, done.stderr) == (0, "")
  assert "966,986 parameters   222,486,528 MACs" in done.stdout
  assert "block2/conv" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
  ("config", "flags"),
  [
    ("nin_fashion_mnist", ["--config.data.name=cifar10"]),
    ("inception_cifar10", []),
  ],
)
def test_the_loss_falls_on_cifar10(config, flags, tfds_dir, tmp_path):
  done = run(
    "train",
    f"--config=configs/{config}.py",
    f"--workdir={tmp_path}",
    f"--config.data.dir={tfds_dir}",
    "--config.data.train_split=train[:4000]",
    "--config.data.test_split=test[:100]",
    "--config.data.batch_size=32",
    "--config.eval.train_images=32",
    "--config.train.steps=15",
    "--config.log.every_steps=1",
    "--config.optimizer.warmup=0",
    *flags,
  )
  assert done.returncode == 0, done.stderr
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  losses = [row["loss"] for row in rows if row["split"] == "train"]
  assert len(losses) == 15
  assert np.isfinite(losses).all()
  assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_before_training_ends_in_one_line(name, tmp_path):
  """Sent while the flags are read, as an impatient user does; there is nothing to save yet."""
  path = tmp_path / "interrupted.py"
  path.write_text(f"import os, signal\n\ndef get_config():\n  os.kill(os.getpid(), signal.{name})\n")
  done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
  said = f"stopped by {name}; nothing more was saved\n"
  assert (done.returncode, done.stdout, done.stderr) == (128 + signal.Signals[name], "", said)
  assert not (tmp_path / "run").exists()


def test_a_run_is_evaluated_with_overrides_of_its_own_config(stopped, resumed):
  directory, _ = stopped
  workdir = f"--workdir={directory}/work dir"
  done = run("evaluate", workdir, "--config.eval.batch_size=100", "--config.log.every_steps=3")
  assert (done.returncode, done.stderr) == (0, "")
  assert json.loads(done.stdout)["count"] == 360
  assert_mistake(run("evaluate", workdir, "--config.eval.batch_size=-1"), "eval.batch_size=-1")
  assert_mistake(run("evaluate", workdir, "--config.eval.batch=1"), "--config.eval.batch=1", "no field batch")
  assert_mistake(run("evaluate", workdir, "--config.seed=4"), "--workdir=", "seed 3 → 4")


def test_what_a_config_file_prints_is_kept_apart(tmp_path):
  path = tmp_path / "talks.py"
  path.write_text("from configs.inception_digits import get_config\nprint('reading')\n")
  done = run("cost", f"--config={path}", "--format=json")
  assert (done.returncode, done.stderr) == (0, "reading\n")
  assert json.loads(done.stdout)["model"] == "inception"


def test_help_lists_the_flags():
  done = run("evaluate", "--help")
  assert "--split" in done.stdout
  assert (done.returncode, done.stderr) == (0, "")
