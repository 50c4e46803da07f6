"""Paths with any characters, and those that this user may not follow: they work, or one line says what is wrong."""

import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ordinary_user import CAN_DROP, IS_ROOT, NAMELESS, ORDINARY
from test_commands import TINY, command, environment
from test_data_source import make_photos
from test_train_checkpoint import assert_same, newest, progress_at, save, state_at

from nin_jax import config, data, paths
from nin_jax.data import cache
from nin_jax.errors import ConfigError
from nin_jax.train import workdir
from nin_jax.train.checkpoint import Checkpoints

# Patterns, escapes, URLs, ends of lines, what shells and TensorStore take for something else, and bytes of Latin-1.
ODD = "[run] *?\n'\"é\\$HOME;&~%41#{,}\x1b[1m: \udcff"
NAMES = ["[run]1", "[[]", "*", "?", "back\\slash", "gs:", "x:y", "new\nline", "é", "\udcff", "%41", "n" * 255, ODD]


def test_the_home_is_expanded_and_nothing_else(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", "/home/me")
  monkeypatch.chdir(tmp_path)
  for typed, meant in {"~/x": "/home/me/x", "./~/x": f"{tmp_path}/~/x", "x/~": "x/~", "[x]*": "[x]*"}.items():
    assert str(paths.directory("--workdir", typed)) == meant
    assert str(paths.directory("--workdir", meant)) == meant


@pytest.mark.parametrize(
  ("typed", "reason"),
  {
    "": "a directory",
    "gs://bucket/x": "this machine's file system",
    "~no_such_user/x": "~no_such_user",
    "n" * 256: "File name too long",
    "n/" * 2000: "File name too long",  # there would be no room for what is in it
    "a\0b": "embedded null",
    "\ud800": "encode",
    "setup/README/x": "Not a directory",
    "setup/README": "Not a directory",
  }.items(),
)
def test_what_is_no_path_is_refused(typed, reason, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "setup").mkdir()
  (tmp_path / "setup" / "README").touch()
  section = config.default()
  section.data.cache_dir = section.data.dir = section.train.init_from = typed
  fields = {"--workdir": lambda: workdir.locate(typed), "--step": lambda: workdir.read_config(typed)}
  if typed:
    if "directory" not in reason:  # there is no writing to it: see test_data_digits.py
      fields["data.cache_dir"] = lambda: cache.directory(typed)
    if "://" not in typed:
      fields["data.dir"] = lambda: data.spec(section.data)
  for use in fields.values():
    with pytest.raises(ConfigError) as caught:
      use()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_home_would_be_needed_for_is_refused(monkeypatch):
  monkeypatch.setattr(pwd, "getpwuid", _no_name)
  for name in ("HOME", "XDG_CACHE_HOME"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(ConfigError, match="no home"):
    paths.directory("--workdir", "~/x")
  with pytest.raises(ConfigError, match="no home"):
    data.prepare("digits")
  assert cache.own() is None
  assert cache.directory("").parent.is_dir()


def _no_name(uid):
  raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_a_cache_whose_owner_has_no_name(monkeypatch, tmp_path):
  section = config.default().data
  section.cache_dir = str(tmp_path)
  data.open(section, seed=0)
  monkeypatch.setattr(pwd, "getpwuid", _no_name)
  assert data.open(section, seed=0).num_train == 1437


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_checkpoints_of_a_directory_of_any_name(name, tmp_path):
  directory = tmp_path / name
  directory.mkdir()
  save(tmp_path, 1)  # what a pattern would match as well, if it went up
  save(directory, 1, 2, 3, 4)
  with Checkpoints(directory, 3) as checkpoints:
    assert checkpoints.steps == [2, 3, 4]
    assert_same(checkpoints.restore(state_at(0))[0], state_at(4))
    checkpoints.forget_after(3)
    checkpoints.save(state_at(5), progress_at(5))
  assert newest(directory, read_only=True) == 5
  assert {path.name for path in tmp_path.iterdir()} == {name, "checkpoints"}
  shutil.move(directory, tmp_path / "moved")
  assert newest(tmp_path / "moved", read_only=True) == 5


def test_a_descriptor_is_closed_again(tmp_path):
  (tmp_path / "[x]").mkdir()
  save(tmp_path / "[x]", 1)
  before = os.listdir("/proc/self/fd")
  for _ in range(3):
    assert newest(tmp_path / "[x]") == 1
  assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_directory_that_no_spelling_is_left_for_is_refused(tmp_path, monkeypatch):
  (tmp_path / "[x]").mkdir()
  monkeypatch.setattr(Path, "is_dir", lambda _: False)  # as without /proc
  with pytest.raises(ConfigError, match=r"--workdir=.*\[x\].*without \*"), paths.literal("--workdir", tmp_path / "[x]"):
    pass


@pytest.mark.parametrize("name", ["sets1", "sets[1]", "*", "back\\slash"])
def test_a_prepared_set_is_checked_and_read_in_a_directory_of_any_name(name, tmp_path, monkeypatch):
  (tmp_path / "sets1").mkdir()
  directory = tmp_path / name
  make_photos(directory)
  section = config.default().data
  section.update({"name": "photos", "dir": str(directory), "cache_dir": str(tmp_path / "cache"), "image_size": 8})
  section.test_split = "train"
  assert data.open(section, seed=0).num_train > 1
  (description,) = directory.glob("photos/*/features.json")
  (tmp_path / "foreign_module.py").write_text("raise SystemError('imported')")
  monkeypatch.syspath_prepend(str(tmp_path))
  description.write_text(json.dumps({"pythonClassName": "foreign_module.Feature"}))
  with pytest.raises(ConfigError, match="which would be imported"):
    data.spec(section)
  assert "foreign_module" not in sys.modules


@pytest.mark.parametrize("field", ["dir", "cache_dir"])
def test_what_tfds_cannot_open_is_refused(field, tmp_path):
  section = config.default().data
  section.cache_dir = str(tmp_path)
  section[field] = str(tmp_path / "\udcff")
  (tmp_path / "\udcff").mkdir()
  with pytest.raises(ConfigError, match=rf"data.{field}=.*UTF-8"):
    data.open(section, seed=0)


def test_the_command_that_prepares_a_set_can_be_pasted(tmp_path):
  directory = tmp_path / "my sets'"
  directory.mkdir()
  section = config.default().data
  section.update({"name": "mnist", "dir": str(directory)})
  with pytest.raises(ConfigError) as caught:
    data.open(section, seed=0)
  assert shlex.split(str(caught.value).split("prepare it with: ")[1])[-1] == f"--data_dir={directory}"


KEEP = """
import jax, jax.numpy as jnp
from nin_jax.train import compilation
compilation.MAX_BYTES = 8_000
compilation.keep_compiled()
for size in range(1, 7):
  jax.jit(lambda x: x + 1).lower(jnp.zeros(size)).compile()
"""


def test_compiled_programs_stay_bounded_in_a_cache_of_any_name(tmp_path):
  env = environment(XDG_CACHE_HOME=str(tmp_path / "[c]*\\"))
  env.pop("JAX_COMPILATION_CACHE_DIR", None)
  subprocess.run([sys.executable, "-W", "error", "-c", KEEP], cwd=ROOT, env=env, check=True, timeout=300)
  sizes = [path.stat().st_size for path in (tmp_path / "[c]*\\" / "nin_jax" / "programs").glob("*-cache")]
  assert 0 < sum(sizes) <= 8_000 < 6 * min(sizes)


CLOSED = """
import json, sys
from configs import inception_digits
from nin_jax import data, report, train
from nin_jax.errors import ConfigError
from nin_jax.sweep import plan_file, study
from nin_jax.train import validation, workdir

closed, done = sys.argv[1:]

def changed(**fields):
  changed = inception_digits.get_config()
  for name, value in fields.items():
    section, _, field = name.partition("_")
    changed[section][field] = value
  return changed

for path in (closed, closed + "/x"):
  for name, use in {
    "train": lambda: train.train_and_evaluate(changed(), path),
    "evaluate": lambda: train.evaluate_checkpoint(changed(), path),
    "config": lambda: train.read_config(path),
    "report": lambda: report.write(path),
    "sweep": lambda: plan_file.check(None, path),
    "storage": lambda: study.open_study(path + "/journal", "x", False),
    "trial": lambda: workdir.result(path, changed()),
    "prepare": lambda: data.prepare("digits", path),
    "dir": lambda: validation.validate(changed(data_dir=path), 1),
    "folder": lambda: validation.validate(changed(data_name="folder:" + path), 1),
    "init_from": lambda: validation.validate(changed(train_init_from=path), 1, begins=True),
  }.items():
    try:
      use()
    except ConfigError as error:
      assert "ermission denied" in str(error) and "\\n" not in str(error), (name, str(error))
    else:
      raise AssertionError(f"{name} took {path}")
  assert data.open(changed(data_cache_dir=path).data, seed=0).num_train == 1437  # with a warning
open(done, "w").close()
"""


@pytest.mark.skipif(not CAN_DROP, reason="root can't give up its privileges without setpriv")
def test_what_is_closed_to_this_user_is_refused_in_one_line(tmp_path):
  closed = tmp_path / "closed"
  closed.mkdir(mode=0)
  done = subprocess.run(
    [*ORDINARY, sys.executable, "-c", CLOSED, closed, tmp_path / "done"],
    cwd=ROOT,
    env=environment(),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  closed.chmod(0o700)
  assert (tmp_path / "done").exists(), done.stderr


@pytest.fixture
def small(tmp_path):
  """A config file of a small network."""
  file = tmp_path / "small.py"
  file.write_text(TINY)
  return file


@pytest.mark.skipif(not (IS_ROOT and CAN_DROP), reason="takes another uid")
def test_a_user_without_a_name_and_a_home_trains(small, tmp_path):
  place = tmp_path / "for_all"
  place.mkdir()
  place.chmod(0o777)
  flags = (f"--config={small}", f"--workdir={place}/run", "--config.train.steps=2")
  done = subprocess.run(
    [*NAMELESS, f"TMPDIR={place}", *command("train", *flags)],
    cwd=ROOT,
    env=environment(),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "This user has no home" in done.stderr
  assert [path.name for path in place.iterdir()] == ["run"]


def test_the_command_that_resumes_a_run_can_be_pasted_whatever_its_paths(small, tmp_path):
  """Stopped by SIGTERM, resumed by what was printed, evaluated in a locale of ASCII."""
  directory, cached = os.fsencode(tmp_path / ODD), os.fsencode(tmp_path / ODD.replace("\udcff", ""))
  flags = [f"--config={small}", b"--workdir=" + directory, b"--config.data.cache_dir=" + cached]
  with subprocess.Popen(
    command("train", *flags), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
  ) as process:
    for row in process.stderr:
      if b"images/s" in row:
        process.send_signal(signal.SIGTERM)
        break
    said = process.stderr.read()
  assert process.returncode == 128 + signal.SIGTERM, said
  again = said.partition(b"Go on with:\n")[2]
  resumed = subprocess.run(["bash", "-c", again], cwd=ROOT, env=environment(), capture_output=True, timeout=300)
  assert resumed.returncode == 0, resumed.stderr
  assert b"damaged" not in resumed.stderr
  ascii_only = environment(LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
  evaluate = command("evaluate", b"--workdir=" + directory, f"--config.data.cache_dir={tmp_path}/cache")
  evaluated = subprocess.run(evaluate, cwd=ROOT, env=ascii_only, capture_output=True, timeout=300)
  assert evaluated.returncode == 0, evaluated.stderr
  result = json.loads((tmp_path / ODD / "result.json").read_text())
  assert json.loads(evaluated.stdout)["loss"] == pytest.approx(result["test_loss"], rel=1e-6)
  assert {path.name for path in tmp_path.iterdir()} == {ODD, ODD.replace("\udcff", ""), "cache", small.name}
