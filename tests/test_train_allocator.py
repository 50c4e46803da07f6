"""The allocator: what large arrays cost a process that trains, in page faults."""

import platform
import subprocess
import sys

import pytest
from conftest import ROOT
from test_commands import TINY, environment

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left alone")

# Takes and gives back 96 MiB three times, in a new thread as XLA does, and prints the page faults of the third time.
PROBE = """
import ctypes, resource, threading

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def take():
  libc = ctypes.CDLL(None)
  libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
  libc.free.argtypes = [ctypes.c_void_p]
  for _ in range(3):
    before = faults()
    array = libc.malloc(96 * 2**20)
    ctypes.memset(array, 1, 96 * 2**20)
    libc.free(array)
  print("faults", faults() - before, flush=True)

def probe():
  thread = threading.Thread(target=take)
  thread.start()
  thread.join()
"""
FEW = 100  # of 24,576 pages
CHOICES = ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_")


def faults(code, *argv, **more):
  env = {name: value for name, value in environment().items() if name not in CHOICES} | more
  done = subprocess.run(
    [sys.executable, "-c", PROBE + code, *argv], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  return int(done.stdout.split("faults ")[1].split()[0])


def test_large_arrays_are_kept_in_a_process_that_imports_train():
  assert faults("probe()") > 20_000  # or there would be nothing to mend
  assert faults("from nin_jax import train; probe()") < FEW


@pytest.mark.parametrize(
  "choice", [{"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4096"}, {"MALLOC_MMAP_THRESHOLD_": "4096"}]
)
def test_what_the_user_has_set_for_malloc_is_left_alone(choice):
  assert faults("from nin_jax import train; probe()", **choice) > 20_000


def test_tunables_of_other_things_than_malloc_are_no_choice():
  assert faults("from nin_jax import train; probe()", GLIBC_TUNABLES="glibc.rtld.nns=4") < FEW


def test_memory_that_is_not_used_is_not_taken():
  peak = "import resource; print('faults', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # KiB
  without = faults(f"from nin_jax import train; {peak}", MALLOC_ARENA_MAX="8")
  assert faults(f"from nin_jax import train; {peak}") < without + 20_000


RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
  runpy.run_module(sys.argv[0], run_name="__main__")
finally:
  probe()
"""


def test_commands_have_it_without_being_asked(tmp_path):
  (tmp_path / "tiny.py").write_text(TINY)
  workdir = f"--workdir={tmp_path / 'run'}"
  flags = [f"--config={tmp_path / 'tiny.py'}", "--config.train.steps=2", workdir]
  assert faults(RUN, "experiments.train", *flags) < FEW
  assert faults(RUN, "experiments.evaluate", workdir) < FEW
