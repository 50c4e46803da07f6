"""Damaged caches, and disks that fail: the same numbers, a line at most, and quiet the second time."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import damages
import jax
import pytest
import test_commands
from caches import CACHES, Counts, Programs, assert_mended, bounded, filled

from nin_jax.data import cache
from nin_jax.train import compilation, kept_programs
from nin_jax.train.kept_count import NAME


@pytest.fixture(autouse=True)
def _no_hang():
  """A pipe that is waited for fails the test."""
  before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a minute has passed"))
  signal.alarm(60)
  yield
  signal.alarm(0)
  signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _warn_again(monkeypatch):
  monkeypatch.setattr(cache, "_warned", set())


@pytest.fixture(params=CACHES)
def kind(request):
  return CACHES[request.param]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
  """Of each kind, a directory that has been used once."""
  places = {kind: tmp_path_factory.mktemp(name) for name, kind in CACHES.items()}
  with bounded():
    for kind, place in places.items():
      kind.use(place)
    yield places


SLOW = (CACHES["digits"], CACHES["programs"])  # which take a second to make, so that a fifth of the damages will do
DAMAGES = [
  (name, i) for name, kind in CACHES.items() for i in range(0, len(damages.TO_FILES), 5 if kind in SLOW else 1)
]


@pytest.mark.parametrize(("name", "number"), DAMAGES)
def test_a_damaged_file(name, number, pristine, tmp_path, caplog, recwarn):
  kind, damage = CACHES[name], list(damages.TO_FILES.values())[number]
  root = filled(kind, pristine, tmp_path / "cache")
  count = len(kind.files(root))
  for i in [number // 5 % count] if kind in SLOW else range(count):
    damage(kind.files(root)[i])
    assert_mended(kind, root, caplog, recwarn)


ENTRIES = {
  "missing": shutil.rmtree,
  "an empty directory": lambda entry: (shutil.rmtree(entry), entry.mkdir()),
  "a file": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
  "a pipe": lambda entry: (shutil.rmtree(entry), os.mkfifo(entry)),
  "a loop of links": lambda entry: (shutil.rmtree(entry), entry.symlink_to(entry)),
  "a link to an empty directory": lambda entry: (
    entry.rename(entry.with_name("moved")),
    entry.symlink_to("moved"),
    shutil.rmtree(entry.with_name("moved")),
    entry.with_name("moved").mkdir(),
  ),
  "another file": lambda entry: (entry / "other").write_text(""),
  "another directory": lambda entry: damages.directory(entry / "other"),
  "another link to nothing": lambda entry: (entry / "other").symlink_to("nothing"),
  "the directory above a file": lambda entry: (shutil.rmtree(entry.parent), entry.parent.write_text("")),
}


OF_DIGITS = (
  "an empty directory",
  "a link to an empty directory",
  "another link to nothing",
  "the directory above a file",
)


@pytest.mark.parametrize(
  ("name", "damage"),
  [
    *(("arrays", damage) for damage in ENTRIES if damage != OF_DIGITS[-1]),
    *(("digits", damage) for damage in OF_DIGITS),
  ],
)
def test_a_damaged_entry(name, damage, pristine, tmp_path, caplog, recwarn):
  kind = CACHES[name]
  root = filled(kind, pristine, tmp_path / "cache")
  ENTRIES[damage](kind.files(root)[0].parent)
  assert_mended(kind, root, caplog, recwarn)


@pytest.mark.parametrize("name", ["arrays", "programs"])
def test_swapped_entries(name, pristine, tmp_path, caplog, recwarn):
  kind = CACHES[name]
  root = filled(kind, pristine, tmp_path / "cache")
  for end in ("-cache", "-crc32") if name == "programs" else ("",):
    one, other = sorted(path for path in root.glob(f"*{end}") if "convert" not in path.name)[:2]
    one.rename(root / "between"), other.rename(one), (root / "between").rename(other)
  assert_mended(kind, root, caplog, recwarn)


def test_one_digit_of_a_count(tmp_path):
  Counts().use(tmp_path)
  text = (tmp_path / NAME).read_text()
  (tmp_path / NAME).write_text(text.replace("1234", "1235"))
  assert "1235" in (tmp_path / NAME).read_text()
  assert Counts().use(tmp_path) == 1


def test_two_counts_that_change_places(tmp_path):
  Counts().use(tmp_path)
  first, second = json.loads((tmp_path / NAME).read_text()).items()
  (tmp_path / NAME).write_text(json.dumps({first[0]: second[1], second[0]: first[1]}))
  assert Counts().use(tmp_path) == 2


@pytest.mark.parametrize("thing", ["-cache", "-crc32", ".lockfile"])
def test_strange_things_among_the_programs(thing, pristine, tmp_path, caplog, recwarn):
  kind = CACHES["programs"]
  root = filled(kind, pristine, tmp_path / "cache")
  for make in (os.mkfifo, damages.directory, lambda path: path.symlink_to(path)):
    cache.remove(root / thing)  # a directory stays, if nobody bounds the programs and so takes a lock
    make(root / thing)
    assert_mended(kind, root, caplog, recwarn)


def test_programs_that_nobody_has_sealed_are_used_for_a_minute(pristine, tmp_path):
  root = shutil.copytree(pristine[CACHES["programs"]], tmp_path / "cache")
  count = len(list(root.glob("*-cache")))
  for path in root.glob("*-crc32"):
    path.unlink()
  kept_programs.prepare(root, compilation.MAX_BYTES)
  assert len(list(root.glob("*-cache"))) == count
  for path in root.glob("*-cache"):
    os.utime(path, (0, 0))
  kept_programs.prepare(root, compilation.MAX_BYTES)
  assert not list(root.glob("*-*"))


@pytest.mark.parametrize("function", ["np.save", "sync", "os.mkdir"])
@pytest.mark.parametrize("name", ["arrays", "digits"])
def test_a_full_disk(name, function, tmp_path, monkeypatch, caplog):
  full = OSError(errno.ENOSPC, "No space left on device")
  where, _, what = function.rpartition(".")
  monkeypatch.setattr(getattr(cache, where) if where else cache, what, lambda path, *args, **kwargs: fail(path))
  place, elsewhere = tmp_path / "cache", cache.process_directory()

  def fail(path):
    if elsewhere not in Path(path).parents:
      raise full

  CACHES[name].use(place)
  assert len(caplog.records) == (function != "np.save" or name == "arrays")
  assert not list(place.rglob(cache.WRITING + "*"))


UNUSABLE = {
  "a file": lambda path: path.write_text(""),
  "a pipe": os.mkfifo,
  "a loop of links": lambda path: path.symlink_to(path),
  "a link to nothing": lambda path: path.symlink_to("/dev/null/nothing"),
}


@pytest.mark.parametrize("below", ["cache", "cache/below"])
@pytest.mark.parametrize("place", UNUSABLE)
def test_something_else_where_the_cache_should_be(kind, place, below, tmp_path, caplog):
  UNUSABLE[place](tmp_path / "cache")
  root = tmp_path / below
  if isinstance(kind, Programs):
    with pytest.raises(OSError, match="Errno"):
      kept_programs.prepare(root, compilation.MAX_BYTES)
  else:
    kind.use(root)
    kind.use(root)
    assert len(caplog.records) == (not isinstance(kind, Counts))
  assert os.listdir(tmp_path) == ["cache"]


def test_without_a_place_programs_are_not_kept(tmp_path, monkeypatch, caplog):
  (tmp_path / "nin_jax").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", None)
  compilation.keep_compiled()
  assert jax.config.jax_compilation_cache_dir is None
  jax.config.update("jax_compilation_cache_dir", before)
  assert len(caplog.records) == 1
  assert "cannot be written" in caplog.text


def test_a_program_that_jax_cannot_read_is_written_anew(pristine, tmp_path, monkeypatch, caplog, recwarn):
  kind = CACHES["programs"]
  root = filled(kind, pristine, tmp_path / "cache")
  monkeypatch.setattr("warnings.showwarning", lambda *args, **kwargs: pytest.fail(str(args)))
  kept_programs.replace_unreadable(root)
  for path in (*root.glob("*-crc32"), *root.glob("*-cache")):  # as if nobody had sealed them
    path.write_bytes(path.read_bytes()[:-5]) if path.name.endswith("-cache") else path.unlink()
  kind.use(root)
  assert len(caplog.records) == 1
  assert "damaged" in caplog.text
  monkeypatch.undo()
  assert_mended(kind, root, caplog, recwarn)


@pytest.mark.slow
def test_trainings_with_damaged_caches(tmp_path):
  """Every file of every cache has a wrong bit."""
  signal.alarm(0)
  (tmp_path / "tiny.py").write_text(test_commands.TINY)
  flags = [f"--config={tmp_path / 'tiny.py'}", "--config.train.steps=2", "--config.eval.every_steps=2"]

  def trained(name):
    where = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "temporary")}
    done = test_commands.run("train", *flags, f"--workdir={tmp_path / name}", **where)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("step ")]
    result = json.loads((tmp_path / name / "result.json").read_text())
    return said, [result[key] for key in ("test_loss", "test_accuracy", "train_loss", "train_flops", "params", "macs")]

  (tmp_path / "temporary").mkdir()
  said, right = trained("first")
  assert said == []
  for path in (tmp_path / "cache").rglob("*"):
    if path.is_file() and path.stat().st_size:
      damages.flip(0.5)(path)
  said, numbers = trained("damaged")
  assert numbers == right
  assert len(said) == 4, said  # the digits, their two splits, and their statistics
  assert all("is damaged" in line for line in said)
  assert trained("mended") == ([], right)
  assert os.listdir(tmp_path / "temporary") == []
