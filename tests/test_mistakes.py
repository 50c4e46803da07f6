"""Each kind of mistake ends a command with status 2 and a line that names the field; nothing is written."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from test_commands import environment

BASE = """
import math
import numpy as np
from ml_collections import ConfigDict, config_dict
from configs import inception_digits, nin_cifar10, googlenet_imagenet
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config

def get_config():
  config = inception_digits.get_config()
  {}
  return config
"""

# Overrides on the command line → the field that is named.
OVERRIDES = {
  "seed=-1": "seed",
  "seed=4294967296": "seed",
  "seed=half": "--config.seed",
  "sead=1": "--config.sead",
  "precision=float16": "precision",
  "data=digits": "--config.data",
  "data.nam=digits": "--config.data.nam",
  "data.name=no_such_set": "data.name",
  "data.name=mnist/none:1.2.x": "data.name",
  "data.name=": "data.name",
  "data.dir=/no/such/directory": "data.dir",
  "data.train_split=trian": "data.train_split",
  "data.train_split=train[:0%]": "data.train_split",
  "data.test_split=test[": "data.test_split",
  "data.batch_size=0": "data.batch_size",
  "data.batch_size=60": "data.batch_size",
  "data.batch_size=8000000000": "data.batch_size",
  "data.batch_size=2000000000": "data.batch_size",
  "data.batch_size=many": "--config.data.batch_size",
  "data.flip=perhaps": "--config.data.flip",
  "data.normalize=whiten": "data.normalize",
  "data.crop=9": "data.crop",
  "data.translate=8": "data.translate",
  "data.image_size=-8": "data.image_size",
  "data.image_size=2": "data.image_size",
  "data.image_size=1000000": "data.image_size",
  "data.name=folder:/no/such/folder": "data.name",
  "data.pipeline=lazy": "data.pipeline",
  "data.workers=-1": "data.workers",
  "data.workers=1000000000": "data.workers",
  "data.broken_images=ignore": "data.broken_images",
  "data.channels=2": "data.channels",
  "data.resize=stretch": "data.resize",
  "data.random_resized_crop=(0.5,)": "data.random_resized_crop",
  "data.random_resized_crop=(0.9,0.1)": "data.random_resized_crop",
  "data.random_aspect=(0.0,1.0)": "data.random_aspect",
  "data.brightness=1.5": "data.brightness",
  "data.saturation=nan": "data.saturation",
  "optimizer.name=adam": "optimizer.name",
  "optimizer.learning_rate=0": "optimizer.learning_rate",
  "optimizer.learning_rate=nan": "optimizer.learning_rate",
  "optimizer.learning_rate=1e39": "optimizer.learning_rate",
  "optimizer.momentum=1": "optimizer.momentum",
  "optimizer.weight_decay=-1e-4": "optimizer.weight_decay",
  "optimizer.schedule=linear": "optimizer.schedule",
  "optimizer.schedule=staircase": "optimizer.boundaries",
  "optimizer.boundaries=('soon',)": "optimizer.boundaries",
  "optimizer.end_learning_rate=1": "optimizer.end_learning_rate",
  "optimizer.learning_rate_factors=(('nowhere',1.0),)": "optimizer.learning_rate_factors",
  "optimizer.learning_rate_factors=(('(',1.0),)": "optimizer.learning_rate_factors",
  "train.epochs=0": "train.epochs",
  "train.epochs=inf": "train.epochs",
  "train.epochs=1e30": "train.epochs",
  "train.steps=2147483648": "train.steps",
  "train.label_smoothing=1": "train.label_smoothing",
  "train.accumulate_steps=3": "data.batch_size",
  "train.averaging=swa": "train.averaging",
  "train.init_from=/no/such/run": "train.init_from",
  "train.ema_decay=1": "train.ema_decay",
  "eval.batch_size=2000000000": "eval.batch_size",
  "checkpoint.keep=0": "checkpoint.keep",
  "log.every_steps=0": "log.every_steps",
  "model.name=nin": "model.name",
  "model.name=resnet": "model.name",
  "model.num_classes=1000": "model.num_classes",
  "model.norm=lrn": "model.norm",
  "model.reduce_scale=-1": "model.reduce_scale",
  "model.reduce_scale=1e300": "model.reduce_scale",
  "model.reduce_scale=1e6": "model.reduce_scale",  # within its own bounds, but not times a width
  "model.inception_1a.conv3x3=-1": "model.inception_1a.conv3x3",
  "model.inception_9z.conv3x3=1": "--config.model.inception_9z.conv3x3",
  "model.stem_features=()": "model.stem_features",
  "model.stem_features=(1000000000,)": "model.stem_features",
  "model.linear=('conv3x3',)": "model.linear",
}

# Lines of a config file → the field that is named.
LINES = {
  "config = None": "--config",
  "config = {'seed': 1}": "--config",
  "config = nowhere": "--config",
  "config.seed = 'one'": "--config",  # a typed config says so itself
  "config = exit()": "--config",
  "config.optimiser = config.optimizer": "optimiser",
  "del config['train']": "train",
  "del config.data['name']": "data.name",
  "config.train = ConfigDict()": "train.accumulate_steps",
  "config.model = ConfigDict()": "model.name",
  "config.log = ConfigDict({'every_steps': '50', 'tensorboard': True})": "log.every_steps",
  "config.log = ConfigDict({'every_steps': np.int64(5), 'tensorboard': True})": "log.every_steps",
  "config.log = ConfigDict({'every_steps': 5, 'tensorboard': 1})": "log.tensorboard",
  "config.eval.every_epochs = math.nan": "eval.every_epochs",
  "config.checkpoint.keep = None": "checkpoint.keep",
  "config.seed = True": "seed",
  "config.data.name = None": "data.name",
  "config.optimizer.learning_rate = ConfigDict({'value': 0.1})": "--config",
  "config.model.inception_2c = 32": "model.inception_2c",
  "config.model.inception_x = width_config(1, 1, 1, 1, 1, 1)": "model.inception_x",
  "config.model.inception_2c = block_config((8,))": "model.inception_2c.dropout",
  "config.model.block4 = block_config((8,))": "model.block4",
  "config.model = nin_cifar10.get_config().model; del config.model['block2']": "model",
  "config.model = nin_cifar10.get_config().model; config.model.block3.pool = 'mean'": "model.block3.pool",
  "config.model = nin_cifar10.get_config().model; config.model.block1.features = (8, 'x')": "model.block1.features",
  "config.model = nin_cifar10.get_config().model; config.model.block1.kernel = 10**6": "model.block1.kernel",
  "config.model = googlenet_imagenet.get_config().model; config.model.num_classes = 10": "data.image_size",
}

# Other commands and flags → what is named.
FLAGS = {
  ("train", "--config=FILE"): "--workdir",
  ("train", "--workdir=W/run"): "--config",
  ("train", "--config=FILE", "--workdir=W/file"): "--workdir",
  ("train", "--config=FILE", "--workdir=W/file/run"): "--workdir",
  ("train", "--config=FILE", "--workdir=gs://bucket/run"): "--workdir",
  ("train", "--config=FILE", "--workdir=W/run", "--profile=-1"): "--profile",
  ("train", "--config=FILE", "--workdir=W/run", "--profil=1"): "profil",
  ("train", "--config=FILE", "--workdir=W/run", "config.seed=1"): "config.seed=1",
  ("train", "--config=W", "--workdir=W/run"): "--config=W",
  ("train", "--config=W/file", "--workdir=W/run"): "--config=W/file",
  ("train", "--config=W/bytes", "--workdir=W/run"): "--config=W/bytes",
  ("train", "--config=/dev/zero", "--workdir=W/run"): "--config=/dev/zero",
  ("train", "--config=FILE:argument", "--workdir=W/run"): "--config=FILE:argument",
  ("train", "--config.seed=1", "--workdir=W/run"): "--config",
  ("evaluate",): "--workdir",
  ("evaluate", "--workdir=W"): "--workdir",
  ("evaluate", "--workdir=W/file"): "--workdir",
  ("evaluate", "--workdir=W", "--config.seed=1"): "--config",
  ("evaluate", "--workdir=W", "--split=validation"): "--split",
  ("evaluate", "--workdir=W", "--step=last"): "--step",
  ("cost", "--config=FILE", "--format=xml"): "--format",
  ("cost", "--config=FILE", "--device=abacus"): "--device",
  ("cost", "--config=FILE", "--depth=-1"): "--depth",
  ("cost", "--config=FILE", "--depth=1", "--device=h100"): "--depth",
  ("cost", "--config=FILE", "--image_size=4"): "--image_size",
  ("cost", "--config=FILE", "--config.optimizer.name=adam"): "optimizer.name",
  ("prepare_data",): "--name",
  ("prepare_data", "--name=no_such_set"): "--name",
}


@pytest.fixture(scope="module")
def server():
  process = subprocess.Popen(
    [sys.executable, "tests/forks.py"],
    cwd=ROOT,
    env=environment(XLA_FLAGS="--xla_force_host_platform_device_count=8", PYTHONPATH=str(ROOT)),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )

  def run(*words):
    process.stdin.write(json.dumps(words) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())

  yield run
  process.stdin.close()
  process.wait(60)


def assert_mistakes(done, *named):
  """Exit status 2, nothing on stdout, and a short line on stderr for each of the fields named."""
  status, stdout, stderr = done
  lines = stderr.splitlines()
  assert (status, stdout) == (2, ""), stderr
  assert "Traceback" not in stderr
  assert len(lines) == len(named), stderr
  for line, field in zip(lines, named, strict=True):
    assert line.startswith("error: ")
    assert len(line) < 3000
    assert field in line[: len(field) + 40], line


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override(override, server, tmp_path):
  flags = ["--config=configs/inception_digits.py", f"--workdir={tmp_path}/run", f"--config.{override}"]
  field = OVERRIDES[override]
  assert_mistakes(server("train", *flags), f"{field}=")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("lines", LINES)
def test_a_config_file_that_is_wrong(lines, server, tmp_path):
  (tmp_path / "own.py").write_text(BASE.format(lines))
  done = server("train", f"--config={tmp_path}/own.py", f"--workdir={tmp_path}/run")
  status, _, stderr = done
  field = LINES[lines]
  assert status == 2, stderr
  assert_mistakes([status, done[1], stderr.splitlines(keepends=True)[0]], f"error: {field}=")
  assert not (tmp_path / "run").exists()


def test_a_fifo_is_not_waited_for(server, tmp_path):
  config = f"--config={tmp_path}/fifo"
  os.mkfifo(tmp_path / "fifo")
  (tmp_path / "flags").write_text(config)
  for given in (config, f"--flagfile={tmp_path}/flags"):
    assert_mistakes(server("train", given, f"--workdir={tmp_path}/run"), config)
  assert_mistakes(server("train", "--flagfile", f"{tmp_path}/fifo"), f"--flagfile={tmp_path}/fifo")


@pytest.mark.parametrize("words", FLAGS)
def test_a_wrong_flag(words, server, tmp_path):
  (tmp_path / "file").write_text("no config")
  (tmp_path / "bytes").write_bytes(bytes(range(256)))
  place = lambda text: text.replace("FILE", "configs/inception_digits.py").replace("=W", f"={tmp_path}")
  assert_mistakes(server(*map(place, words)), place(FLAGS[words]))
  assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "file"]


def test_several_mistakes_are_told_of_at_once(server, tmp_path):
  train = ["train", "--config=configs/inception_digits.py", f"--workdir={tmp_path}/run"]
  mistaken = ["seed=-1", "model.num_classes=3", "data.batch_size=12", "optimizer.learning_rate=0", "log.every_steps=0"]
  wrong = [f"--config.{override}" for override in mistaken]
  order = ["seed=-1", "optimizer.learning_rate=0.0", "log.every_steps=0", "data.batch_size=12", "model.num_classes=3"]
  assert_mistakes(server(*train, *wrong), *order)
  for override in mistaken:
    mended = [field for field in order if field.split("=")[0] != override.split("=")[0]]
    assert_mistakes(server(*train, *(word for word in wrong if override not in word)), *mended)


def test_several_overrides_that_cannot_be_read_are_told_of_at_once(server, tmp_path):
  train = ["train", "--config=configs/inception_digits.py", f"--workdir={tmp_path}/run"]
  wrong = ["--config.sead=1", "--config.data.batch_size=many", "--config.train.step=1"]
  assert_mistakes(server(*train, "--config.seed=3", *wrong), *wrong)
