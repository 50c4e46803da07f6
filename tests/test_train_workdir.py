"""Which configs may go on in a directory, and what is said of the others."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from nin_jax import models
from nin_jax.config import default
from nin_jax.errors import ConfigError
from nin_jax.train import workdir


def config_of(name="nin", **changes):
  config = default()
  config.model = models.defaults(name)
  config.lock()
  config.update_from_flattened_dict(changes)
  return config


def claim(directory, config):
  """Claims and lets go again."""
  with workdir.claim(directory, config):
    pass


def test_a_sweeps_directory_is_no_runs(tmp_path):
  (tmp_path / "sweep.json").write_text("{}")
  with pytest.raises(ConfigError, match="this one holds a sweep"), workdir.claim(tmp_path, config_of()):
    pass
  assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_claimed_directory_holds_the_config(tmp_path):
  config = config_of(**{"seed": 5, "optimizer.learning_rate_factors": (("block3/.*", 0.1),)})
  claim(tmp_path / "a" / "b", config)
  assert json.loads((tmp_path / "a" / "b" / "config.json").read_text())["seed"] == 5
  read = workdir.read_config(tmp_path / "a" / "b")
  assert read.to_dict() == config.to_dict()  # tuples too
  assert [path.name for path in (tmp_path / "a" / "b").glob("[!.]*")] == ["config.json"]


def test_the_same_config_may_go_on(tmp_path):
  config = config_of(**{"optimizer.boundaries": (1.0, 2.0), "optimizer.learning_rate_factors": (("a", 0.1),)})
  claim(tmp_path, config)
  claim(tmp_path, config)
  claim(tmp_path, workdir.read_config(tmp_path))


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("log.every_steps", 7),
    ("log.tensorboard", False),
    ("checkpoint.every_steps", 7),
    ("checkpoint.keep", 1),
    ("eval.batch_size", 7),
    ("eval.every_epochs", 3.0),
    ("data.dir", "elsewhere"),
    ("data.cache_dir", "elsewhere"),
    ("data.workers", 3),
    ("lowering", "xla"),
    ("data.broken_images", "skip"),
  ],
)
def test_what_decides_no_parameter_may_change(tmp_path, field, value):
  claim(tmp_path, config_of())
  changed = config_of(**{field: value})
  claim(tmp_path, changed)
  assert workdir.read_config(tmp_path).to_dict() == changed.to_dict()


@pytest.mark.parametrize(
  ("field", "value", "shown"),
  [
    ("seed", 1, "seed 0 → 1"),
    ("precision", "bfloat16", "precision 'float32' → 'bfloat16'"),
    ("data.batch_size", 64, "data.batch_size 128 → 64"),
    ("data.flip", True, "data.flip False → True"),
    ("train.steps", 9, "train.steps 0 → 9"),
    ("optimizer.learning_rate", 0.2, "optimizer.learning_rate 0.1 → 0.2"),
    ("optimizer.boundaries", (1.0,), r"optimizer.boundaries \[\] → \[1.0\]"),
    ("model.block1.dropout", 0.1, "model.block1.dropout 0.5 → 0.1"),
  ],
)
def test_what_decides_a_parameter_may_not(tmp_path, field, value, shown):
  claim(tmp_path, config_of())
  before = (tmp_path / "config.json").read_bytes()
  with pytest.raises(ConfigError, match=rf"--workdir=.*{tmp_path.name}.*\({shown}\)"):
    claim(tmp_path, config_of(**{field: value}))
  assert (tmp_path / "config.json").read_bytes() == before


def test_another_network_s_fields_are_counted(tmp_path):
  claim(tmp_path, config_of("nin"))
  with pytest.raises(ConfigError, match=r"model\.block1\.dropout 0\.5 → None, .* and \d+ more"):
    claim(tmp_path, config_of("inception"))


def test_a_file_in_place_of_the_directory(tmp_path):
  (tmp_path / "file").write_text("")
  for path in (tmp_path / "file", tmp_path / "file" / "below"):
    with pytest.raises(ConfigError, match=r"--workdir=.*a directory that can be made and written to"):
      claim(path, config_of())


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_config_that_is_none(tmp_path, text):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ConfigError, match=r"--workdir=.*config\.json"):
    claim(tmp_path, config_of())
  with pytest.raises(ConfigError, match=r"--workdir=.*config\.json"):
    workdir.read_config(tmp_path)


def test_no_run_at_all(tmp_path):
  with pytest.raises(ConfigError, match=r"--workdir=.*nowhere.*config\.json"):
    workdir.read_config(tmp_path / "nowhere")
  with pytest.raises(ConfigError, match=r"--workdir=.*config\.json"):
    workdir.compare(tmp_path, config_of())


def test_the_result_of_a_run_that_has_ended(tmp_path):
  assert workdir.result(tmp_path, config_of()) is None
  claim(tmp_path, config_of())
  result = {
    "steps": 3,
    "test_accuracy": 0.5,
    "train_accuracy": 1,
    "params": 2,
    "macs": 4,
    "devices": 1,
    "device": "cpu",
  }
  (tmp_path / "result.json").write_text(json.dumps(result))
  assert workdir.result(tmp_path, config_of()) == result
  with pytest.raises(ConfigError, match=r"--workdir=.*seed 0 → 1"):
    workdir.result(tmp_path, config_of(seed=1))


def test_a_bucket_is_no_directory_and_home_is_expanded(monkeypatch, tmp_path):
  with pytest.raises(ConfigError, match="--workdir='gs://bucket/run'"):
    workdir.locate("gs://bucket/run")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert workdir.locate("~/run") == tmp_path / "run"


def test_a_result_cut_short_is_named(tmp_path):
  claim(tmp_path, config_of())
  (tmp_path / "result.json").write_text('{"steps": ')
  with pytest.raises(ConfigError, match=r"result\.json is whole"):
    workdir.result(tmp_path, config_of())


def test_a_second_writer_is_refused_and_told_of_the_first(tmp_path):
  with workdir.claim(tmp_path, config_of()):
    with pytest.raises(ConfigError, match=rf"--workdir=.*no other run.*process {os.getpid()} on "):
      claim(tmp_path, config_of())
    with pytest.raises(ConfigError, match="seed 0 → 1"):  # the other mistake first: waiting would not mend it
      claim(tmp_path, config_of(seed=1))
  claim(tmp_path, config_of())


def test_a_writer_that_was_killed_leaves_no_lock(tmp_path):
  script = f"""
import fcntl, os, signal
lock = open({str(tmp_path / ".lock")!r}, "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGKILL)
"""
  assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
  claim(tmp_path, config_of())


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
  def no_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", no_locks)
  claim(tmp_path, config_of())
  assert "No locks available" in caplog.text


def test_a_writer_that_is_about_to_end_is_waited_for(tmp_path):
  with contextlib.ExitStack() as first:
    first.enter_context(workdir.claim(tmp_path, config_of()))
    with pytest.raises(workdir.InUse), workdir.claim(tmp_path, config_of(), wait_seconds=0.5):
      pass
    threading.Timer(0.5, first.pop_all().close).start()
    with workdir.claim(tmp_path, config_of(), wait_seconds=60):
      pass
