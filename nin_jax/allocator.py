"""How this process takes memory for large arrays: it keeps what it has, instead of taking it anew at each step.

glibc's defaults give the large temporaries of a step back to the system at its end, and take them again at the next
one, page by page, zeroed by the kernel: 25,786 page faults in a step of `inception_digits` (batch 128), 168,631 in one
of `nin_cifar10` (batch 64, convolutions as patches). With `SETTINGS` there are none, and the steps of the two are 1.38
and 1.29 times faster on two cores.

* M_ARENA_MAX = 1 matters most. XLA computes in threads, each of which would get an arena of its own; an arena that is
  not the first one holds at most 64 MiB, maps what doesn't fit, and unmaps it when it is freed, whatever is set.
* M_MMAP_MAX = 0: large arrays come from the heap, and go back to it.
* M_TRIM_THRESHOLD = -1: what is free at the end of the heap stays there. Memory that was never used is not taken.

Huge pages (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`) on top of these gained nothing; with an arena for each thread they
made the steps slower than the defaults (0.83 and 0.85 times as fast), since more is zeroed at each fault. So it takes
no environment variables, which only a new start of the process could set.
"""

import ctypes
import functools
import os
import sys

SETTINGS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}  # malloc.h's number, value


@functools.cache
def set_up() -> bool:
  """Sets `SETTINGS` for this process, once; returns whether it has them.

  It does for threads that have not allocated yet, so it is to be called before JAX computes: `nin_jax.train` does when
  it is imported. Left alone are other C libraries than glibc, and what the user has set for malloc (`GLIBC_TUNABLES`
  with glibc.malloc, `MALLOC_ARENA_MAX` and its like).
  """
  if not sys.platform.startswith("linux") or _chosen_by_user():
    return False
  libc = ctypes.CDLL(None)
  if not hasattr(libc, "gnu_get_libc_version") or not hasattr(libc, "mallopt"):
    return False
  return all([libc.mallopt(number, value) for number, value in SETTINGS.values()])


def _chosen_by_user() -> bool:
  return "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") or any(
    name.startswith("MALLOC_") and name != "MALLOC_CHECK_" for name in os.environ
  )
