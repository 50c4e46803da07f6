"""Under memory checks, trainings end with the right losses on each instruction set: a short form of `soak.py`."""

import itertools
import os
import sys

import pytest
import soak

needs_checks = pytest.mark.skipif(
  not soak.checks_are_there(), reason=f"glibc's heap checks ({soak.CHECKER}) are missing"
)


@pytest.mark.slow
@needs_checks
def test_trainings_under_memory_checks_have_the_plain_losses():
  sets = dict.fromkeys(case.instructions for case in soak.cases())
  precisions = itertools.cycle(("float32", "bfloat16"))
  chosen = [soak.Case(name, 8, 2, precision, "auto") for name, precision in zip(sets, precisions, strict=False)]
  assert {str(case): fault for case, fault in soak.soak(chosen, seconds=300) if fault} == {}


OVERWRITES = """
import ctypes
allocate, free = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree  # the C library's
allocate.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
memory = allocate(24)
ctypes.memset(memory, 1, 25)
free(memory)
"""


@needs_checks
@pytest.mark.parametrize(
  ("program", "ended"),
  [
    (OVERWRITES, "signal SIGABRT"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
    ("import time; time.sleep(600)", "not after 9 s"),
    ("raise SystemExit(1)", "status 1"),
    ("", "status 0"),
  ],
  ids=["overwritten memory", "crash", "hang", "fault", "sound"],
)
def test_what_a_soak_has_to_see(program, ended):
  environment = {**os.environ, **soak.CHECKS}
  assert soak.run([sys.executable, "-S", "-c", program], environment, seconds=9).startswith(ended)
