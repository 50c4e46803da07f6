"""The project's caches between starts, each with a start that uses it."""

import contextlib
import os
import shutil
from pathlib import Path

import jax
import numpy as np
from conftest import programs_kept

from nin_jax.data import cache, decode, digits, source
from nin_jax.train import compilation, kept_programs
from nin_jax.train.kept_count import NAME, kept

ARRAYS = {
  key: {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4) + i, "mean": np.array([0.5, i], np.float32)}
  for i, key in enumerate(("train", "test"))
}

TEST_SUM = 1_790_819  # of the pixels of the digits to test on


class Arrays:
  """The data cache's entries, of two keys."""

  def use(self, root):
    """Returns what a start reads, and how much of it is made."""
    made = []
    for key, arrays in ARRAYS.items():
      read = cache.load_or_make(root, "set", {"split": key}, lambda key=key: made.append(key) or ARRAYS[key])
      assert read.keys() == arrays.keys()
      for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    return len(made)

  def files(self, root):
    return sorted(min(root.iterdir()).iterdir())


class Digits:
  """The prepared digits."""

  def use(self, root):
    before = [path.stat().st_ino for path in root.glob("tfds/digits/1.0.0")]
    records = source.Records(str(digits.prepare(root).data_path), "test", ("image", "label"), "digits")
    read = decode.decode_all(records, (8, 8, 1), "crop", skip=False)
    assert read["labels"][:10].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3]
    assert read["images"].sum(dtype=int) == TEST_SUM
    return before != [path.stat().st_ino for path in root.glob("tfds/digits/1.0.0")]

  def files(self, root):
    return sorted((root / "tfds" / "digits" / "1.0.0").iterdir())


class Counts:
  """The counts of FLOPs."""

  def use(self, root):
    made = []
    with programs_kept(root):
      for number in (1234, 56789):
        assert kept({"number": number}, lambda number=number: made.append(number) or number) == number
    return len(made)

  def files(self, root):
    return [root / NAME]


class Programs:
  """Compiled programs; JAX's own warnings are errors here."""

  def use(self, root):
    jax.clear_caches()
    kept_programs.prepare(root, compilation.MAX_BYTES)
    before = {path: path.read_bytes() for path in root.glob("*-cache")}
    with programs_kept(root):
      for number in (2.0, 3.0):
        np.testing.assert_array_equal(jax.jit(lambda x, number=number: x * number)(np.float32(5)), 5 * number)
    kept_programs.seal(root)
    return len({path: path.read_bytes() for path in root.glob("*-cache")}.keys() - before.keys())

  def files(self, root):
    program = min(root.glob("*-cache"))
    beside = [program.with_name(program.name.replace("-cache", end)) for end in ("-atime", "-crc32")]
    return [program, *(path for path in beside if os.path.lexists(path))]


CACHES = {"arrays": Arrays(), "digits": Digits(), "counts": Counts(), "programs": Programs()}


@contextlib.contextmanager
def bounded():
  """Within it, JAX bounds the size of a directory of programs, as in training, and notes when each is used.

  Not for a user without a name, as in training.
  """
  before = jax.config.jax_compilation_cache_max_size
  if kept_programs.is_bounded(Path.cwd()):
    jax.config.update("jax_compilation_cache_max_size", compilation.MAX_BYTES)
  yield
  jax.config.update("jax_compilation_cache_max_size", before)


def filled(kind, pristine, root):
  """The directory after a first start. JAX's keys hold its path, so that a copy would not be used."""
  if isinstance(kind, Programs):
    kind.use(root)
  else:
    shutil.copytree(pristine[kind], root)
  return root


def assert_mended(kind, root, caplog, recwarn):
  """The next start has the right numbers and says a line an entry at most; the one after is quiet and makes nothing."""
  caplog.clear()
  kind.use(root)
  assert len(caplog.records) <= 2, caplog.text
  caplog.clear()
  assert not kind.use(root)
  assert not caplog.records
  assert not [warning for warning in recwarn if "cache" in str(warning.message)]
  assert not list(root.rglob(cache.WRITING + "*"))
