import subprocess
import sys

import pytest

from nin_jax import config, data
from nin_jax.errors import ConfigError


def command(*arguments):
  program = [sys.executable, "-m", "experiments.prepare_data", *arguments]
  return subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)


def test_digits_are_prepared_where_told(tmp_path):
  done = command("--name=digits", f"--data_dir={tmp_path / 'sets'}")
  assert done.returncode == 0, done.stderr
  assert f"--config.data.name=digits --config.data.dir={tmp_path / 'sets'}" in done.stdout
  section = config.default().data
  section.update({"dir": str(tmp_path / "sets"), "cache_dir": str(tmp_path / "cache")})
  assert data.open(section, seed=0).num_train == 1437
  assert not (tmp_path / "cache" / "tfds").exists()


def test_a_mistake_is_one_line_and_status_2(tmp_path):
  done = command("--name=cifr10", f"--data_dir={tmp_path}")
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert "--name='cifr10'" in done.stderr
  assert "cifar10" in done.stderr


def test_without_tensorflow_it_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r"--name='mnist'.*pip install -r requirements-tfds.txt"):
    data.prepare("mnist", str(tmp_path))


def test_a_directory_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match=r"--data_dir=.*Not a directory"):
    data.prepare("digits", str(tmp_path / "file" / "sets"))


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
  from nin_jax.data.tfds import tfds

  def fail(*args, **kwargs):
    raise OSError("Name or service\nnot known")

  monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
  with pytest.raises(ConfigError, match=r"--name='mnist'.*OSError: Name or service not known"):
    data.prepare("mnist", str(tmp_path))


def test_digits_that_cannot_be_written_are_one_line(tmp_path, monkeypatch):
  from nin_jax.data import cache

  def full(path):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(cache, "sync", full)
  with pytest.raises(ConfigError, match=r"--data_dir=.*No space left"):
    data.prepare("digits", str(tmp_path))
  assert list(tmp_path.rglob("dataset_info.json")) == []


def test_what_lies_in_the_way_of_digits_is_the_users(tmp_path):
  own = tmp_path / "digits" / "1.0.0" / "own.txt"
  own.parent.mkdir(parents=True)
  own.write_text("mine")
  with pytest.raises(ConfigError, match=r"--data_dir=.*move .*digits/1.0.0 away"):
    data.prepare("digits", str(tmp_path))
  assert own.read_text() == "mine"


def test_a_file_by_the_name_of_the_digits_is_the_users(tmp_path):
  own = tmp_path / "digits"
  own.write_text("mine")
  with pytest.raises(ConfigError, match=r"--data_dir=.*move .*/digits away"):
    data.prepare("digits", str(tmp_path))
  assert own.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[" * 100_000])
def test_a_damaged_description_in_a_directory_of_the_users_is_one_line(text, tmp_path):
  description = tmp_path / "digits" / "1.0.0" / "dataset_info.json"
  description.parent.mkdir(parents=True)
  description.write_text(text)
  section = config.default().data
  section.update({"dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")})
  with pytest.raises(ConfigError, match=r"data\.(dir|name)="):
    data.open(section, seed=0)
  assert description.read_text() == text
