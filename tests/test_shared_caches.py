"""Caches that several users share, and those that their own user may not read: the same numbers, and nothing left."""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from caches import CACHES, Counts, Digits, assert_mended, bounded

from nin_jax.data import cache, digits, source
from nin_jax.train import compilation, kept_programs

ONE, OTHER = 65_534, 64_002  # nobody, and a user without a name
two_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")


@contextlib.contextmanager
def user(number, umask=0o022):
  """Within it, this process is another user's, if it is root's; else only its umask changes."""
  groups, before = os.getgroups(), os.umask(umask)
  root = os.geteuid() == 0
  try:
    if root:
      os.setgroups([ONE])
      os.setresgid(number, number, 0)
      os.setresuid(number, number, 0)
    yield
  finally:
    if root:
      os.setresuid(0, 0, 0)
      os.setresgid(0, 0, 0)
      os.setgroups(groups)
    os.umask(before)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
  """As at a start of its own: warnings are given again, and the temporary directory is the user's."""
  monkeypatch.setattr(cache, "_warned", set())
  cache.process_directory.cache_clear()
  yield
  cache.process_directory.cache_clear()


@pytest.fixture
def place():
  """A directory in which all users may make their own, as /tmp."""
  path = Path(tempfile.mkdtemp())
  path.chmod(0o777)
  yield path
  shutil.rmtree(path)


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory):
  """Everything, which other users need not be able to do."""
  with bounded():
    for name, kind in CACHES.items():
      kind.use(tmp_path_factory.mktemp(name))
    yield


@pytest.fixture
def kind(request):
  return CACHES[request.param]


def of_both(name, values, digits=True):
  """Parametrizes `kind` and another argument: the first of its values for digits, which take a second to prepare."""
  pairs = [*(("arrays", value) for value in values), *[("digits", values[0])][:digits]]
  return pytest.mark.parametrize(("kind", name), pairs, indirect=["kind"])


def content(root):
  return sorted((str(path), path.lstat().st_mtime_ns) for path in root.rglob("*"))


def start(kind, root, caplog, number, umask=0o022):
  """The files that one user's start makes, and the lines that it logs."""
  caplog.clear()
  cache._warned.clear()
  cache.process_directory.cache_clear()
  with user(number, umask):
    made = kind.use(root)
  return made, [record.getMessage() for record in caplog.records]


@two_users
@of_both("umask", [0o077, 0o022, 0o002])
def test_one_makes_what_the_other_reads(kind, umask, place, caplog):
  root = place / "cache"
  start(kind, root, caplog, ONE, umask)
  assert {stat.S_IMODE(path.stat().st_mode) | umask for path in root.rglob("*") if path.is_dir()} == {0o777}
  before = content(root)
  made, said = start(kind, root, caplog, OTHER)
  if umask == 0o077:
    assert len(said) == 1
    assert "cannot be read" in said[0]
    assert "damaged" not in said[0]
  else:
    assert (made, said) == (0, [])
  assert content(root) == before
  assert start(kind, root, caplog, ONE, umask) == (0, [])


@two_users
@of_both("mode", [0o777, 0o1777, 0o2775], digits=False)
def test_what_another_user_left_unreadable_stays(kind, mode, place, caplog):
  """In a directory that both may write to, only the entries being closed."""
  root = place / "cache"
  for path in (root, root / "tfds", root / "tfds" / "digits"):
    path.mkdir()
    os.chown(path, 0, ONE)
    path.chmod(mode)
  start(kind, root, caplog, ONE, 0o077)
  before = content(root)
  for _ in range(2):
    _, said = start(kind, root, caplog, OTHER)
    assert len(said) == 1
    assert "cannot be read" in said[0]
    assert "damaged" not in said[0]
    assert content(root) == before
  assert start(kind, root, caplog, ONE) == (0, [])


@two_users
@of_both("mode", [0o777, 0o1777])
def test_what_another_user_has_damaged_is_theirs_to_replace(kind, mode, place, caplog):
  root = place / "cache"
  for path in (root, root / "tfds", root / "tfds" / "digits"):
    path.mkdir()
    path.chmod(mode)
  start(kind, root, caplog, ONE)
  kind.files(root)[0].write_text("{")
  before = content(root)
  _, said = start(kind, root, caplog, OTHER)
  assert len(said) == 1
  assert "can't be removed" in said[0]
  assert content(root) == before
  _, said = start(kind, root, caplog, ONE)
  assert len(said) == 1
  assert start(kind, root, caplog, OTHER) == start(kind, root, caplog, ONE) == (0, [])


@of_both("mode", [0o555, 0o311, 0o000], digits=False)
def test_a_directory_that_cannot_be_written_listed_or_entered(kind, mode, place, caplog):
  empty, full = place / "empty", place / "full"
  start(kind, full, caplog, ONE)
  with user(ONE):
    empty.mkdir()
    empty.chmod(mode), full.chmod(mode)
  for root in (empty, full):
    for _ in range(2):
      _, said = start(kind, root, caplog, ONE)
      assert len(said) <= 1
  with user(ONE):
    empty.chmod(0o755), full.chmod(0o755)
  assert not list(place.rglob(cache.WRITING + "*"))
  assert start(kind, full, caplog, ONE) == (0, [])


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_files_of_ones_own_that_cannot_be_read(name, mode, place, caplog, recwarn):
  kind = CACHES[name]
  start(kind, place / "cache", caplog, ONE)
  kind.files(place / "cache")[0].chmod(mode)
  with user(ONE):
    assert_mended(kind, place / "cache", caplog, recwarn)


@of_both("mode", [0o000, 0o200, 0o600])
def test_entries_of_ones_own_that_cannot_be_read(kind, mode, place, caplog, recwarn):
  start(kind, place / "cache", caplog, ONE)
  kind.files(place / "cache")[0].parent.chmod(mode)
  with user(ONE):
    assert_mended(kind, place / "cache", caplog, recwarn)


@two_users
@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_counts_of_two_users(umask, place, caplog):
  root = place / "programs"
  root.mkdir()
  root.chmod(0o777)
  for _ in range(2):
    for number in (ONE, OTHER):
      assert start(Counts(), root, caplog, number, umask)[1] == []


@two_users
def test_programs_are_loaded_from_ones_own_directory_only(place, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(place))
  (place / "nin_jax").mkdir()
  (place / "nin_jax").chmod(0o777)
  directories = {}
  for number in (ONE, OTHER):
    for _ in range(2):
      with user(number):
        directories[number] = kept_programs.directory()
        kept_programs.prepare(directories[number], compilation.MAX_BYTES)
  assert [path.name for path in directories.values()] == ["programs", f"programs-{OTHER}"]
  (place / "nin_jax" / "programs-3").mkdir()  # made by somebody else for this user
  with user(3):
    assert kept_programs.directory() is None


@two_users
@pytest.mark.parametrize("kind", ["arrays", "digits"], indirect=True)
def test_users_and_groups_without_names(kind, place, caplog):
  root = place / "cache"
  start(kind, root, caplog, ONE)
  for path in (root, *root.rglob("*")):
    os.chown(path, 4_242, 4_243)
  caplog.clear()
  assert kind.use(root) == 0
  assert caplog.text == ""
  if isinstance(kind, Digits):
    files = dict(source.fingerprint(digits.prepare(root))["files"])
    assert files.keys() >= {"dataset_info.json", "features.json"}


@two_users
def test_programs_of_users_without_names_are_bounded_too(place, monkeypatch):
  """JAX asks for the names of owners before it removes what was used longest ago."""
  root = place / "programs"
  with user(4_242):
    kept_programs.prepare(root, 100)
    assert not kept_programs.is_bounded(root)
    (root / "jit_f-1-cache").write_bytes(b"program")
    os.mkfifo(root / "jit_g-1-cache")  # which would be waited for
    kept_programs.seal(root)
    os.mkfifo(root / "jit_g-1-cache")
    kept_programs.prepare(root, 100)
    assert len(os.listdir(root)) == 2
    kept_programs.prepare(root, 1)
    assert os.listdir(root) == []
