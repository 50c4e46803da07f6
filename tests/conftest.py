"""Eight CPU devices, as a TPU host has, and a cache of the tests' own."""

import os
from pathlib import Path

import jax
import pytest

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


@pytest.fixture(scope="module")
def two_devices():
  """Two of the eight devices, and quick compilation: for tests that are about the loop."""
  with pytest.MonkeyPatch.context() as patch:
    devices = jax.devices()
    patch.setattr(jax, "devices", lambda *_: devices[:2])
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
