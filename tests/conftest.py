"""Eight CPU devices, as a TPU host has, and a cache of the tests' own."""

import contextlib
import os
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

ROOT = Path(__file__).parent.parent

os.environ["XDG_CACHE_HOME"] = str(ROOT / ".pytest_cache" / "data")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def tfds_dir() -> str:
  """The directory of the real data sets that some tests measure with; they are no part of the project."""
  directory = ROOT.parent / "shared" / "tfds"
  if not directory.is_dir():
    pytest.skip("CIFAR-10 and Fashion-MNIST, prepared by TFDS, are not in ../shared/tfds")
  return str(directory)


@pytest.fixture(scope="module", autouse=True)
def _free_programs():
  """Lets go of what a module has compiled: a worker of the whole run would come to hold several GiB of it."""
  yield
  jax.clear_caches()


@contextlib.contextmanager
def programs_kept(directory):
  """Within it, what is compiled is kept in a directory, and found there."""
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  before = [getattr(jax.config, name) for name in names]
  for name, value in zip(names, (str(directory), 0.0), strict=True):
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    for name, value in zip(names, before, strict=True):
      jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def quick_compilation(tmp_path_factory):
  """Programs that are compiled quickly, and once a process: for tests that train the same small networks."""
  jax.config.update("jax_disable_most_optimizations", True)
  with programs_kept(tmp_path_factory.getbasetemp() / "programs"):
    yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def two_devices(quick_compilation):
  """Two of the eight devices: for tests that are about the loop."""
  with pytest.MonkeyPatch.context() as patch:
    devices = jax.devices()
    patch.setattr(jax, "devices", lambda *_: devices[:2])
    yield
